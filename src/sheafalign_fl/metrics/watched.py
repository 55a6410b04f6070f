"""The one score by which a run is watched on validation events, found by its name."""

from dataclasses import dataclass

from sheafalign_fl.config.schema import DEFAULT_SCORE, Settings
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.metrics.base import Score
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import measured_metrics
from sheafalign_fl.numbers import percent_sign


@dataclass(frozen=True)
class WatchedScore:
    """A score, and the metric that it is of."""

    metric: str
    score: Score

    @property
    def name(self) -> str:
        """What people call it."""
        return self.score.name

    def value(self, quality: Quality) -> float | None:
        """Return the score of what was measured; None where it was not."""
        rows = quality.rows(self.metric)
        return self.score.of(rows) if rows else None

    def events(self, quality: Quality) -> int:
        """Return the least number of events that a row of it is of."""
        return min((row.events for row in quality.rows(self.metric)), default=0)

    def better(self, value: float, other: float) -> bool:
        """Return whether `value` is better than `other`."""
        return value > other if self.score.higher_is_better else value < other

    def shown(self, value: float) -> str:
        """Return a value for people."""
        return percent_sign(value) if self.score.percent else f"{value:.3g}"


def watched_score(settings: Settings) -> WatchedScore | None:
    """Return the score that says which exchange of a run is best; None where nobody asks for one.

    Raises
    ------
    ConfigError
        No metric that is measured on the way has a score of that name.
    """
    if (name := settings.watched_score) is None:
        return None
    scores = _scores(settings)
    if name not in scores:
        known = ", ".join(scores) or "none; name retrieval in evaluation.metrics"
        where = "checkpoint.best" if settings.checkpoint.best else "training.patience"
        raise ConfigError(
            f"{where}: there is no score '{name}' on validation events; there are: {known}"
        )
    return scores[name]


def shown_score(settings: Settings) -> WatchedScore | None:
    """Return the score that a report follows: the one that is asked for, else R@10 if measured."""
    try:
        return watched_score(settings) or _scores(settings).get(DEFAULT_SCORE)
    except ConfigError:  # of a metric whose code is not here
        return None


def _scores(settings: Settings) -> dict[str, WatchedScore]:
    return {
        score.name: WatchedScore(name, score)
        for name, metric in measured_metrics(settings, final=False).items()
        for score in metric.scores
    }
