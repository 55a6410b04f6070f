"""Logs for people and programs: plain lines or JSON in the terminal, JSON lines in files.

No log grows for ever: one of `MOST_BYTES` is put aside, and of those the newest `KEPT` stay.
"""

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

from sheafalign_fl.errors import UserError
from sheafalign_fl.runs.progress import TerminalLog

MOST_BYTES = 10_000_000
KEPT = 5
_LOOK_SECONDS = 30.0
Format = Literal["text", "json"]


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the record's `facts`."""

    def __init__(self, facts: Mapping[str, object] | None = None) -> None:
        """Give every line these `facts` (run, client, exchange, ...) beside its own."""
        super().__init__()
        self._facts = dict(facts or {})

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as JSON."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._facts,
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content)


def log_to(path: Path, terminal: Format | None = "text") -> logging.Handler:
    """Append everything that SheafAlign-FL logs to the file at `path`, and print it as `terminal`.

    As text the terminal leaves out the many lines of single exchanges; None prints nothing.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = RotatingFileHandler(
            path, maxBytes=MOST_BYTES, backupCount=KEPT, encoding="utf-8"
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"the log {path} cannot be written: {error.strerror}") from None
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("sheafalign")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    if terminal is not None:
        print_log(terminal)
    return handler


def print_log(terminal: Format) -> None:
    """Print what SheafAlign-FL logs, as lines for people or as JSON for programs."""
    logger = logging.getLogger("sheafalign")
    logger.setLevel(logging.INFO)
    screen = TerminalLog()
    if terminal == "json":
        screen.setFormatter(JsonLines())
    else:
        screen.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        screen.addFilter(lambda record: not hasattr(record, "facts"))
    logger.addHandler(screen)
    logger.propagate = False


def rotate(path: Path, most: int = MOST_BYTES, kept: int = KEPT) -> bool:
    """Put a log aside that another process appends to, and empty it, if it has `most` bytes.

    That process has opened it for appending (O_APPEND), so it goes on at the new end. What it
    writes between copying and emptying is lost: a few lines at most.
    """
    if not path.is_file() or path.stat().st_size < most:
        return False
    for number in range(kept - 1, 0, -1):
        old = path.with_name(f"{path.name}.{number}")
        if old.is_file():
            old.replace(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copy2(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


@contextmanager
def rotated(path: Path) -> Iterator[None]:
    """Keep the log of another process short while the block runs."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_SECONDS):
            try:
                rotate(path)
            except OSError as error:
                logging.getLogger("sheafalign.relay").warning(
                    "%s is not put aside: %s", path, error
                )

    thread = threading.Thread(target=look, daemon=True, name="log rotation")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
