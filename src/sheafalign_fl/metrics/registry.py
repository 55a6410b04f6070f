"""The metrics that there are, and what an evaluation measures."""

from typing import Any

from sheafalign_fl.config.registry import Registry
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.labels import Kind
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
from sheafalign_fl.metrics.by_label import RecallByLabelMetric
from sheafalign_fl.metrics.consistency import ConsistencyMetric
from sheafalign_fl.metrics.missing import MissingMetric
from sheafalign_fl.metrics.probe import ProbeMetric
from sheafalign_fl.metrics.retrieval import RetrievalMetric
from sheafalign_fl.metrics.transfer import TransferMetric

_WHERE = "evaluation.metrics"
_KINDS = (PairMetric, ClientMetric, FederationMetric)


def _adapted(path: str, found: Any) -> Metric:
    if not (isinstance(found, type) and issubclass(found, _KINDS)):
        kinds = " or ".join(kind.__name__ for kind in _KINDS)
        raise TypeError(f"make it a class of {kinds} (sheafalign_fl.metrics.base)")
    metric: Metric = found()
    if missing := [name for name in ("title", "columns") if not getattr(metric, name, None)]:
        raise TypeError(f"it does not say its {' and '.join(missing)}")
    return metric


METRICS: Registry[Metric] = Registry(
    "metric",
    {
        metric.name: metric
        for metric in (
            RetrievalMetric(),
            TransferMetric(),
            ProbeMetric(),
            MissingMetric(),
            ConsistencyMetric(),
            RecallByLabelMetric(),
        )
    },
    _adapted,
)
"""The built-in ones, in the order of reports; others are found by a dotted path to a class."""


class UnknownMetric(Metric):
    """Stands for an own metric whose code is not here: its numbers are shown as they are."""

    def __init__(self, name: str, rows: Rows) -> None:
        """Take the numbers of the first row as columns and their means as scores."""
        fields = [key for key, value in rows[0] if isinstance(value, float)]
        self.title = name.rpartition(":")[2]  # type: ignore[misc]
        self.columns = tuple(  # type: ignore[misc]
            Column(field, field, "number") for field in fields
        )
        self.scores = tuple(  # type: ignore[misc]
            Score(f"{self.title}, {field}", mean_of(field), percent=False) for field in fields
        )


def known_metric(name: str, rows: Rows) -> Metric:
    """Return the metric that made `rows`, without importing what a file of results names."""
    try:
        return METRICS.find(name)
    except ConfigError:
        return UnknownMetric(name, rows)


def measured_metrics(settings: Settings, *, final: bool) -> dict[str, Metric]:
    """Return what an evaluation measures: name in the settings -> metric, in their order.

    Raises
    ------
    ConfigError
        There is no such metric, or one needs embeddings outside the clients where edges are sealed.
    """
    found = {name: METRICS.resolve(name, _WHERE) for name in settings.evaluation.metrics}
    if settings.security.sealed and (
        leaving := [
            name
            for name, metric in found.items()
            if metric.leaves_client and metric.nearby_row is None
        ]
    ):
        raise ConfigError(
            f"security.sealed: the metric '{leaving[0]}' sends embeddings of held-out events to "
            "the relay, which is not to read any; set evaluation.metrics without it, or "
            "security.sealed: false"
        )
    return {name: metric for name, metric in found.items() if final or metric.periodic}


def needs_labels(name: str) -> bool:
    """Return whether the metric that settings call `name` is nothing without labels."""
    return METRICS.resolve(name, _WHERE).needs_labels


def label_kinds(name: str) -> frozenset[Kind]:
    """Return the kinds of labels that the metric that settings call `name` can use."""
    return METRICS.resolve(name, _WHERE).label_kinds
