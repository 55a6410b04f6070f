"""Recall by label: the rule by which the paper's authors count retrieval, and what chance gives."""

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.base import (
    Column,
    FederationMetric,
    Numbers,
    Score,
    Together,
    mean_of,
)
from sheafalign_fl.metrics.vectors import TIE, cosines, paired

_RANKS = (1, 5, 10)


def _chance(k: int) -> Callable[[Any], float]:
    """Return a function: row -> what a random order gives within the first k."""
    return lambda row: float(getattr(row, f"chance_at_{k}"))


class RecallByLabelMetric(FederationMetric):
    """Whether an event of the same label is near, in the clients' own stalks."""

    name = "recall-by-label"
    title = "Recall by label"
    explanation = (
        "The rule of the paper's authors, to read their figures by: an event of the first client "
        "is compared with the second client's by the cosine of their own embeddings h, which no "
        "map has brought into one space, and a hit is any of the first k with the same label. "
        "Chance is what a random order gives with these labels: much, if they are few. Only what "
        "is above it says anything, and it does not say that the right event was found."
    )
    columns = tuple(
        Column(f"R@{k} by label %", f"recall_at_{k}", chance=_chance(k)) for k in _RANKS
    )
    ranked_by = "recall_at_10"
    scores = tuple(
        Score(f"R@{k} by label", mean_of(f"recall_at_{k}"), chance=mean_of(f"chance_at_{k}"))
        for k in _RANKS
    )

    def measure(self, held: Together) -> Sequence[Numbers]:
        """Return the recalls of every ordered pair of clients, each beside its level of chance."""
        chance = {f"chance_at_{k}": chance_by_label(held.labels, k) for k in _RANKS}
        rows: list[dict[str, Any]] = []
        for source, target in permutations(held.h, 2):
            whose = {"source": source, "target": target, "events": len(held.labels)}
            h = held.h[source], held.h[target]
            rows.append(whose | recall_by_label(source, target, *h, held.labels) | chance)
        return rows


def recall_by_label(
    source: str,
    target: str,
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    labels: NDArray[np.integer],
) -> dict[str, float]:
    """Return recall_at_1, _5 and _10: how often one of the first k has the query's label.

    Parameters
    ----------
    source, target
        The clients i and j.
    queries, gallery
        h_i and h_j, shape (N, d); row k of both is the same event, which is a hit too.
    labels
        Shape (N,), all known.

    Notes
    -----
    Ties count against the model: the best event of the label is ranked behind all of other labels
    that are equally similar. Zero vectors come last.

    Raises
    ------
    ValueError
        Shapes do not fit together, or N is 0.
    RunError
        An embedding is not finite.
    """
    what = f"recall by label {source} -> {target}"
    a, b = paired(queries, gallery, what)
    if labels.shape != (len(a),):
        raise ValueError(f"{what}: labels have shape {labels.shape} for {len(a)} events")
    ranks = np.empty(len(a), dtype=np.int64)
    for rows, similarity in cosines(a, b):
        same = labels[rows, None] == labels
        best = np.where(same, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = 1 + (~same & (similarity >= best - TIE)).sum(axis=1)
    return {f"recall_at_{k}": float((ranks <= k).mean()) for k in _RANKS}


def chance_by_label(labels: NDArray[np.integer], k: int) -> float:
    """Return how often one of the first k of a random order has the query's label, exactly.

    The query's own event is in the gallery. Of a label with n of N events, k drawn without putting
    back miss it with C(N - n, k) / C(N, k) (hypergeometric), and n of N queries have it.

    Parameters
    ----------
    labels
        Shape (N,), N of at least 1, all known.
    """
    counts = np.unique(labels, return_counts=True)[1].astype(np.float64)
    total, drawn = counts.sum(), np.arange(min(k, len(labels)))
    missed = np.clip((total - counts[:, None] - drawn) / (total - drawn), 0, None).prod(axis=1)
    return float((counts / total * (1 - missed)).sum())
