"""Probabilities that mean what they say, for every subset of sensors that may be present."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.seeding import numpy_generator

Matrix = NDArray[np.float64]
_EACH = 6
"""Up to so many sensors every subset is calibrated by itself; beyond, all of one size together."""
_OF_A_SIZE = 8
_STEPS = 60
_FOLDS = 5


def groups(sensors: int) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """Yield (key, subsets of the sensors 0, 1, ... that are calibrated together).

    Of more than `_EACH` sensors some subsets stand for all of their size, at even distances in
    lexicographic order.
    """
    for size in range(1, sensors + 1):
        found = list(combinations(range(sensors), size)) if sensors <= _EACH else []
        if found:
            yield from ((group_of(subset, sensors), [subset]) for subset in found)
        else:
            yield size, _some(sensors, size)


def group_of(subset: tuple[int, ...], sensors: int) -> int:
    """Return the key of the group that a subset belongs to."""
    return sum(1 << sensor for sensor in subset) if sensors <= _EACH else len(subset)


def _some(sensors: int, size: int) -> list[tuple[int, ...]]:
    starts = np.linspace(0, sensors, _OF_A_SIZE, endpoint=False).astype(int).tolist()
    chosen = {tuple(sorted((start + k) % sensors for k in range(size))) for start in starts}
    return sorted(chosen)


def folds(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of at most five folds each event is in; every class is spread over them all."""
    order = numpy_generator(0, "folds").permutation(len(codes))
    fold = np.empty(len(codes), dtype=np.int64)
    for code in np.unique(codes):
        members = order[codes[order] == code]
        fold[members] = np.arange(len(members)) % min(_FOLDS, len(codes))
    return fold


def temperature(logits: Matrix, codes: NDArray[np.int64]) -> float:
    """Return T > 0 that softmax(logits / T) has the least negative log likelihood with.

    Parameters
    ----------
    logits
        Shape (N, K); -inf where a class was unknown.
    codes
        Shape (N,): the true column of each row.

    Notes
    -----
    The likelihood is convex in 1 / T, so its derivative is bisected (Guo et al., 2017).
    """
    known = np.isfinite(logits[np.arange(len(codes)), codes])
    logits, codes = logits[known], codes[known]
    if not len(codes):
        return 1.0
    own = logits[np.arange(len(codes)), codes]
    finite = np.where(np.isfinite(logits), logits, 0.0)
    low, high = np.log(1e-2), np.log(1e2)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        p = softmax(logits * np.exp(middle))
        if float(np.mean((p * finite).sum(axis=1) - own)) > 0:
            high = middle
        else:
            low = middle
    return float(np.exp(-(low + high) / 2))


def softmax(logits: Matrix) -> Matrix:
    """Return probabilities, shape (N, K), each row with sum 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(logits: Matrix) -> Matrix:
    """Return the probability of each logit by itself."""
    probabilities: Matrix = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return probabilities
