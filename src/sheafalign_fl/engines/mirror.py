"""A copy of a run's results, kept where the run was submitted while it goes on somewhere else."""

import json
from pathlib import Path

from sheafalign_fl.errors import RunError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.flower.control import Control

IDENTITY = "identity"
PREFIX = "/v1/sheafalign/runs/"
FILES = frozenset(
    {
        "config.yaml", IDENTITY, "ledger.csv", "metrics.jsonl", "report.html", "run.log",
        "status.json", "summary.json", "versions.json",
    }
)  # fmt: skip
"""All that can be fetched of a run. Not: checkpoints, which hold what clients have learnt."""
GROWING = frozenset({"ledger.csv", "metrics.jsonl", "run.log"})
"""Files that are appended to: only what is new is fetched."""
PART_BYTES = 4 * 1024 * 1024
MOST_BYTES = 512 * 1024 * 1024
"""A larger file is not fetched."""


class Mirror:
    """The copy of one run."""

    def __init__(self, control: Control, run_id: str, folder: Path) -> None:
        """Copy the run from `control` into `folder`."""
        self._control = control
        self._path = f"{PREFIX}{int(run_id)}"
        self._folder = folder

    def same_place(self) -> bool:
        """Return whether the relay's folder of the run is this one: its random identity is."""
        own = self._folder / IDENTITY
        if not own.is_file() or IDENTITY not in self._sizes():
            return False
        return self._control.get(f"{self._path}/{IDENTITY}", 1024) == own.read_bytes()

    def refresh(self) -> None:
        """Fetch what is new.

        Raises
        ------
        SuperLinkGoneError
            The relay does not answer.
        RunError
            A file is larger than what is fetched.
        """
        for name, size in self._sizes().items():
            # Nothing that a relay says names a path here; and a copy has its own identity.
            if name not in FILES - {IDENTITY}:
                continue
            if size > MOST_BYTES:
                raise RunError(
                    f"{name} of the run has {size} bytes; no more than {MOST_BYTES} are fetched"
                )
            path = self._folder / name
            known = path.stat().st_size if path.is_file() else 0
            start = known if name in GROWING and known <= size else 0
            if name in GROWING and start == size:
                continue
            content = self._read(name, start, size)
            if name.endswith(".json"):
                _check_object(name, content)
            kept = path.read_bytes()[:start] if start else b""
            if not path.is_file() or start or path.read_bytes() != content:
                write_atomically(path, kept + content)

    def _sizes(self) -> dict[str, int]:
        content = json.loads(self._control.get(self._path, PART_BYTES))
        if not isinstance(content, dict):
            raise RunError("the relay's list of the run's files is damaged")
        return {str(name): int(size) for name, size in content.items()}

    def _read(self, name: str, start: int, size: int) -> bytes:
        """Return a file from `start` on; its size may have become another than `size`."""
        parts, at = [], start
        while at < size:
            part = self._control.get(f"{self._path}/{name}?offset={at}", PART_BYTES)
            if not part:
                break
            parts.append(part)
            at += len(part)
        return b"".join(parts)


def _check_object(name: str, content: bytes) -> None:
    """Refuse what is no JSON object, so that what reads it later finds one."""
    try:
        sound = isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        raise RunError(f"the relay sends a damaged {name} of the run")
