"""The run folder: what is in it, and how it is written so that nothing is ever half there.

::

    RUN_DIR/
      config.yaml           the resolved settings
      identity              what deployed clients know the run by when it is resumed
      versions.json         software versions, commit, platform
      status.json           running, completed, interrupted or failed, and why
      run.log               what the relay logged, one JSON object a line; flower.log beside it, in
                            the flower engine
      metrics.jsonl         one line per exchange, evaluation and absence (protocol.rows)
      ledger.csv            one row per message (ledger)
      checkpoints/000100/   after 100 exchanges: CLIENT.safetensors each, and relay.json once all
                            are there
      best.json             which checkpoint was best on validation events, where it is kept
      shares/CLIENT/        what the client learnt, to be used (`shares.folder`)
      samples/CLIENT.png    one event as each client sees it
      projection.npz        comparison embeddings of one edge's test events
      summary.json          the result (runs.summary.Summary)
      report.html
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sheafalign_fl.config import Settings, load_resolved, to_yaml
from sheafalign_fl.errors import ConfigError, DataError, RunError, UserError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.listing import is_free, listed
from sheafalign_fl.runs.ledger import truncate_ledger
from sheafalign_fl.runs.summary import Summary, read_summary
from sheafalign_fl.runs.versions import newer, versions
from sheafalign_fl.version import __version__

CHECKPOINT_FORMAT = 1
"""Raised when what a checkpoint holds changes so that earlier ones are no longer understood."""
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def is_run_name(name: str) -> bool:
    """Return whether `name` can name a run folder of a relay: it leads out of no folder."""
    return _RUN_NAME.fullmatch(name) is not None


def check_run_name(name: str) -> str:
    """Return `name` if it can name a run folder of a relay; raise `UserError` otherwise."""
    if not is_run_name(name):
        raise UserError(
            f"{name!a} cannot name a run on a relay: use letters, digits, '.', '_' and '-', and no "
            "path; the relay keeps it in its own folder of runs"
        )
    return name


@dataclass(frozen=True)
class Checkpoint:
    """The relay's part of a checkpoint, written last: a checkpoint that has one is complete."""

    exchange: int
    """Exchanges that are done."""
    metrics_bytes: int
    ledger_bytes: int
    seconds: float
    """Wall time until then, all sessions together."""


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is read or written yet."""
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.ledger = path / "ledger.csv"
        self.summary = path / "summary.json"
        self.status_file = path / "status.json"
        self.report = path / "report.html"
        self.checkpoints = path / "checkpoints"
        self._identity = path / "identity"
        self._best = path / "best.json"

    def create(self, settings: Settings) -> None:
        """Make the folder with its configuration and versions.

        Raises
        ------
        UserError
            It exists and is not empty, or cannot be made.
        """
        if not is_free(self.path):
            raise UserError(
                f"{self.path} exists already; give another --out, or go on with --resume "
                f"{self.path}"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(f"{self.path} cannot be made: {error.strerror}") from None
        write_atomically(self.path / "versions.json", json.dumps(versions(), indent=1).encode())
        write_atomically(self._identity, secrets.token_hex(16).encode())
        write_atomically(self.config, to_yaml(settings).encode())

    @property
    def identity(self) -> str:
        """What deployed clients know the run by when it is resumed: 32 hexadecimal digits."""
        return self._identity.read_text(encoding="ascii") if self._identity.is_file() else "none"

    def reconfigure(self, settings: Settings) -> None:
        """Let a run go on with other settings: it has no result until it has ended again."""
        write_atomically(self.config, to_yaml(settings).encode())
        self.summary.unlink(missing_ok=True)

    def settings(self) -> Settings:
        """Return the resolved settings of the run.

        Raises
        ------
        UserError
            This is no run folder, or its settings cannot be read: `DataError` if that is because a
            newer version of the software wrote them.
        """
        if not self.config.is_file():
            raise UserError(f"{self.path} is no run folder: it has no config.yaml")
        try:
            return load_resolved(self.config)
        except ConfigError as error:
            if not newer(written := self._version()):
                raise
            raise DataError(
                f"{self.path} was written by sheafalign-fl {written}, and this is {__version__}, "
                f"which does not understand its configuration ({error}); use that version"
            ) from None

    def _version(self) -> str:
        """Return which version of the software made the folder; nothing if it does not say."""
        try:
            found = json.loads((self.path / "versions.json").read_bytes())
            return str(found["sheafalign-fl"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    def set_status(self, state: str, reason: str = "", **facts: Any) -> None:
        """Say how the run stands; facts said before, such as how often it was resumed, are kept."""
        content = {**self.status(), "state": state, "reason": reason, **facts}
        write_atomically(self.status_file, json.dumps(content).encode())

    def status(self) -> dict[str, Any]:
        """Return what `set_status` said last; the state is "new" before that."""
        if not self.status_file.is_file():
            return {"state": "new", "reason": ""}
        content: dict[str, Any] = json.loads(self.status_file.read_text(encoding="utf-8"))
        return content

    def save_summary(self, summary: Summary) -> None:
        """Save the result."""
        write_atomically(self.summary, summary.model_dump_json(indent=1).encode())

    def load_summary(self) -> Summary:
        """Return the result; raise `RunError` if the run has not ended."""
        if not self.summary.is_file():
            raise RunError(f"{self.path} has no summary.json: the run has not ended")
        return read_summary(self.summary)

    # ---- checkpoints -----------------------------------------------------------------------------

    def checkpoint_dir(self, exchange: int) -> Path:
        """Return the folder of the checkpoint after `exchange` exchanges."""
        return self.checkpoints / f"{exchange:06d}"

    def save_client(self, exchange: int, client: str, state: bytes) -> None:
        """Save one client's part of a checkpoint."""
        write_atomically(self.checkpoint_dir(exchange) / f"{client}.safetensors", state)

    def load_client(self, exchange: int, client: str) -> bytes:
        """Return what `save_client` saved; raise `RunError` if it is gone."""
        path = self.checkpoint_dir(exchange) / f"{client}.safetensors"
        try:
            return path.read_bytes()
        except OSError as error:
            raise RunError(f"the checkpoint {path} cannot be read: {error.strerror}") from None

    def newest_state(self, client: str) -> tuple[int, bytes] | None:
        """Return the newest state that `client` saved, and after how many exchanges; or None.

        The relay may know nothing of it yet: this is for a folder of the client's own.
        """
        saved = listed(self.checkpoints, f"*/{client}.safetensors")
        if not saved:
            return None
        return int(saved[-1].parent.name), saved[-1].read_bytes()

    def complete_checkpoint(self, checkpoint: Checkpoint, keep: int) -> None:
        """Mark a checkpoint as complete and remove all but the newest `keep` and the best one."""
        path = self.checkpoint_dir(checkpoint.exchange) / "relay.json"
        write_atomically(
            path, json.dumps({"format": CHECKPOINT_FORMAT, **asdict(checkpoint)}).encode()
        )
        complete = sorted(self._complete())
        best = self.best_exchange()
        for exchange in complete[:-keep]:
            if exchange == best:
                continue
            folder = self.checkpoint_dir(exchange)
            # The mark goes first, so that what is left of an interrupted removal is not taken for
            # a checkpoint.
            (folder / "relay.json").unlink()
            for entry in folder.iterdir():
                if entry.is_dir():  # another program's
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            folder.rmdir()

    def set_best(self, exchange: int, **facts: Any) -> None:
        """Say which checkpoint is the best by now: it is kept however old it is."""
        write_atomically(self._best, json.dumps({"exchange": exchange, **facts}).encode())

    def best(self) -> dict[str, Any]:
        """Return what `set_best` said last; nothing before that."""
        try:
            content = json.loads(self._best.read_bytes()) if self._best.is_file() else {}
            return dict(content)
        except (ValueError, TypeError) as error:
            raise RunError(f"{self._best} is damaged ({error}); remove it") from None

    def best_exchange(self) -> int | None:
        """Return after how many exchanges the best checkpoint was made, if one is kept."""
        found = self.best().get("exchange")
        return found if isinstance(found, int) else None

    def last_checkpoint(self) -> Checkpoint | None:
        """Return the newest complete checkpoint, or None.

        Raises
        ------
        RunError
            It is damaged, or a newer version of the software wrote it.
        """
        if not (complete := sorted(self._complete())):
            return None
        return _read_checkpoint(self.checkpoint_dir(complete[-1]) / "relay.json")

    def rewind(self, checkpoint: Checkpoint | None) -> None:
        """Drop what was recorded after `checkpoint`, or everything, to be recorded again."""
        if checkpoint is None:
            self.metrics.unlink(missing_ok=True)
            self.ledger.unlink(missing_ok=True)
            return
        truncate_ledger(self.ledger, checkpoint.ledger_bytes)
        if not self.metrics.is_file() or self.metrics.stat().st_size < checkpoint.metrics_bytes:
            raise RunError(
                f"{self.metrics} is shorter than the checkpoint says; it has been changed since"
            )
        os.truncate(self.metrics, checkpoint.metrics_bytes)

    def _complete(self) -> Iterator[int]:
        return (int(path.parent.name) for path in listed(self.checkpoints, "*/relay.json"))


def _read_checkpoint(path: Path) -> Checkpoint:
    """Return what `RunFolder.complete_checkpoint` wrote; the first checkpoints named no format."""
    try:
        found = json.loads(path.read_bytes())
        if (written := int(found.pop("format", 1))) > CHECKPOINT_FORMAT:
            raise RunError(
                f"{path} is of checkpoint format {written}, and this version of sheafalign-fl "
                f"({__version__}) reads up to {CHECKPOINT_FORMAT}; go on with the version that "
                "wrote it (versions.json), or start a new run"
            )
        return Checkpoint(**found)
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}); start a new run") from None


class MetricsLog:
    """Appends rows to metrics.jsonl, one write each: only the last line can ever be cut short."""

    def __init__(self, path: Path) -> None:
        """Open the file for appending."""
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: BaseModel) -> None:
        """Append `row` as one line."""
        self._file.write(row.model_dump_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of metrics.jsonl; a last line that was cut short is left out."""
    with path.open("rb") as file:  # it may have been cut inside a character
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
