"""Submitting a run to a SuperLink, and waiting for its end."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sheafalign_fl.config import Settings, encode
from sheafalign_fl.engines.app_folder import make_app_folder
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.flower.control import Control, RunState, SuperLinkGoneError
from sheafalign_fl.runs.folder import RunFolder

_POLL_SECONDS = 0.2
_ASK_SECONDS = 1.0
"""Pause between two questions to Flower; an end in the run folder is seen at once."""
_MOST_CODE = 126
_TOLERATED = 3
"""So many questions in a row may go unanswered before the SuperLink is given up."""


def submit(
    settings: Settings,
    run_dir: str,
    control: Control,
    *,
    resume: bool,
    simulation: Mapping[str, float] | None = None,
) -> str:
    """Submit a run and return Flower's id of it; raise `RunError` if Flower does not take it.

    Parameters
    ----------
    settings
        What to run.
    run_dir
        Where the run is kept: in a simulation the folder's path, on a relay its name there.
    control
        The SuperLink.
    resume
        Go on from the folder's last checkpoint.
    simulation
        Flower's settings of a simulation.
    """
    config: dict[str, bool | float | int | str] = {
        "config": encode(settings),
        "run-dir": run_dir,
        "resume": resume,
    }
    with tempfile.TemporaryDirectory(prefix="sheafalign-") as name:
        return control.start(make_app_folder(Path(name) / "app"), config, simulation)


def wait(run_id: str, folder: RunFolder, control: Control) -> None:
    """Wait until the run has ended; raise if it did not end well, by its own word and Flower's."""
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
    raise_failure(state, folder, "flower.log")


def raise_failure(state: RunState, folder: RunFolder, log: str) -> None:
    """Raise if a run did not end well, by Flower's account in `state` and by its folder's."""
    status = folder.status()
    if status.get("state") == "failed":
        failure = SheafAlignError(str(status.get("reason", "no reason given")))
        code = status.get("exit_code")  # a relay may send anything
        failure.exit_code = code if isinstance(code, int) and 0 < code < _MOST_CODE else 1
        raise failure
    if state.status != "finished:completed" or status.get("state") != "completed":
        raise RunError(
            f"Flower says that the run is {state.status} ({state.details or 'no reason given'}); "
            f"see {log}"
        )
