"""What every metric asks of its arrays."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError, RunError

TIE = 1e-12
"""Cosines closer than this are equal: matrix products of equal vectors differ by a few units in the
last place."""
_BLOCK_CELLS = 4_000_000
"""Similarities held at a time (32 MB), so that memory grows with N and not with N^2."""
_DEAD = -2.0
"""Stands for the cosine with a zero vector, which is ranked behind everything."""


def embeddings(values: NDArray[np.floating], what: str) -> NDArray[np.float64]:
    """Return (N, d) `values` in double precision.

    Raises
    ------
    ValueError
        They have another number of axes, or there are none.
    RunError
        A value is NaN or infinite. No score is made up for a client that diverged.
    """
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(
            f"{what}: embeddings must have shape (events, dimension) and not be empty, not "
            f"{values.shape}"
        )
    if not np.isfinite(values).all():
        raise RunError(
            f"{what}: embeddings hold NaN or infinity; training has diverged (try a lower learning "
            "rate)"
        )
    return values.astype(np.float64)


def paired(
    a: NDArray[np.floating], b: NDArray[np.floating], what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `embeddings` of the same events in one space; raise `ValueError` if shapes differ."""
    if a.shape != b.shape:
        raise ValueError(
            f"{what}: the two ends must have the same shape, not {a.shape} and {b.shape}"
        )
    return embeddings(a, what), embeddings(b, what)


def unit_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows of `values` scaled to length 1; rows of zeros stay zeros."""
    # The largest entry goes first, so that squaring neither overflows nor vanishes.
    values = values / _or_one(np.abs(values).max(axis=1, keepdims=True))
    return values / _or_one(np.linalg.norm(values, axis=1, keepdims=True))


def cosines(
    queries: NDArray[np.float64], gallery: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Yield some rows of `queries` (N, d) at a time, and their cosines with `gallery` (N, d).

    The cosines, shape (rows, N), are the caller's own. Those with a zero vector are lower than any.
    """
    a, b = unit_rows(queries), unit_rows(gallery)
    dead_a, dead_b = ~np.any(a, axis=1), ~np.any(b, axis=1)
    step = max(1, _BLOCK_CELLS // len(b))
    for start in range(0, len(a), step):
        rows = np.arange(start, min(start + step, len(a)))
        similarity = a[rows] @ b.T
        similarity[:, dead_b] = _DEAD
        similarity[dead_a[rows]] = _DEAD
        yield rows, similarity


def labelled(
    values: NDArray[np.floating], labels: NDArray[np.integer], what: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the rows of `values` (N, d) whose label is known (not negative), and these labels.

    Raises
    ------
    ValueError
        There is not one label for each row.
    DataError
        No row has a label.
    """
    if labels.shape != values.shape[:1]:
        raise ValueError(
            f"{what}: labels have shape {labels.shape} for embeddings of shape {values.shape}"
        )
    known = labels >= 0
    if not known.any():
        raise DataError(
            f"{what}: none of {len(labels)} events has a label, and this metric needs labels"
        )
    return embeddings(values[known], what), labels[known].astype(np.int64)


def _or_one(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(sizes > 0, sizes, 1.0)
