"""What a finished run should make people think of, such as that it overfits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sheafalign_fl.config import Settings
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.watched import WatchedScore, shown_score
from sheafalign_fl.protocol.rows import EvaluationRow
from sheafalign_fl.runs.course import BestFacts, Course

NO_VALIDATION = (
    "there are no validation events, so nobody can say which exchange is best or whether the run "
    "overfits"
)
_RELATIVE = 0.1


@dataclass(frozen=True)
class ValidationCurve:
    """One score on validation events against exchanges."""

    watched: WatchedScore
    points: Sequence[tuple[int, float]]
    """(exchanges, value), in order."""
    events: int
    """The least that a value is of."""

    @property
    def untrained(self) -> float | None:
        """The value before training; None where it was not measured."""
        exchange, value = self.points[0]
        return value if exchange == 0 else None

    @property
    def best(self) -> BestFacts:
        """The best measurement after training has begun, of equal ones the first."""
        course = Course(self.watched)
        trained = [point for point in self.points if point[0] > 0] or list(self.points)
        for exchange, value in trained:
            course.add(exchange, value)
        best = course.best
        return best if best is not None else BestFacts(exchange=0, score="", value=0.0)

    @property
    def falls(self) -> bool:
        """Whether the last value is worse than the best by more than measurements scatter."""
        best, (_, last) = self.best.value, self.points[-1]
        lost = best - last if self.watched.score.higher_is_better else last - best
        return lost > self._margin(best)

    def _margin(self, best: float) -> float:
        """Return a standard error of a fraction of so many events; else a tenth of the value.

        All measurements are of the same events and are means over directions, so they scatter by
        less than that from one to the next.
        """
        if not self.watched.score.percent:
            return _RELATIVE * abs(best)
        spread = max(best * (1 - best), 0.0) / max(self.events, 1)
        return math.sqrt(spread)


def validation_curve(
    settings: Settings, evaluations: Sequence[EvaluationRow]
) -> ValidationCurve | None:
    """Return the score that a run is watched by, else R@10; None where it was not measured."""
    if (watched := shown_score(settings)) is None:
        return None
    # A final evaluation may be made on validation events too, of which it is another sample.
    on_the_way = {row.exchange: row for row in reversed(evaluations)}
    rows = [row for row in on_the_way.values() if row.quality.split == "validation"][::-1]
    found = [(row, watched.value(row.quality)) for row in rows]
    points = [(row.exchange, value) for row, value in found if value is not None]
    if not points:
        return None
    events = min(watched.events(row.quality) for row, value in found if value is not None)
    return ValidationCurve(watched, points, events)


def warnings(
    settings: Settings, evaluations: Sequence[EvaluationRow], *, validation: bool, kept: bool
) -> list[str]:
    """Return lines for people on a run that has ended; none where all is well.

    Parameters
    ----------
    validation
        Whether there are validation events.
    kept
        Whether the best exchange's checkpoint is kept.
    """
    if not validation:
        return [NO_VALIDATION] if settings.training.exchanges else []
    curve = validation_curve(settings, evaluations)
    if curve is None or not curve.falls:
        return []
    best, (last, value), shown = curve.best, curve.points[-1], curve.watched.shown
    cure = (
        f"the weights after {best.exchange} exchanges are kept beside the last"
        if kept
        else f"checkpoint.best: {best.score} keeps the best weights, training.patience stops early"
    )
    return [
        f"it overfits: {best.score} on validation events was {shown(best.value)} after "
        f"{best.exchange} exchanges and is {shown(value)} after {last}; {cure}"
    ]


def fit_warnings(quality: Quality) -> list[str]:
    """Return a line for each metric with classifiers that stopped before their optimum."""
    lines = []
    for name in quality.measured():
        flags = [getattr(row, "converged", None) for row in quality.rows(name)]
        if short := flags.count(False):
            lines.append(
                f"{name}: {short} of {len(flags)} classifiers had not converged when their "
                "iterations were used up, so their accuracy may differ on another machine"
            )
    return lines
