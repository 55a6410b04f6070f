"""The metrics that there are, and what an evaluation measures."""

from collections.abc import Sequence

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.metrics.base import (
    ClientMetric,
    Column,
    FederationMetric,
    Metric,
    PairMetric,
    Rows,
    Score,
    mean_of,
)
from sheafalign_fl.metrics.consistency import ConsistencyMetric
from sheafalign_fl.metrics.missing import MissingMetric
from sheafalign_fl.metrics.probe import ProbeMetric
from sheafalign_fl.metrics.retrieval import RetrievalMetric
from sheafalign_fl.metrics.transfer import TransferMetric
from sheafalign_fl.plugins import load_attribute

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        RetrievalMetric(),
        TransferMetric(),
        ProbeMetric(),
        MissingMetric(),
        ConsistencyMetric(),
    )
}
"""The built-in ones, in the order of reports."""
_WHERE = "evaluation.metrics"


_own: dict[str, Metric] = {}
"""Those that were found by a dotted path."""


class UnknownMetric(Metric):
    """Stands for an own metric whose code is not here: its numbers are shown as they are."""

    def __init__(self, name: str, rows: Rows) -> None:
        """Take the numbers of the first row as columns and their means as scores."""
        fields = [key for key, value in rows[0] if isinstance(value, float)]
        self.title = name.rpartition(":")[2]  # type: ignore[misc]
        self.columns = tuple(Column(field, field, "number") for field in fields)  # type: ignore[misc]
        self.scores = tuple(  # type: ignore[misc]
            Score(f"{self.title}, {field}", mean_of(field), percent=False) for field in fields
        )


def find_metric(name: str) -> Metric:
    """Return the metric that settings call `name`: a built-in one, or a dotted path to a class.

    Raises
    ------
    ConfigError
        There is none.
    """
    if name in METRICS:
        return METRICS[name]
    if name not in _own:
        _own[name] = _adapted(name, load_attribute(name, _WHERE))
    return _own[name]


def known_metric(name: str, rows: Rows) -> Metric:
    """Return the metric that made `rows`, without importing what a file of results names."""
    found = METRICS.get(name) or _own.get(name)
    return found or UnknownMetric(name, rows)


def _adapted(path: str, found: object) -> Metric:
    kinds = (PairMetric, ClientMetric, FederationMetric)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise ConfigError(
            f"{_WHERE}: '{path}' is no metric; make it a class of PairMetric, ClientMetric or "
            "FederationMetric (sheafalign_fl.metrics.base)"
        )
    try:
        metric = found()
        missing = [name for name in ("title", "columns") if not hasattr(metric, name)]
    except TypeError as error:  # an abstract method, or arguments
        raise ConfigError(f"{_WHERE}: '{path}' cannot be made: {error}") from None
    if missing or not metric.columns:
        raise ConfigError(f"{_WHERE}: '{path}' does not say its {' and '.join(missing)}")
    return metric


def measured_metrics(settings: Settings, *, final: bool) -> dict[str, Metric]:
    """Return what an evaluation measures: name in the settings -> metric, in their order.

    Raises
    ------
    ConfigError
        There is no such metric, or one needs embeddings outside the clients where edges are sealed.
    """
    found = {name: find_metric(name) for name in settings.evaluation.metrics}
    if settings.security.sealed and (
        leaving := [name for name, metric in found.items() if metric.leaves_client]
    ):
        raise ConfigError(
            f"security.sealed: the metric '{leaving[0]}' sends embeddings of held-out events to "
            "the relay, which is not to read any; set evaluation.metrics without it, or "
            "security.sealed: false"
        )
    return {name: metric for name, metric in found.items() if final or metric.periodic}


def needing_labels(settings: Settings) -> Sequence[str]:
    """Return the names of the metrics of `settings` that are nothing without labels."""
    return [name for name in settings.evaluation.metrics if find_metric(name).needs_labels]
