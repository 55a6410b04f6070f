"""Being told how a run goes, from outside: for any engine, the rows come from its run folder."""

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sheafalign_fl.config import Settings
from sheafalign_fl.files import Tail
from sheafalign_fl.protocol.rows import AbsenceRow, EvaluationRow, ExchangeRow
from sheafalign_fl.protocol.verdict import WatchRow
from sheafalign_fl.runs.rows import parse_row

if TYPE_CHECKING:
    from sheafalign_fl.runs.reading import Run

_log = logging.getLogger("sheafalign.run")
_LOOK_SECONDS = 0.2


class Callback:
    """Told of everything that a run writes down; override what you want to hear.

    Calls come one after the other, in the order of the rows, from one thread of the process that
    started the run. They change nothing: a callback that raises is named in a warning and not
    called again, and the run goes on.
    """

    def on_start(self, settings: Settings, folder: Path) -> None:
        """Hear that the run begins; `folder` is its run folder."""

    def on_exchange(self, row: ExchangeRow) -> None:
        """Hear of a complete exchange: losses, absences, training bytes so far."""

    def on_evaluation(self, row: EvaluationRow) -> None:
        """Hear what was measured on validation events."""

    def on_absence(self, row: AbsenceRow) -> None:
        """Hear that a client dropped out or came back."""

    def on_watch(self, row: WatchRow) -> None:
        """Hear that a client refused what a neighbour sent, or saw an edge change."""

    def on_end(self, run: "Run") -> None:
        """Hear that the run has its result."""

    def on_failure(self, reason: str) -> None:
        """Hear that the run ended without a result: it failed, or was interrupted."""


@contextmanager
def follow(folder: Path, settings: Settings, callbacks: Sequence[Callback]) -> Iterator[None]:
    """Call `callbacks` with what is written to the run folder while the block runs.

    At the end of the block every row has been told, each of them once. `on_end` is called if the
    block ends well, `on_failure` if it does not.
    """
    if not callbacks:
        yield
        return
    follower = _Follower(folder, settings, callbacks)
    follower.start()
    try:
        yield
    except BaseException as error:
        follower.stop()
        follower.fail(str(error) or type(error).__name__)
        raise
    follower.stop()
    follower.end()


class _Follower:
    """Reads along in metrics.jsonl, in a thread of its own."""

    def __init__(self, folder: Path, settings: Settings, callbacks: Sequence[Callback]) -> None:
        self._folder, self._settings = folder, settings
        self._callbacks = list(callbacks)
        self._metrics = Tail(folder / "metrics.jsonl")
        self._told: set[bytes] = set()
        """Digests of the lines that were told: a resumed run's file is read from its start."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="callbacks", daemon=True)

    def start(self) -> None:
        self._tell("on_start", self._settings, self._folder)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def end(self) -> None:
        from sheafalign_fl.runs.reading import read_run

        self._tell("on_end", read_run(self._folder))

    def fail(self, reason: str) -> None:
        self._tell("on_failure", reason)

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._read()
        self._read()

    def _read(self) -> None:
        lines, _ = self._metrics.lines()
        for line in lines:
            digest = hashlib.sha256(line).digest()[:16]
            if digest not in self._told:
                self._told.add(digest)
                self._take(line)

    def _take(self, line: bytes) -> None:
        match row := parse_row(line):
            case ExchangeRow():
                self._tell("on_exchange", row)
            case EvaluationRow():
                self._tell("on_evaluation", row)
            case AbsenceRow():
                self._tell("on_absence", row)
            case WatchRow():
                self._tell("on_watch", row)

    def _tell(self, method: str, *arguments: object) -> None:
        for callback in list(self._callbacks):
            try:
                getattr(callback, method)(*arguments)
            except Exception as error:  # the user's code may raise anything
                self._callbacks.remove(callback)
                name = type(callback).__name__
                _log.warning(
                    "the callback %s raised %s: %s; it is not called again",
                    f"{name}.{method}", type(error).__name__, error,
                )  # fmt: skip
