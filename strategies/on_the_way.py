"""What is measured between exchanges, and what follows from it: the best checkpoint, an early end.

It follows from the settings and from what was measured alone, so a resumed run ends where an
uninterrupted one does.
"""

import logging
from collections.abc import Callable

from sheafalign_fl.config import Settings
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.watched import watched_score
from sheafalign_fl.runs.course import BestFacts, Course
from sheafalign_fl.runs.folder import RunFolder

_log = logging.getLogger("sheafalign.relay")


class OnTheWay:
    """When validation events are measured and clients save, and what the measurements say."""

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        """Follow the run in `folder`; raise `ConfigError` if its score is none."""
        self._settings, self._folder = settings, folder
        self._watched = watched_score(settings)
        self._course: Course | None = None
        if self._watched is not None:
            self._course = Course(self._watched, settings.training.patience)

    @property
    def is_watched(self) -> bool:
        """Whether a score is followed; then there is a measurement before training too."""
        return self._course is not None

    def measures(self, done: int, total: int) -> bool:
        """Return whether validation events, if any, are measured after `done` exchanges."""
        every = self._settings.evaluation.every
        return every > 0 and _is_due(done, every, total)

    def saves(self, done: int, total: int) -> bool:
        """Return whether clients save then: what may turn out to be the best has to be there."""
        if self._course is not None and self.measures(done, total):
            return True
        return _is_due(done, self._settings.checkpoint.every, total)

    def measure(self, done: int, run: Callable[[], Quality], *, counts: bool) -> Quality:
        """Return what `run` measures; it `counts` if all clients were there and have saved."""
        quality = run()
        if self._course is None or self._watched is None or not counts:
            return quality
        if (value := self._watched.value(quality)) is None:
            _log.warning("%s could not be measured after %d exchanges", self._watched.name, done)
            return quality
        self._course.add(done, value)
        self._note_best(self._course)
        return quality

    @property
    def best(self) -> BestFacts | None:
        """The best exchange by now, whose checkpoint clients keep."""
        return None if self._course is None else self._course.best

    @property
    def best_exchange(self) -> int | None:
        """After how many exchanges that was."""
        best = self.best
        return None if best is None else best.exchange

    @property
    def stopped(self) -> str:
        """Why training stops here; empty while it goes on."""
        return "" if self._course is None else self._course.stopped

    def restore(self, done: int) -> None:
        """Go on with the measurements that had been made after `done` exchanges."""
        if self._course is None:
            return
        every, last = self._settings.evaluation.every, self._settings.training.exchanges
        self._course.restore(self._folder.best(), done, [*range(0, last + 1, every), last])
        self._note_best(self._course)

    def _note_best(self, course: Course) -> None:
        if course.best is not None:
            self._folder.set_best(course.best.exchange, **course.facts())


def _is_due(done: int, every: int, total: int) -> bool:
    return done == total or (every > 0 and done % every == 0)
