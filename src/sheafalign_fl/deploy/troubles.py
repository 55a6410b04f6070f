"""What goes wrong on a machine that has to go on: said once, tried again, and said when over."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_FIRST_SECONDS = 0.5
_MOST_SECONDS = 30.0


class Troubles:
    """The troubles of one process, each with its name; threads may share it."""

    def __init__(self, log: logging.Logger) -> None:
        """Say what happens in `log`."""
        self._log = log
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    @contextmanager
    def outlived(self, what: str, *kinds: type[Exception]) -> Iterator[None]:
        """Go on after an error of `kinds` in the block; what is called `what` is not done then."""
        try:
            yield
        except kinds as error:
            self.note(what, error)
        else:
            self.over(what)

    def note(self, what: str, error: Exception) -> float:
        """Note a trouble; return how many seconds to wait until `what` is tried again."""
        with self._lock:
            count = self._counts[what] = self._counts.get(what, 0) + 1
        if count == 1:
            told = f"{type(error).__name__}: {error}"
            self._log.error("%s: %s; trying again", what, told, exc_info=_traceback(error))
        return min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** min(count - 1, 10))

    def over(self, what: str) -> None:
        """Note that `what` was done; if it was not the last time, that is said."""
        with self._lock:
            count = self._counts.pop(what, 0)
        if count:
            self._log.info("%s: it works again, after %d failures", what, count)


def _traceback(error: Exception) -> Exception | None:
    """Return the error if its place in the code would tell more than its words."""
    return None if isinstance(error, OSError) else error
