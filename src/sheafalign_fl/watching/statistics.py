"""What is measured on one batch of an edge, from the two ends' embeddings alone.

Some of it depends on the sender alone (size, spread, distinct, profile), some on both ends
(disagreement, rank). A fault of the sender shows in both kinds, a fault of the receiver only in the
second: so which kind moved says something about whose fault it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-9
"""A share of variance or a norm below this counts as this: what is constant has none."""


@dataclass(frozen=True)
class Measures:
    """Statistics of one batch of B events on one directed edge."""

    events: int
    size: float
    """Log of the median row norm of what was received."""
    spread: float
    """Log of the share of the mean squared norm that is variance over events: 0 if the mean is 0,
    very small if all rows are alike."""
    distinct: float
    """Share of rows that differ from all earlier rows of the batch."""
    profile: NDArray[np.float64]
    """Mean and standard deviation of every dimension, shape (2 d_e,), scaled to a vector of length
    1."""
    disagreement: float
    """Mean over events of ||u_ij - u_ji||^2 / (||u_ij||^2 + ||u_ji||^2) (DESIGN 5.5), u being z
    with each end scaled to a mean square of 1: 0 agree, 1 unrelated. A loss of angles leaves the
    two scales free and weight decay moves them, not alike; that is `size`'s affair."""
    rank: float
    """Share of other events that are at least as similar (cosine) as the event itself, both
    directions: 0 perfect, 0.5 chance, 1 opposite. Ties count half."""


def measure(sent: NDArray[np.floating], received: NDArray[np.floating]) -> Measures:
    """Return the statistics of one batch.

    Parameters
    ----------
    sent, received
        z_ij as this client has sent it and z_ji as it got it, shape (B, d_e), finite; row k of both
        is one event.

    Raises
    ------
    ValueError
        The shapes differ, or there are fewer than two events.
    """
    if sent.shape != received.shape or sent.ndim != 2 or len(sent) < 2:
        raise ValueError(f"batches of shape {sent.shape} and {received.shape} cannot be compared")
    own, theirs = sent.astype(np.float64), received.astype(np.float64)
    norms = np.sqrt(np.square(theirs).sum(axis=1))
    square = max(float(np.square(norms).mean()), FLOOR**2)
    mean = theirs.mean(axis=0)
    variance = np.square(theirs - mean).mean(axis=0)
    return Measures(
        events=len(theirs),
        size=float(np.log(max(float(np.sort(norms)[(len(norms) - 1) // 2]), FLOOR))),
        spread=float(np.log(max(float(variance.sum()) / square, FLOOR))),
        distinct=len(np.unique(row_hashes(received))) / len(received),
        profile=np.concatenate([mean, np.sqrt(variance)]) / np.sqrt(square),
        disagreement=_disagreement(own, theirs),
        rank=_rank(own, theirs),
    )


def row_hashes(values: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Return one 64-bit number for each row, equal for rows of equal values, shape (B,).

    It is a polynomial hash with fixed odd multipliers: it finds repetitions by accident, not
    collisions by design.
    """
    rows = np.ascontiguousarray(values, dtype=np.float64) + 0.0  # -0.0 and 0.0 are one value
    bits = rows.view(np.uint64)
    steps = np.arange(1, bits.shape[1] + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        odd = steps * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
        mixed = (bits ^ (bits >> np.uint64(29))) * odd
        mixed ^= mixed >> np.uint64(32)
        hashes: NDArray[np.uint64] = (mixed * odd[::-1]).sum(axis=1, dtype=np.uint64)
    return hashes


def _disagreement(own: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    own, theirs = (z / max(float(np.sqrt(np.square(z).mean())), FLOOR) for z in (own, theirs))
    both = np.square(own).sum(axis=1) + np.square(theirs).sum(axis=1)
    apart = np.square(own - theirs).sum(axis=1)
    return float(np.mean(np.divide(apart, both, out=np.zeros_like(both), where=both > 0)))


def _rank(own: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    similar = _unit(own) @ _unit(theirs).T
    true = np.diagonal(similar)
    above = (similar > true[:, None]).sum() + (similar > true[None, :]).sum()
    # Rounding splits ties of equal rows at random, which is as good as counting half.
    level = (similar == true[:, None]).sum() + (similar == true[None, :]).sum() - 2 * len(own)
    return float((above + 0.5 * level) / (2 * len(own) * (len(own) - 1)))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    units: NDArray[np.float64] = rows / np.maximum(norms, FLOOR)
    return units
