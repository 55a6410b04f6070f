"""Means and covariances, and the affine maps that are solved from them in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
_PENALTIES = np.logspace(-8, 1, 19)
"""Candidates for the ridge penalty, relative to the mean variance of the given columns."""


@dataclass(frozen=True)
class Moments:
    """Of M rows of D columns: all that a linear fit needs of them, and none of them.

    Attributes
    ----------
    count
        M.
    mean
        Shape (D,).
    covariance
        Shape (D, D); divided by M.
    """

    count: int
    mean: Matrix
    covariance: Matrix

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Self:
        """Return the moments of `rows` (M, D), in double precision."""
        values = rows.astype(np.float64)
        mean = values.mean(axis=0)
        centred = values - mean
        return cls(len(values), mean, centred.T @ centred / len(values))

    @classmethod
    def nothing(cls, columns: int) -> Self:
        """Return the moments of no rows at all."""
        return cls(0, np.zeros(columns), np.zeros((columns, columns)))

    def packed(self) -> Matrix:
        """Return them as one array, (D + 2, D): M, the mean, and a factor of the covariance.

        The factor and not the covariance, because single precision is enough for it.
        """
        values, axes = np.linalg.eigh(self.covariance)
        factor = np.sqrt(np.maximum(values, 0.0))[:, None] * axes.T
        factor[:, np.diag(self.covariance) == 0.0] = 0.0
        head = np.zeros((1, len(self.mean)))
        head[0, 0] = self.count
        return np.concatenate([head, self.mean[None], factor])

    @classmethod
    def unpacked(cls, packed: NDArray[np.floating]) -> Self:
        """Return the moments that `packed` gave; whatever is in it, they are moments."""
        count, mean, factor = packed[0, 0], packed[1], packed[2:].astype(np.float64)
        return cls(max(0, int(count)), mean.astype(np.float64), factor.T @ factor)

    def take(self, columns: NDArray[np.intp]) -> Self:
        """Return the moments of some of the columns."""
        return type(self)(self.count, self.mean[columns], self.covariance[np.ix_(columns, columns)])


@dataclass(frozen=True)
class Affine:
    """y = x @ weights + bias.

    Attributes
    ----------
    weights, bias
        Shapes (m, d) and (d,).
    error
        Mean square of what is left of y, by dimension; None if it is not known.
    """

    weights: Matrix
    bias: Matrix
    error: float | None = None

    def apply(self, x: NDArray[np.floating]) -> Matrix:
        """Return y, shape (N, d), for x of shape (N, m)."""
        y: Matrix = x.astype(np.float64) @ self.weights + self.bias
        return y

    def residual(self, moments: Moments) -> float:
        """Return the mean square of y - x @ weights - bias, by dimension, over M rows.

        Parameters
        ----------
        moments
            Of the columns of x, then those of y.
        """
        m, covariance = len(self.weights), moments.covariance
        crossed = np.sum(self.weights * covariance[:m, m:])
        explained = np.sum((covariance[:m, :m] @ self.weights) * self.weights)
        offset = moments.mean[m:] - moments.mean[:m] @ self.weights - self.bias
        total = np.trace(covariance[m:, m:]) - 2 * crossed + explained + np.sum(np.square(offset))
        return max(0.0, float(total)) / len(self.bias)


@dataclass(frozen=True)
class Ridge:
    """A ridge regression, and how far a row lies outside of what it was fitted on.

    Attributes
    ----------
    map
        The regression; its error is that of generalised cross-validation.
    penalty
        Of the squared weights, by row: the minimum of mean_k ||y_k - x_k W - b||^2 + penalty
        ||W||^2.
    """

    map: Affine
    penalty: float
    _mean: Matrix
    _axes: Matrix
    _shrink: Matrix
    _count: int
    _freedom: float

    def spread(self, x: NDArray[np.floating]) -> Matrix:
        """Return by how much the squared error of each row of x (N, m) exceeds the mean one.

        A row's expected squared error grows with its leverage: 1 at an average row, more where the
        rows of the fit were few.
        """
        scores = (x.astype(np.float64) - self._mean) @ self._axes
        leverage = (1 + np.square(scores) @ self._shrink) / self._count
        grown: Matrix = (1 + leverage) / (1 + self._freedom / self._count)
        return grown


def ridge(moments: Moments, given: int, penalties: Sequence[float] | Matrix = _PENALTIES) -> Ridge:
    """Return the ridge regression of the last columns on the first `given`.

    The penalty is that of `penalties`, which are relative to the mean variance of the given
    columns, with the least generalised cross-validation error (Golub, Heath and Wahba, 1979). All
    of it follows from the moments.
    """
    covariance, count = moments.covariance, moments.count
    values, axes = np.linalg.eigh(covariance[:given, :given])
    values = np.maximum(values, 0.0)
    unit = float(values.mean()) or 1.0
    crossed = axes.T @ covariance[:given, given:]
    power = np.square(crossed).sum(axis=1)
    total = float(np.trace(covariance[given:, given:]))

    def error(penalty: float) -> float:
        shrink = 1 / (values + penalty)
        left = total - float(power @ (2 * shrink - values * np.square(shrink)))
        freedom = 1 + float(values @ shrink)
        return max(0.0, left) / max(1e-6, 1 - freedom / count) ** 2

    penalty = min((unit * float(p) for p in penalties), key=error)
    shrink = 1 / (values + penalty)
    weights = axes @ (shrink[:, None] * crossed)
    bias = moments.mean[given:] - moments.mean[:given] @ weights
    fitted = Affine(weights, bias, error(penalty) / len(bias))
    freedom = 1 + float(values @ shrink)
    return Ridge(fitted, penalty, moments.mean[:given], axes, shrink, count, freedom)
