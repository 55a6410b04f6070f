"""Closed-form refinement of the maps of an edge, once training is over.

Training leaves z_ij = P_ij h_i and z_ji = P_ji h_j. From the values of the same events, which one
end holds of its own and has received of the other, follow two affine maps under which the two are
easier to compare: their product with P_ij and P_ji are the refined restriction maps. Either end
solves for both maps by itself, so not a byte is sent, and what travels stays z.

- procrustes: both are centred, and one is turned onto the other (Schoenemann, 1966, section 2).
- cca: both are centred and whitened, and each canonical direction is weighed by its canonical
  correlation (Hotelling, 1936), regularised as in Vinod (1976): directions that the two ends do
  not share count for little.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Kind = Literal["cca", "procrustes"]
PENALTY = 0.1
"""Added to every variance, in units of their mean."""
_NOTHING = 1e-12
"""A variance below this part of the largest is rounding: there is nothing in its direction."""


@dataclass(frozen=True)
class Centred:
    """z -> (z - mean) @ weights.

    Attributes
    ----------
    mean, weights
        Shapes (d_e,) and (d_e, d_e).
    """

    mean: Matrix
    weights: Matrix

    def apply(self, z: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the refined z, shape (N, d_e), of z of shape (N, d_e)."""
        refined: NDArray[np.float32] = ((z.astype(np.float64) - self.mean) @ self.weights).astype(
            np.float32
        )
        return refined


@dataclass(frozen=True)
class Refinement:
    """What one end of an edge makes of its own z and of what it received, to compare the two."""

    own: Centred
    received: Centred


def refine(
    kind: Kind,
    own: NDArray[np.floating],
    received: NDArray[np.floating],
    penalty: float = PENALTY,
) -> Refinement:
    """Return the refinement of an edge from z of the same events, each of shape (M, d_e).

    Parameters
    ----------
    own, received
        z_ij and z_ji; row k of both is the same event.
    penalty
        cca: added to every variance of an end, in units of its mean variance.

    Raises
    ------
    ValueError
        The two have different shapes, or there are no events.
    """
    if own.shape != received.shape or own.ndim != 2 or len(own) == 0:
        raise ValueError(f"own z of shape {own.shape}, received z of shape {received.shape}")
    x, y = own.astype(np.float64), received.astype(np.float64)
    means = x.mean(axis=0), y.mean(axis=0)
    x, y = x - means[0], y - means[1]
    crossed = x.T @ y / len(x)
    if kind == "procrustes":
        left, _, right = np.linalg.svd(crossed)
        turned: Matrix = left @ right
        return Refinement(Centred(means[0], turned), Centred(means[1], np.eye(x.shape[1])))
    whiten_x, whiten_y = _whitening(x, penalty), _whitening(y, penalty)
    left, correlation, right = np.linalg.svd(whiten_x @ crossed @ whiten_y)
    return Refinement(
        Centred(means[0], whiten_x @ left * correlation),
        Centred(means[1], whiten_y @ right.T * correlation),
    )


def _whitening(x: Matrix, penalty: float) -> Matrix:
    """Return the (pseudo)inverse square root, (d, d), of the regularised covariance of x."""
    variances, axes = np.linalg.eigh(x.T @ x / len(x))
    variances = np.maximum(variances, 0.0)
    variances = variances + penalty * variances.mean()
    there = variances > _NOTHING * variances.max()
    scale = np.where(there, 1 / np.sqrt(np.where(there, variances, 1.0)), 0.0)
    scaled: Matrix = axes * scale @ axes.T
    return scaled
