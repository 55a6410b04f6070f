"""The course of a run on validation events: which exchange was best, and when to stop."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sheafalign_fl.errors import RunError
from sheafalign_fl.metrics.watched import WatchedScore
from sheafalign_fl.row import Row


class BestFacts(Row):
    """The exchange that was best on validation events."""

    exchange: int
    """Exchanges that were done then."""
    score: str
    value: float


@dataclass(frozen=True)
class Point:
    """One measurement on the way that counts: all clients were there, and saved their state."""

    exchange: int
    value: float


class Course:
    """All measurements of one run that count, in order."""

    def __init__(self, watched: WatchedScore, patience: int | None = None) -> None:
        """Follow one score; be patient for so many measurements in a row that are no better."""
        self._watched, self._patience = watched, patience
        self.points: list[Point] = []

    def add(self, exchange: int, value: float) -> None:
        """Add what was measured after `exchange` exchanges."""
        self.points.append(Point(exchange, value))

    @property
    def best(self) -> BestFacts | None:
        """The best measurement, of equal ones the first; None before there is any."""
        best: Point | None = None
        for point in self.points:
            if best is None or self._watched.better(point.value, best.value):
                best = point
        if best is None:
            return None
        return BestFacts(exchange=best.exchange, score=self._watched.name, value=best.value)

    @property
    def stopped(self) -> str:
        """Why the run stops here; empty while it goes on."""
        best = self.best
        if self._patience is None or best is None:
            return ""
        since = sum(point.exchange > best.exchange for point in self.points)
        if since < self._patience:
            return ""
        value, name = self._watched.shown(best.value), self._watched.name
        return (
            f"stopped after {self.points[-1].exchange} exchanges: {name} on validation events was "
            f"best after {best.exchange} ({value}) and no better in {since} measurements since"
        )

    def facts(self) -> dict[str, Any]:
        """Return all of it for a file of JSON."""
        return {"score": self._watched.name, "points": [asdict(point) for point in self.points]}

    def restore(self, facts: Mapping[str, Any], exchange: int, due: Iterable[int]) -> None:
        """Go on from what `facts` returned, as it was after `exchange` exchanges.

        `due` are the exchanges at which a run measures: one that was to be shorter measured at its
        end too, which a longer one does not.
        """
        if facts.get("score") != self._watched.name:
            return
        wanted = set(due)
        try:
            points = [Point(int(p["exchange"]), float(p["value"])) for p in facts["points"]]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"best.json is damaged ({error}); remove it") from None
        self.points = [p for p in points if p.exchange <= exchange and p.exchange in wanted]
