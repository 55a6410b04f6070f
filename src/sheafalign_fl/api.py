"""What a notebook or a script calls; `import sheafalign_fl as sf` offers it by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.config.load import make_paths_absolute, read_content
from sheafalign_fl.config.methods import merge
from sheafalign_fl.config.reading import plain
from sheafalign_fl.engines import check as checking
from sheafalign_fl.engines import launch
from sheafalign_fl.runs.callbacks import Callback, follow
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.reading import Run, read_run

Configuration = Settings | Mapping[str, Any] | str | Path
"""Settings, a mapping such as YAML gives, or the path of a YAML file."""


def settings(config: Configuration, **changes: Any) -> Settings:
    """Return validated settings.

    Parameters
    ----------
    config
        Settings, a mapping, or the path of a YAML file. A mapping that names no engine runs in
        this process, which needs no start-up and lets it name classes of the notebook itself.
    changes
        Sections or values laid over it: ``training={"exchanges": 50}``, ``seed=1``.

    Raises
    ------
    ConfigError
        A setting is unknown, of the wrong type, or out of range.
    """
    if isinstance(config, Settings):
        content: dict[str, Any] = config.model_dump(mode="json")
    elif isinstance(config, Mapping):
        content = {"engine": "inprocess", **config}
    else:
        content = read_content(Path(config))
    named = {key: str(v) if isinstance(v, Path) else v for key, v in changes.items()}
    content = plain(merge(content, named))
    make_paths_absolute(content, Path.cwd())
    return parse_settings(content)


def check(config: Configuration, **changes: Any) -> checking.Checked:
    """Load every client's data and check all that the relay will check; nothing is written.

    Raises
    ------
    UserError
        The first thing that is wrong.
    """
    return checking.check(settings(config, **changes))


def run(
    config: Configuration,
    out: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    **changes: Any,
) -> Run:
    """Run a federation to its end and return what it left behind.

    Parameters
    ----------
    config, changes
        As for `settings`; ``init_from="runs/x"`` starts from the weights of another run.
    out
        The run folder to make; default: a new one below ``runs/``.
    callbacks
        Told of every exchange, evaluation and absence while the run goes on; those of experiment
        trackers are in `sheafalign_fl.runs.trackers`.

    Raises
    ------
    SheafAlignError
        The settings or the data are wrong (then no folder is made), or the run failed.
    """
    chosen = launch.checked(settings(config, **changes))
    path = Path(out) if out is not None else launch.default_folder(chosen)
    with follow(path, chosen, callbacks):
        launch.start_checked(chosen, path)
    return read_run(path)


def resume(
    folder: str | Path, callbacks: Sequence[Callback] = (), exchanges: int | None = None
) -> Run:
    """Go on with an interrupted run from its last checkpoint, to the same bits.

    Parameters
    ----------
    exchanges
        Go on longer, with a complete run too: to so many exchanges in all. It ends in the weights
        of a run that had as many from the start.

    Raises
    ------
    SheafAlignError
        `folder` is no run folder, the run cannot go on longer, or it failed.
    """
    path = Path(folder)
    changes = None if exchanges is None else {"training": {"exchanges": exchanges}}
    before = RunFolder(path).settings()
    with follow(path, before if changes is None else settings(before, **changes), callbacks):
        launch.resume(path, changes=changes)
    return read_run(path)
