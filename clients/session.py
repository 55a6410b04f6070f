"""What a deployed client keeps on its own disk, so that it can be killed at any time and go on.

::

    STATE_DIR/
      sessions/RUN_ID.json      of a Flower run: the agreement and the run folder's identity
      RUN/checkpoints/000007/   the client's own part of the checkpoint after 7 exchanges

RUN is the identity of the run folder, so that a resumed run, which is a new one to Flower, finds
its checkpoints.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sheafalign_fl.errors import RunError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.listing import listed
from sheafalign_fl.runs.folder import RunFolder

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


def newest_state(folder: RunFolder, client: str) -> tuple[int, bytes] | None:
    """Return the newest state that `client` saved in its `folder`, and after how many exchanges."""
    saved = listed(folder.checkpoints, f"*/{client}.safetensors")
    if not saved:
        return None
    return int(saved[-1].parent.name), saved[-1].read_bytes()


def prune(folder: RunFolder, keep: int) -> None:
    """Remove all but the newest checkpoints from a client's own folder.

    One more than the relay keeps: the client may be an exchange ahead of the relay's last mark.
    """
    for old in listed(folder.checkpoints)[: -(keep + 1)]:
        shutil.rmtree(old, ignore_errors=True)
