"""Standing in for a client: h_j from its neighbours' comparison embeddings (DESIGN section 5.4).

One ridge regression from all that is present, for every subset that is asked for. All of them are
solved from one covariance, which client j computed of what it had received; so a subset costs an
eigenvalue problem of its own size and no look at an event.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.errors import DataError
from sheafalign_fl.learner import state
from sheafalign_fl.metrics.moments import Affine, Moments, Ridge, ridge
from sheafalign_fl.shares.facts import ShareFacts

Method = Literal["ridge", "dual", "mean"]
_KEPT = 64


@dataclass(frozen=True)
class Imputed:
    """h_j as far as others know it.

    Attributes
    ----------
    values
        Shape (N, d_j).
    error
        Shape (N,): expected mean square error of each row, by dimension. It is measured on events
        of the final evaluation where there were any, else estimated by cross-validation. NaN where
        nothing is known of it.
    floor
        The same of the training mean, which needs nobody: what the error should be far below.
    method
        ridge, dual or mean.
    present
        Whose comparison embeddings it was made of.
    """

    values: NDArray[np.float32]
    error: NDArray[np.float64]
    floor: float
    method: Method
    present: tuple[str, ...]

    @property
    def unexplained(self) -> float:
        """Mean error by the floor: 0 is perfect, 1 no better than the training mean."""
        return float(self.error.mean()) / self.floor if self.floor > 0 else float("nan")


class Imputation:
    """What one client's embedding is imputed by."""

    def __init__(
        self, facts: ShareFacts, fitted: Moments, held_out: Moments | None, events: int
    ) -> None:
        """Keep the moments of [z of each neighbour, h] of training and of evaluation."""
        assert facts.imputation is not None  # noqa: S101 - `of` has looked
        self.client, self.dim, self.events = facts.client, facts.dim, events
        self.neighbours = facts.imputation.neighbours
        widths = [facts.neighbours[neighbour] for neighbour in self.neighbours]
        ends = np.cumsum(widths).tolist()
        self._columns = {
            neighbour: np.arange(end - width, end)
            for neighbour, width, end in zip(self.neighbours, widths, ends, strict=True)
        }
        self._own = np.arange(ends[-1], ends[-1] + facts.dim)
        self._fitted, self._held_out = fitted, held_out
        self._solve: Callable[[tuple[str, ...]], Ridge] = lru_cache(_KEPT)(self._solved)

    @classmethod
    def of(cls, facts: ShareFacts, tensors: Mapping[str, Tensor]) -> Self | None:
        """Return the imputation of a share, if it has one.

        Raises
        ------
        KeyError, ValueError
            The tensors are not those that the facts tell of.
        """
        said = facts.imputation
        if said is None:
            return None
        size = sum(facts.neighbours[neighbour] for neighbour in said.neighbours) + facts.dim
        fitted = _moments(tensors, "imputation.", said.events, size)
        held_out = _moments(tensors, "held_out.", said.held_out, size) if said.held_out else None
        return cls(facts, fitted, held_out, said.events)

    def ridge(self, received: Mapping[str, NDArray[np.floating]]) -> Imputed:
        """Return h_j by the ridge regression from all that is present.

        Parameters
        ----------
        received
            Neighbour -> z, shape (N, d_e), at least one.
        """
        present = self._order(received)
        solved = self._solve(present)
        x = np.concatenate([received[neighbour] for neighbour in present], axis=1)
        error = self._error(present, solved.map)
        grown = solved.spread(x) * error
        return self._imputed(solved.map.apply(x), grown, "ridge", present)

    def dual(
        self, lifted: Mapping[str, NDArray[np.floating]], maps: Mapping[str, Affine]
    ) -> Imputed:
        """Return h_j as the mean of what the dual maps make of each neighbour's z.

        Parameters
        ----------
        lifted
            Neighbour -> Q_ji z, shape (N, d_j).
        maps
            Neighbour -> the dual map, for the error; empty where it is not affine.
        """
        present = self._order(lifted)
        values = np.mean([lifted[neighbour] for neighbour in present], axis=0)
        error = float("nan")
        if set(present) <= set(maps):
            share = 1 / len(present)
            weights = np.concatenate([maps[n].weights * share for n in present])
            bias = np.sum([maps[n].bias * share for n in present], axis=0)
            error = self._error(present, Affine(weights, bias))
        return self._imputed(values, np.full(len(values), error), "dual", present)

    def mean(self, count: int) -> Imputed:
        """Return the training mean for `count` events: what needs nobody."""
        mean = self._fitted.mean[self._own]
        values = np.broadcast_to(mean, (count, self.dim))
        return self._imputed(values, np.full(count, self.floor), "mean", ())

    @property
    def floor(self) -> float:
        """Mean square error of the training mean, by dimension."""
        mean = self._fitted.mean[self._own]
        nothing = Affine(np.zeros((0, self.dim)), mean)
        return nothing.residual((self._held_out or self._fitted).take(self._own))

    def _solved(self, present: tuple[str, ...]) -> Ridge:
        columns = self._given(present)
        moments = self._fitted.take(np.concatenate([columns, self._own]))
        return ridge(moments, len(columns))

    def _error(self, present: tuple[str, ...], fitted: Affine) -> float:
        """Return the error on events of the evaluation, else what the fit says of its own."""
        columns = np.concatenate([self._given(present), self._own])
        if self._held_out is None and fitted.error is not None:
            return fitted.error
        return fitted.residual((self._held_out or self._fitted).take(columns))

    def _given(self, present: Sequence[str]) -> NDArray[np.intp]:
        return np.concatenate([self._columns[neighbour] for neighbour in present])

    def _order(self, given: Mapping[str, object]) -> tuple[str, ...]:
        """Return whose are present, in the order of the columns."""
        for neighbour in given:
            if neighbour not in self._columns:
                raise DataError(
                    f"'{self.client}' cannot be imputed from '{neighbour}', which sent it too "
                    f"little in training; known: {', '.join(self.neighbours)}"
                )
        return tuple(neighbour for neighbour in self.neighbours if neighbour in given)

    def _imputed(
        self,
        values: NDArray[np.floating],
        error: NDArray[np.float64],
        method: Method,
        present: tuple[str, ...],
    ) -> Imputed:
        return Imputed(values.astype(np.float32), error, self.floor, method, present)


def _moments(tensors: Mapping[str, Tensor], prefix: str, count: int, size: int) -> Moments:
    parts = state.below(prefix, tensors)
    mean, covariance = parts["mean"].numpy(), parts["covariance"].numpy()
    if mean.shape != (size,) or covariance.shape != (size, size):
        raise ValueError(f"the moments of {prefix[:-1]} are not of {size} columns")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"the moments of {prefix[:-1]} are not finite")
    return Moments(count, mean, covariance)
