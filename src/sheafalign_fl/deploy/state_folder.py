"""A node's state folder: private, whose it is, on which machine it lies, and how much it keeps.

A copy of a folder has everything that the original has, the node's number on the relay too. A mark
says where the folder was written, so that a copy is noticed and does not take the original's
connection down.
"""

import hashlib
import json
import logging
import re
import shutil
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sheafalign_fl.errors import UserError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.listing import listed

MARK = "owner.json"
KEPT_RUNS = 20
"""State of so many runs is kept; a run that is older cannot be resumed by this client."""
_RUN = re.compile(r"[0-9a-f]{32}")
_MACHINE_ID = Path("/etc/machine-id")
_log = logging.getLogger("sheafalign.node")


@dataclass(frozen=True)
class Mark:
    """Where a state folder was written, and for whom."""

    machine: str
    """Digest of the machine's identity."""
    host: str
    folder: int
    """Number of the folder in its file system, which a copy on the same machine has not."""
    client: str
    key: str
    """Fingerprint of the node's public key; empty without keys."""

    @classmethod
    def here(cls, folder: Path, client: str, key: ec.EllipticCurvePublicKey | None) -> "Mark":
        """Return the mark of a folder of this machine."""
        shown = "" if key is None else fingerprint(key)
        return cls(_machine(), socket.gethostname(), folder.stat().st_ino, client, shown)

    def same_place(self, other: "Mark") -> bool:
        """Return whether both are of one folder of one machine."""
        return (self.machine, self.folder) == (other.machine, other.folder)


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a public key, as OpenSSH writes it in hexadecimal."""
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def copied_from(folder: Path, here: Mark) -> str | None:
    """Return on which machine and for what `folder` was written if it is a copy; None if it is not.

    Raises
    ------
    UserError
        It belongs to another client, or to another key of this one.
    """
    there = _read(folder / MARK)
    if there is None:
        return None
    if there.client != here.client:
        raise UserError(
            f"{folder} is the state folder of client '{there.client}', not of '{here.client}'; "
            "give each client its own --state"
        )
    if there.key and here.key and there.key != here.key:
        raise UserError(
            f"{folder} was written with another key of client '{here.client}' "
            f"({there.key[:16]}, this one is {here.key[:16]}); its state is that key's: use the "
            f"old key, or remove {folder / MARK} to take the state over"
        )
    return None if there.same_place(here) else there.host


def sign(folder: Path, here: Mark) -> None:
    """Write down whose folder it is."""
    write_atomically(folder / MARK, json.dumps(asdict(here)).encode())


def prune_runs(folder: Path, keep: int = KEPT_RUNS) -> int:
    """Remove the state of all but the newest `keep` runs; return of how many."""
    runs = [path for path in listed(folder) if _RUN.fullmatch(path.name) and path.is_dir()]
    runs.sort(key=_last_change)
    old = runs[: max(0, len(runs) - keep)]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    if old:
        _log.info("the state of %d old runs in %s is removed", len(old), folder)
    return len(old)


def _last_change(folder: Path) -> int:
    return max(path.stat().st_mtime_ns for path in (folder, *listed(folder, "**/*")))


def _read(path: Path) -> Mark | None:
    if not path.is_file():
        return None
    try:
        return Mark(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path} is damaged; remove it to take the folder over") from None


def _machine() -> str:
    """Return a digest of the machine's identity, which should not be shown bare (machine-id(5))."""
    try:
        identity = _MACHINE_ID.read_text(encoding="ascii").strip()
    except OSError:
        identity = ""
    return hashlib.sha256(f"sheafalign {identity or uuid.getnode()}".encode()).hexdigest()[:32]
