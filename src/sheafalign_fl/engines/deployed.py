"""The deployed engine: a run on a relay that nodes on other machines are connected to.

The relay keeps the run in a folder of its own. This machine's folder is the same one if the relay
is here and keeps its runs there; otherwise it becomes a copy, which grows while the run goes on.
"""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.mirror import Mirror
from sheafalign_fl.engines.submission import raise_failure, submit
from sheafalign_fl.errors import SheafAlignError, UserError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.flower.control import Control, OperatorFiles, RunState, SuperLinkGoneError
from sheafalign_fl.runs.folder import RunFolder, check_run_name

_ASK_SECONDS = 1.0
_PATIENCE_SECONDS = 20.0
"""So long may the relay be silent before this stops waiting for it; the run may go on meanwhile."""
SUBMISSION = "submission.json"
"""File in a run folder: Flower's id of the run, and at which relay."""


class LostError(SheafAlignError):
    """Nothing is known of a run that may well go on: its folder is left as it is."""

    exit_code = 1


class BusyError(UserError):
    """Another run is at work in a folder of the relay, which is left as it is."""


@dataclass(frozen=True)
class Deployment:
    """Where to run."""

    relay: str
    """host:port."""
    operator: OperatorFiles | None
    """None: insecure."""

    def connect(self) -> Control:
        """Return a connection to the relay."""
        return Control.at(self.relay, self.operator)


def run_deployed(
    settings: Settings, folder: RunFolder, deployment: Deployment, *, resume: bool = False
) -> None:
    """Run a federation to its end on a relay; its results are in `folder` then.

    Raises
    ------
    BusyError
        A run is at work there already.
    LostError
        The relay is silent.
    SheafAlignError
        The run failed; message and exit code are those of the first error in the federation.
    """
    name = check_run_name(folder.path.resolve().name)
    control = deployment.connect()
    try:
        _check_idle(control, name)
        run_id = submit(settings, name, control, resume=resume)
        facts = {"run": run_id, "relay": deployment.relay}
        write_atomically(folder.path / SUBMISSION, json.dumps(facts).encode())
        _attend(control, run_id, folder, deployment)
    finally:
        control.close()


def attend(folder: RunFolder, deployment: Deployment) -> None:
    """Wait for the end of the run that was submitted from `folder`, as `run_deployed` does.

    Raises
    ------
    UserError
        The relay does not know the run, or none was submitted from there.
    """
    control = deployment.connect()
    try:
        _attend(control, submitted(folder), folder, deployment)
    finally:
        control.close()


def submitted(folder: RunFolder) -> str:
    """Return Flower's id of the run that was submitted from a folder; `UserError` without."""
    try:
        return str(int(json.loads((folder.path / SUBMISSION).read_text(encoding="ascii"))["run"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"no run on a relay was submitted from {folder.path}") from None


def fetch(control: Control, run_id: str, folder: Path) -> None:
    """Copy what there is of a run's results into `folder`."""
    control.run(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    Mirror(control, run_id, folder).refresh()


def _check_idle(control: Control, name: str) -> None:
    """Refuse to work in a folder of the relay that another run works in."""
    for run in control.runs():
        if run.config.get("run-dir") == name and not run.ended:
            raise BusyError(
                f"run {run.run_id} on this relay is at work in '{name}'; "
                f"wait for it with --attach, or end it with `sheafalign runs stop {run.run_id}`"
            )


def _attend(control: Control, run_id: str, folder: RunFolder, deployment: Deployment) -> None:
    """Wait for a run's end with its results; Ctrl-C stops it."""
    try:
        state = _wait(control, run_id, folder)
    except KeyboardInterrupt:
        with suppress(SheafAlignError):  # the relay may be gone
            control.stop(run_id)
        raise
    except SuperLinkGoneError as error:
        raise LostError(
            f"the SuperLink is gone: {error}. If only the line is, the run goes on: "
            f"sheafalign run --attach {folder.path} --relay {deployment.relay}. "
            "If the relay was restarted: --resume instead"
        ) from None
    raise_failure(state, folder, "the relay's superlink.log")


def _wait(control: Control, run_id: str, folder: RunFolder) -> RunState:
    """Return what Flower says of a run that has ended, when its results are here."""
    mirror = Mirror(control, run_id, folder.path)
    here, heard = None, time.monotonic()
    while True:
        try:
            state = control.run(run_id)
            here = mirror.same_place() if here is None else here
            if not here:
                mirror.refresh()
            if state.ended:
                return state
            heard = time.monotonic()
        except SuperLinkGoneError:
            if time.monotonic() - heard > _PATIENCE_SECONDS:
                raise
        time.sleep(_ASK_SECONDS)
