"""What a deployed client keeps on its own disk, so that it can be killed at any time and go on.

::

    STATE_DIR/
      sessions/RUN_ID.json      of a Flower run: the agreement and the run folder's identity
      RUN/checkpoints/000007/   the client's own part of the checkpoint after 7 exchanges
      RUN/name, RUN/best.json   what the run is called on its relay; its best checkpoint

RUN is the identity of the run folder, so that a resumed run, which is a new one to Flower, finds
its checkpoints.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from sheafalign_fl.errors import RunError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.listing import listed
from sheafalign_fl.runs.folder import RunFolder, check_run_name
from sheafalign_fl.runs.initial import NAME

_KEPT_SESSIONS = 20


Phase = Literal["agreed", "trained", "over"]
"""Of a client's part in a run; it only ever goes on."""


@dataclass(frozen=True)
class Session:
    """One client's part in one Flower run."""

    run: str
    agreement: str
    """Hexadecimal."""
    configuration: str
    """Digest of the settings that were agreed on."""
    phase: Phase = "agreed"
    digest: str = ""
    """Of the final weights, once the run is over."""


def save(state_dir: Path, run_id: int, session: Session) -> None:
    """Save the session of Flower run `run_id`."""
    folder = state_dir / "sessions"
    write_atomically(folder / f"{run_id}.json", json.dumps(asdict(session)).encode())
    newest = sorted(listed(folder, "*.json"), key=lambda path: path.stat().st_mtime)
    for path in newest[:-_KEPT_SESSIONS]:
        path.unlink(missing_ok=True)


def load(state_dir: Path, run_id: int) -> Session | None:
    """Return what `save` saved for `run_id`; None if there is nothing.

    Raises
    ------
    RunError
        It cannot be read.
    """
    path = state_dir / "sessions" / f"{run_id}.json"
    if not path.is_file():
        return None
    try:
        return Session(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"the session {path} cannot be read: {error}") from None


def name_of(relay_folder: str) -> str:
    """Return what a run is called on its relay, which says what folder it has there."""
    return PurePosixPath(relay_folder).name


def name_run(state_dir: Path, run: str, relay_folder: str) -> None:
    """Note what `run` is called on its relay, so that a later one can start from it."""
    name = check_run_name(name_of(relay_folder))
    write_atomically(state_dir / run / NAME, name.encode())


def prune(folder: RunFolder, keep: int) -> None:
    """Remove all but the newest checkpoints and the best one from a client's own folder.

    One more than the relay keeps: the client may be an exchange ahead of the relay's last mark.
    """
    best = folder.best_exchange()
    for old in listed(folder.checkpoints)[: -(keep + 1)]:
        if best is None or old != folder.checkpoint_dir(best):
            shutil.rmtree(old, ignore_errors=True)
