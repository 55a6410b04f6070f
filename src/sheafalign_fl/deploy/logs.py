"""Logs that people and programs can read: plain lines in the terminal, one JSON object a line in files."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from sheafalign_fl.runs.progress import TerminalLog


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the record's `facts` (run, client, exchange, ...)."""

    def __init__(self, facts: Mapping[str, object] | None = None) -> None:
        """Give every line these `facts` beside its own."""
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


def log_to(path: Path, *, terminal: bool = True) -> logging.Handler:
    """Append everything that SheafAlign-FL logs to the file at `path`, and print it plainly, if `terminal`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("sheafalign")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    if terminal:
        screen = TerminalLog()
        screen.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        screen.addFilter(
            lambda record: not hasattr(record, "facts")
        )  # the many lines of single exchanges
        logger.addHandler(screen)
        logger.propagate = False
    return handler
