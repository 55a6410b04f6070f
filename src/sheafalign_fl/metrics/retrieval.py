"""Cross-modal retrieval in a comparison space (DESIGN section 5.1)."""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.vectors import paired, unit_rows
from sheafalign_fl.protocol.rows import Retrieval

_BLOCK_CELLS = 4_000_000
"""Similarities held at a time (32 MB), so that memory grows with N and not with N^2."""
_TIE = 1e-12
"""Cosines closer than this are equal: matrix products of equal vectors differ by a few units in the last place."""
_DEAD = -2.0
"""Stands for the cosine with a zero vector, which is ranked behind everything."""


def retrieval(
    source: str,
    target: str,
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    labels: NDArray[np.integer] | None,
) -> Retrieval:
    """Rank the target's events by cosine for every query of the source.

    For recall and median rank the true pair is the only positive. For mean average precision every gallery item of the
    query's class is relevant.

    Parameters
    ----------
    source, target
        The clients i and j.
    queries, gallery
        z_ij and z_ji, shape (N, d); row k of both is the same event.
    labels
        Shape (N,), -1 where unknown, or None. For mAP, events of unknown class are neither queries nor in the gallery.

    Notes
    -----
    Ties count against the model: the true pair is ranked behind everything that is equally similar, and a relevant item
    behind all irrelevant ones. So a constant embedding gets R@k = 0 wherever N > k, and rank N. Zero vectors come last.

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
    a, b = unit_rows(a), unit_rows(b)
    dead_a, dead_b = np.flatnonzero(~np.any(a, axis=1)), np.flatnonzero(~np.any(b, axis=1))
    ranks = np.empty(len(a), dtype=np.int64)
    precisions: list[float] = []
    step = max(1, _BLOCK_CELLS // len(a))
    for start in range(0, len(a), step):
        rows = np.arange(start, min(start + step, len(a)))
        similarity = a[rows] @ b.T
        similarity[:, dead_b] = _DEAD
        similarity[np.isin(rows, dead_a)] = _DEAD
        own = similarity[np.arange(len(rows)), rows]
        ranks[rows] = (similarity >= own[:, None] - _TIE).sum(axis=1)
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
    """Return the mean, over the relevant items, of the precision at their rank; ties put irrelevant items first."""
    ascending = np.sort(relevant)
    ahead = len(irrelevant) - np.searchsorted(np.sort(irrelevant), ascending - _TIE, side="left")
    found = np.arange(len(ascending), 0, -1)
    return float(np.mean(found / (found + ahead)))
