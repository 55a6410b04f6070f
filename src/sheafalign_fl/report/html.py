"""Writing `report.html`: one file that needs nothing but itself."""

import logging
from collections.abc import Sequence
from pathlib import Path

from sheafalign_fl.errors import DataError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.reading import Run, read_run

_log = logging.getLogger("sheafalign.report")


def draw_report(folder: RunFolder) -> None:
    """Write a run's own report, as far as it can be drawn: what was learnt is worth more.

    What goes wrong is a warning; `sheafalign report RUN_DIR` draws it again.
    """
    try:
        write_report([folder.path], folder.report)
    except Exception as error:  # whatever a drawing library raises, the run has its result
        _log.warning(
            "the report of %s could not be drawn (%s: %s); the run itself is complete",
            folder.path, type(error).__name__, error,
        )  # fmt: skip


def write_report(run_dirs: Sequence[Path], destination: Path) -> None:
    """Write the report of one run, or one that compares several, to `destination`, atomically.

    Parameters
    ----------
    run_dirs
        Run folders (`runs.folder` says what is in them). A run that was interrupted has no
        summary.json; the report says so and shows what there is.
    destination
        The HTML file to write.

    Raises
    ------
    DataError
        A folder is no run folder, is named twice, or a file in it is damaged; or `destination`
        cannot be written.
    """
    if not run_dirs:
        raise DataError("a report needs at least one run folder")
    if len({path.resolve() for path in run_dirs}) < len(run_dirs):
        raise DataError("a run folder is named twice, so the same run would count as two")
    runs = [read_run(path) for path in run_dirs]
    content = _single(runs[0]) if len(runs) == 1 else _several(runs)
    try:
        write_atomically(destination, content.encode())
    except OSError as error:
        raise DataError(f"{destination} cannot be written: {error.strerror}") from None


def _single(run: Run) -> str:
    # Drawing pulls in matplotlib, which a process that only trains should not have to load.
    from sheafalign_fl.report import sections
    from sheafalign_fl.report.page import page
    from sheafalign_fl.report.style import figure_style

    with figure_style():
        return page(
            f"{run.name}: SheafAlign-FL report", sections.header(run), sections.sections(run)
        )


def _several(runs: Sequence[Run]) -> str:
    from sheafalign_fl.report import comparison
    from sheafalign_fl.report.page import page
    from sheafalign_fl.report.style import figure_style

    groups = comparison.group_runs(runs)
    with figure_style():
        return page(
            "SheafAlign-FL comparison", comparison.header(groups), comparison.sections(groups)
        )
