"""Launching a run on this machine: check, folder, engine, lock."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check, check_form
from sheafalign_fl.engines.deployed import BusyError, Deployment, LostError, attend, run_deployed
from sheafalign_fl.engines.inprocess import check_resources, run_inprocess
from sheafalign_fl.engines.pooled import run_pooled
from sheafalign_fl.engines.simulation import run_simulation
from sheafalign_fl.errors import ConfigError, SheafAlignError, UserError
from sheafalign_fl.files import locked
from sheafalign_fl.flower.sockets import check_simulation
from sheafalign_fl.report import draw_report
from sheafalign_fl.runs.folder import RunFolder, check_run_name
from sheafalign_fl.runs.longer import lengthened
from sheafalign_fl.runs.summary import Summary

Engine = Callable[..., None]
ENGINES: dict[str, Engine] = {
    "flower": run_simulation,
    "inprocess": run_inprocess,
    "pooled": run_pooled,
}


def default_folder(settings: Settings) -> Path:
    """Return a new path under ``runs/`` in the current folder."""
    return Path("runs") / f"{settings.name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"


def start(settings: Settings, path: Path, deployment: Deployment | None = None) -> Summary:
    """Check `settings`, make the run folder at `path`, run to the end, return the result.

    With a `deployment` the data is on other machines, so that only the relay can check it.

    Raises
    ------
    SheafAlignError
        The settings or the data are wrong (then no folder is made), or the run failed.
    """
    return start_checked(checked(settings, deployment), path, deployment)


def start_checked(settings: Settings, path: Path, deployment: Deployment | None = None) -> Summary:
    """Do what `start` does with settings that `checked` returned."""
    folder = RunFolder(path)
    folder.create(settings)
    return _run(settings, folder, deployment, resume=False)


def resume(
    path: Path,
    engine: str | None = None,
    deployment: Deployment | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Summary:
    """Go on with the run in folder `path` from its last checkpoint; return a complete run's result.

    Parameters
    ----------
    engine
        Go on with this engine instead of the run's own; the result is the same.
    changes
        Settings to go on with, such as ``{"training": {"exchanges": 900}}``: a complete run goes
        on longer then (`runs.longer`).
    """
    folder = RunFolder(path)
    settings = folder.settings()
    if changes:
        settings = _longer(settings, folder, changes)
    elif folder.status()["state"] == "completed":
        return folder.load_summary()
    if deployment is not None and engine not in (None, "deployed"):
        raise UserError(f"a run on a relay cannot go on with engine '{engine}'; leave it out")
    if (chosen := "deployed" if deployment is not None else engine) is not None:
        settings = settings.model_copy(update={"engine": chosen})
    settings = checked(settings, deployment, path)
    if changes:
        kept = settings.model_copy(update={"engine": folder.settings().engine})
        with _alone(folder):
            folder.reconfigure(kept)
    return _run(settings, folder, deployment, resume=True)


def _longer(settings: Settings, folder: RunFolder, changes: Mapping[str, Any]) -> Settings:
    """Return the settings with which the run in `folder` goes on longer."""
    summary = folder.load_summary() if folder.summary.is_file() else None
    if (checkpoint := folder.last_checkpoint()) is not None:
        done = checkpoint.exchange
    else:  # of a run on a relay, whose checkpoints are elsewhere
        done = 0 if summary is None else summary.exchanges
    after = lengthened(settings, changes, done)
    patience = after.training.patience
    if summary is not None and summary.stopped and patience == settings.training.patience:
        raise UserError(f"the run has {summary.stopped}; give it more training.patience, or null")
    return after


def checked(
    settings: Settings, deployment: Deployment | None = None, going_on: Path | None = None
) -> Settings:
    """Check that the settings can run here; return them with nothing left open.

    `going_on` is the folder of the run itself, if it is resumed.

    Raises
    ------
    UserError
        They or the data are wrong; nothing has been written.
    """
    if deployment is not None:
        check_form(settings)
        return _for_relay(settings)
    if settings.engine not in ENGINES:
        raise UserError("a deployed run needs a relay; give --relay HOST:PORT")
    if settings.security.sealed:
        raise UserError(
            "security.sealed needs clients with keys, so it needs a relay; give --relay HOST:PORT"
        )
    check_resources(settings)
    if settings.engine == "flower":
        check_simulation()
    return check(settings, going_on).settings


def _for_relay(settings: Settings) -> Settings:
    """Return settings for a relay: an earlier run goes by its name there, which is its folder's."""
    if settings.training.epochs is not None:
        raise ConfigError(
            "training.epochs needs the data, which is on the nodes; state training.exchanges"
        )
    if settings.init_from is None:
        return settings
    return settings.model_copy(update={"init_from": check_run_name(Path(settings.init_from).name)})


def attach(path: Path, deployment: Deployment) -> Summary:
    """Wait for the end of the run that was submitted from the folder `path`; return the result.

    Raises
    ------
    SheafAlignError
        No run was submitted from there, the relay does not know it, or it failed.
    """
    folder = RunFolder(path)
    folder.settings()
    return _attended(folder, lambda: attend(folder, deployment))


def _run(
    settings: Settings, folder: RunFolder, deployment: Deployment | None, *, resume: bool
) -> Summary:
    if deployment is None:
        engine = ENGINES[settings.engine]
        return _attended(folder, lambda: engine(settings, folder, resume=resume))
    return _attended(folder, lambda: run_deployed(settings, folder, deployment, resume=resume))


def _attended(folder: RunFolder, work: Callable[[], None]) -> Summary:
    """Do `work` on a folder that nobody else works on; say in the folder what became of it."""
    with _alone(folder):
        try:
            work()
        except KeyboardInterrupt:
            folder.set_status("interrupted", "stopped by the user")
            draw_report(folder)
            raise
        except (BusyError, LostError):  # a run may be at work in this very folder
            raise
        except SheafAlignError as error:
            folder.set_status("failed", str(error), exit_code=error.exit_code)
            raise
    return folder.load_summary()


def _alone(folder: RunFolder) -> AbstractContextManager[None]:
    """Keep other processes out of a folder."""
    return locked(folder.path, f"another process is at work in {folder.path}")
