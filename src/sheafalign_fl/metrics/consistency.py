"""Consistency of an edge (DESIGN section 5.5)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.base import Column, Numbers, Pair, PairMetric, Rows, Score, mean_of
from sheafalign_fl.metrics.vectors import paired
from sheafalign_fl.numbers import mean
from sheafalign_fl.row import Row


class Consistency(Row):
    """Disagreement on an edge: mean over events of ||z_ij - z_ji||^2 / (||z_ij||^2 + ||z_ji||^2).

    0: the two ends agree; 1: as far apart as unrelated vectors; 2: opposite.
    """

    source: str
    target: str
    events: int
    value: float


class ConsistencyMetric(PairMetric):
    """Whether the two ends of an edge agree about the same event."""

    name = "consistency"
    title = "Consistency"
    explanation = (
        "How far the two ends of an edge disagree about the same event: 0 is full agreement, 1 is "
        "what unrelated vectors give, 2 is opposite. Good: near 0 and alike on all edges; one edge "
        "that stands out points at a sensor that drifts."
    )
    row = Consistency
    columns = (Column("disagreement", "value", "number", ".3f", ".3f"),)
    higher_is_better = False
    scores = (
        Score(
            "disagreement",
            mean_of("value"),
            percent=False,
            higher_is_better=False,
            chance=lambda rows: 1.0,
        ),
    )
    periodic = True
    directed = False
    refined = False

    def measure(self, held: Pair) -> Numbers:
        """Return the disagreement."""
        found = consistency(held.source, held.target, held.own, held.received)
        return found.model_dump(exclude={"source", "target"})

    def facts(self, rows: Rows) -> dict[str, Any]:
        """Return the mean over edges."""
        return {"consistency": mean(row.value for row in rows)}


def consistency(
    source: str, target: str, z_ij: NDArray[np.floating], z_ji: NDArray[np.floating]
) -> Consistency:
    """Return the mean over events of ||z_ij - z_ji||^2 / (||z_ij||^2 + ||z_ji||^2).

    It says how far the ends disagree. The numerator is the edge's share of the sheaf Laplacian's
    quadratic form h^T L h (arXiv 2510.20540); dividing by the size of both ends makes edges
    comparable and keeps an edge from looking good because its embeddings shrank. 0: the ends agree;
    1: as far apart as unrelated vectors; 2: opposite. A sensor that lies or drifts shows here.

    Parameters
    ----------
    source, target
        The ends i and j.
    z_ij, z_ji
        Comparison embeddings, shape (N, d); row k of both is the same event. Where both are zero
        the ends agree.

    Raises
    ------
    ValueError
        The shapes differ, or N is 0.
    RunError
        An embedding is not finite.
    """
    a, b = paired(z_ij, z_ji, f"consistency of {source}-{target}")
    # Scaled per event, so that squares of very large and very small values stay in range; the ratio
    # is unchanged.
    largest = np.maximum(np.abs(a).max(axis=1, keepdims=True), np.abs(b).max(axis=1, keepdims=True))
    alive = largest[:, 0] > 0
    a, b = a[alive] / largest[alive], b[alive] / largest[alive]
    ratios = np.square(a - b).sum(axis=1) / (np.square(a).sum(axis=1) + np.square(b).sum(axis=1))
    return Consistency(
        source=source, target=target, events=len(z_ij), value=float(ratios.sum() / len(z_ij))
    )
