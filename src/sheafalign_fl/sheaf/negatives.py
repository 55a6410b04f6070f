"""Which events of a batch are no negatives of each other, because they are the same event twice."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def false_negatives(
    codes: NDArray[np.int64], ids: NDArray[Any], span: int
) -> NDArray[np.bool_] | None:
    """Return the mask of pairs that contrast must not push apart, (B, B); None where there is none.

    Symmetric, and false on the diagonal, where the positives are.

    Parameters
    ----------
    codes
        (B,): events with one code are equal to some client.
    ids
        (B,): their ids. Numbers that differ by less than `span` are of windows that overlap.
    span
        How many successive ids share samples; 1: none do.
    """
    mask = codes[:, None] == codes[None, :]
    if span > 1 and ids.dtype.kind in "iu":
        mask |= np.abs(ids[:, None] - ids[None, :]) < span
    np.fill_diagonal(mask, False)
    return mask if mask.any() else None
