"""Cross-modal retrieval in a comparison space (DESIGN section 5.1)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.base import (
    Card,
    Column,
    Numbers,
    Pair,
    PairMetric,
    Rows,
    Score,
    mean_of,
)
from sheafalign_fl.metrics.vectors import TIE, cosines, paired
from sheafalign_fl.numbers import count_of, mean, percent_sign
from sheafalign_fl.row import Row


class Retrieval(Row):
    """Cross-modal retrieval source -> target in the comparison space of their edge."""

    source: str
    target: str
    events: int
    """Queries, and size of the gallery."""
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    """1 is best."""
    mean_average_precision: float | None
    """By class; null without labels."""


def _chance(k: int) -> Callable[[Any], float]:
    """Return a function: row -> recall among the first k of a random order."""
    return lambda row: min(1.0, k / row.events)


class RetrievalMetric(PairMetric):
    """Whether the true partner of an event is found among the other client's events."""

    name = "retrieval"
    title = "Retrieval"
    explanation = (
        "Given an event of the first client, the second client's events are ranked by cosine in "
        "the space that only these two share. R@k: how often the true partner is among the first "
        "k. Good: far above chance, median rank near 1. Ties count against the model. mAP counts "
        "every event of the same class as a hit."
    )
    row = Retrieval
    columns = (
        *(Column(f"R@{k} %", f"recall_at_{k}", chance=_chance(k)) for k in (1, 5, 10)),
        Column(
            "median rank", "median_rank", "number", "g", ".1f", lambda row: (row.events + 1) / 2
        ),
        Column("mAP %", "mean_average_precision"),
    )
    ranked_by = "recall_at_10"
    scores = (
        *(
            Score(
                f"R@{k}",
                mean_of(f"recall_at_{k}"),
                chance=lambda rows, k=k: mean(map(_chance(k), rows)),  # type: ignore[misc]
            )
            for k in (1, 10)
        ),
        Score("mAP", mean_of("mean_average_precision")),
    )
    narrow = False
    periodic = True

    def measure(self, held: Pair) -> Numbers:
        """Return recalls, median rank and, where events are labelled, mAP."""
        labels = held.labels if (held.labels >= 0).any() else None
        found = retrieval(held.source, held.target, held.own, held.received, labels)
        return found.model_dump(exclude={"source", "target"})

    def cards(self, rows: Rows, split: str) -> list[Card]:
        """Return R@1 and R@10."""
        return [
            Card(
                f"Retrieval R@{k}",
                percent_sign(mean(getattr(row, f"recall_at_{k}") for row in rows)),
                f"mean over {count_of(len(rows), 'direction')}, {split}; "
                f"chance {percent_sign(mean(map(_chance(k), rows)))}",
            )
            for k in (1, 10)
            if rows
        ]

    def facts(self, rows: Rows) -> dict[str, Any]:
        """Return the means over directions, the worst of them, and the smallest gallery."""
        names = ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank")
        return {
            "gallery": min(row.events for row in rows),
            **{name: mean(getattr(row, name) for row in rows) for name in names},
            "worst_recall_at_10": min(row.recall_at_10 for row in rows),
            "mean_average_precision": mean(row.mean_average_precision for row in rows),
        }


def retrieval(
    source: str,
    target: str,
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    labels: NDArray[np.integer] | None,
) -> Retrieval:
    """Rank the target's events by cosine for every query of the source.

    For recall and median rank the true pair is the only positive. For mean average precision every
    gallery item of the query's class is relevant.

    Parameters
    ----------
    source, target
        The clients i and j.
    queries, gallery
        z_ij and z_ji, shape (N, d); row k of both is the same event.
    labels
        Shape (N,), -1 where unknown, or None. For mAP, events of unknown class are neither queries
        nor in the gallery.

    Notes
    -----
    Ties count against the model: the true pair is ranked behind everything that is equally similar,
    and a relevant item behind all irrelevant ones. So a constant embedding gets R@k = 0 wherever
    N > k, and rank N. Zero vectors come last.

    Raises
    ------
    ValueError
        The shapes differ, or N is 0.
    RunError
        An embedding is not finite.
    """
    a, b = paired(queries, gallery, f"retrieval {source} -> {target}")
    if labels is not None and labels.shape != (len(a),):
        raise ValueError(
            f"retrieval {source} -> {target}: labels have shape {labels.shape} for {len(a)} events"
        )
    ranks = np.empty(len(a), dtype=np.int64)
    precisions: list[float] = []
    for rows, similarity in cosines(a, b):
        own = similarity[np.arange(len(rows)), rows]
        ranks[rows] = (similarity >= own[:, None] - TIE).sum(axis=1)
        if labels is not None:
            precisions += _average_precisions(similarity, labels[rows], labels)
    return Retrieval(
        source=source,
        target=target,
        events=len(a),
        recall_at_1=float((ranks <= 1).mean()),
        recall_at_5=float((ranks <= 5).mean()),
        recall_at_10=float((ranks <= 10).mean()),
        median_rank=float(np.median(ranks)),
        mean_average_precision=float(np.mean(precisions)) if precisions else None,
    )


def _average_precisions(
    similarity: NDArray[np.float64], query_labels: NDArray[np.integer], labels: NDArray[np.integer]
) -> list[float]:
    """Return the average precision of every query of known class; `similarity` is (queries, N)."""
    known = labels >= 0
    return [
        _average_precision(row[known & (labels == label)], row[known & (labels != label)])
        for row, label in zip(similarity, query_labels, strict=True)
        if label >= 0
    ]


def _average_precision(relevant: NDArray[np.float64], irrelevant: NDArray[np.float64]) -> float:
    """Return the mean precision at the relevant items' ranks; ties put irrelevant items first."""
    ascending = np.sort(relevant)
    ahead = len(irrelevant) - np.searchsorted(np.sort(irrelevant), ascending - TIE, side="left")
    found = np.arange(len(ascending), 0, -1)
    return float(np.mean(found / (found + ahead)))
