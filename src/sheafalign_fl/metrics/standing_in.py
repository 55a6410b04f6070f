"""What stands in for a part that is missing: one ridge regression from all parts that are there.

A part is a client's h, or, at a client, what it has of a neighbour. All subsets are solved from one
covariance, of training events; a second one, of the tested events, says how much stays unexplained.
Neither needs a label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.moments import Affine, Moments, ridge

Matrix = NDArray[np.float64]
MOST_SOURCES = 6
"""Of more neighbours the first ones of the configuration stand in: each doubles the subsets."""


def sources_of(neighbours: Mapping[str, int]) -> dict[str, int]:
    """Return those neighbours of one client, with their d_e, whose embeddings stand in for it."""
    return dict(list(neighbours.items())[:MOST_SOURCES])


@dataclass(frozen=True)
class StandIn:
    """How one part follows from others.

    Attributes
    ----------
    fitted
        Moments of training events: the columns of every source, one after the other, then the
        part's own.
    given
        Source -> what it gives of the tested events, shape (N, width); in the order of the columns.
    """

    fitted: Moments
    given: Mapping[str, NDArray[np.floating]]

    @classmethod
    def of(
        cls, fitted: Moments, widths: Mapping[str, int], given: Mapping[str, NDArray[np.floating]]
    ) -> Self | None:
        """Return what stands in, by those sources that sent something and are given; None by none.

        Parameters
        ----------
        fitted
            As in the class, of all of `widths`; what was never sent has no variance.
        widths
            Source -> how many columns it has, in order.
        """
        ends = np.cumsum(list(widths.values())).tolist()
        columns = {
            source: np.arange(end - width, end)
            for (source, width), end in zip(widths.items(), ends, strict=True)
        }
        variance = np.diag(fitted.covariance)
        used = [source for source, at in columns.items() if source in given and variance[at].any()]
        if fitted.count < 2 or not used:
            return None
        own = np.arange(ends[-1], len(fitted.mean))
        chosen = np.concatenate([*(columns[source] for source in used), own])
        return cls(fitted.take(chosen), {source: given[source] for source in used})

    def by(self, present: Sequence[str]) -> Affine | None:
        """Return the map from those sources that are present; None if none of them is."""
        columns = self._columns(present)
        if not len(columns):
            return None
        own = np.arange(self._width, len(self.fitted.mean))
        return ridge(self.fitted.take(np.concatenate([columns, own])), len(columns)).map

    def sources(self, present: Sequence[str]) -> tuple[str, ...]:
        """Return which of those that are present it follows from, in order."""
        return tuple(source for source in self.given if source in present)

    def received(self, present: Sequence[str]) -> NDArray[np.floating]:
        """Return what `by` takes of the tested events, shape (N, width)."""
        return np.concatenate([self.given[source] for source in self.sources(present)], axis=1)

    def left(self, fitted: Affine, present: Sequence[str], true: Moments) -> float:
        """Return the mean square error of `fitted` on tested events, by dimension.

        `true` are the moments of the tested events, as `tested` returns them.
        """
        own = np.arange(self._width, len(true.mean))
        return fitted.residual(true.take(np.concatenate([self._columns(present), own])))

    def tested(self, own: NDArray[np.floating]) -> Moments:
        """Return the moments of the tested events, given the part's own values (N, d)."""
        return Moments.of(np.concatenate([*self.given.values(), own], axis=1))

    @cached_property
    def _width(self) -> int:
        return sum(values.shape[1] for values in self.given.values())

    def _columns(self, present: Sequence[str]) -> NDArray[np.intp]:
        start, found = 0, [np.zeros(0, dtype=np.intp)]
        for source, values in self.given.items():
            if source in present:
                found.append(np.arange(start, start + values.shape[1]))
            start += values.shape[1]
        return np.concatenate(found)
