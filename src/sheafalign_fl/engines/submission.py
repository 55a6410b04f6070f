"""Submitting a run to a SuperLink, and waiting for its end."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sheafalign_fl.config import Settings, encode
from sheafalign_fl.engines.app_folder import make_app_folder
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.flower.control import Control, SuperLinkGoneError
from sheafalign_fl.runs.folder import RunFolder

_POLL_SECONDS = 0.2
_ASK_SECONDS = 1.0
"""Pause between two questions to Flower; an end in the run folder is seen at once."""
_TOLERATED = 3
"""So many questions in a row may go unanswered before the SuperLink is given up."""


def submit(
    settings: Settings,
    folder: RunFolder,
    control: Control,
    *,
    resume: bool,
    run_dir: str | None = None,
    simulation: Mapping[str, float] | None = None,
) -> str:
    """Submit a run and return Flower's id of it; raise `RunError` if Flower does not take it.

    Parameters
    ----------
    settings
        What to run.
    folder
        Where the relay is to keep it.
    control
        The SuperLink.
    resume
        Go on from the folder's last checkpoint.
    run_dir
        What the relay is told of the run folder; default: where it is on this machine.
    simulation
        Flower's settings of a simulation.
    """
    config: dict[str, bool | float | int | str] = {
        "config": encode(settings),
        "run-dir": run_dir or str(folder.path.resolve()),
        "resume": resume,
    }
    with tempfile.TemporaryDirectory(prefix="sheafalign-") as name:
        return control.start(make_app_folder(Path(name) / "app"), config, simulation)


def wait(run_id: str, folder: RunFolder, control: Control, log: str = "flower.log") -> None:
    """Wait until the run has ended; raise if it did not end well, by its own account and by Flower's."""
    state = control.run(run_id)
    asked, unanswered = time.monotonic(), 0
    while not state.ended:
        time.sleep(_POLL_SECONDS)
        over = folder.status()["state"] not in ("new", "running")
        if not over and time.monotonic() - asked < _ASK_SECONDS:
            continue
        asked = time.monotonic()
        try:
            state, unanswered = control.run(run_id), 0
        except SuperLinkGoneError as error:
            unanswered += 1
            if unanswered >= _TOLERATED:
                raise RunError(f"the SuperLink is gone: {error}") from None
            time.sleep(_ASK_SECONDS)
    status = folder.status()
    if status["state"] == "failed":
        failure = SheafAlignError(status["reason"])
        failure.exit_code = int(status.get("exit_code", 1))
        raise failure
    # The relay may be another machine, and so have the run folder that it wrote.
    elsewhere = status["state"] == "new"
    if state.status != "finished:completed" or not (elsewhere or status["state"] == "completed"):
        raise RunError(
            f"Flower says that the run is {state.status} ({state.details or 'no reason given'}); "
            f"see {log}"
        )
