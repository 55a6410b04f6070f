"""What an edge's embeddings must be before a step is taken with them.

A refusal leaves out this one edge of this one exchange. It is about values that would do harm or
cannot be honest; what is merely odd is the watch's affair (`sheafalign_fl.watching.watch`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.watching.statistics import row_hashes

FIRST = 8
"""Exchanges that an edge has to have passed before its own past sets the bounds."""
FIRST_BOUND = 1e3
"""Until then: largest root mean square of a row's values. Embeddings start near 1, whatever the
encoder."""
TYPICAL_FACTOR, LARGEST_FACTOR = 10.0, 100.0
"""How much the median and the largest row norm may exceed their own past; in ordinary training both
move by percents from one exchange to the next, but a single odd event may be far out."""
MOST_FACTOR = 1e4
"""However unsteady an edge's past is, this is the most that it may exceed it by."""
_DEVIATIONS = 10.0
_LOG_FACTORS = np.log([TYPICAL_FACTOR, LARGEST_FACTOR])
_WINDOW = 32
"""Exchanges that bounds are learnt from."""
_PROBES = 4
"""Rows of an exchange that are remembered by hash, to know its repetition; three of them have to
come again."""
_REMEMBERED = 512
_MOST_ALIKE = 0.02
"""Where more pairs of a batch's rows than this are equal, rows come again by chance and repetition
proves nothing."""
_LEAST = 8
"""Rows below which neither repetition nor constancy proves anything."""

Fault = Literal["finite", "norm", "repetition", "constant", "unrelated"]


@dataclass(frozen=True)
class Refusal:
    """Why an edge's embeddings of one exchange are not used."""

    fault: Fault
    value: float
    bound: float
    """norm: the norm and its bound; repetition: the exchange that is repeated; constant: distinct
    rows, usual share; unrelated: the rank and its bound."""


class Receipt:
    """The checks of one directed edge, with what they have learnt from its past."""

    def __init__(self) -> None:
        self._past = np.empty((0, 3))
        """Accepted exchanges: log of the median and of the largest row norm, share of distinct
        rows."""
        self._hashes = np.empty((0, _PROBES), dtype=np.uint64)
        self._events = np.empty((0, _PROBES), dtype=np.int64)
        self._exchanges = np.empty(0, dtype=np.int64)

    def check(
        self, values: NDArray[np.floating], events: NDArray[np.integer], exchange: int
    ) -> Refusal | None:
        """Return why `values` are refused, or None and learn from them.

        Parameters
        ----------
        values
            z_ji as decoded, shape (N, d_e).
        events
            Position of each row's event in the agreed list, shape (N,).
        """
        if (wrong := not_finite(values)) is not None:
            return wrong
        if not len(values):
            return None
        hashes = row_hashes(values)
        _, counts = np.unique(hashes, return_counts=True)
        seen = np.array([*_norms(values), len(counts) / len(values)])
        refusal = (
            self._norm(seen, values.shape[1])
            or self._constant(seen, len(values))
            or self._repetition(hashes, events, counts)
        )
        if refusal is None:
            self._learn(seen, hashes, events, exchange)
        return refusal

    def check_held_out(self, values: NDArray[np.floating]) -> Refusal | None:
        """Return why embeddings of held-out events, shape (N, d_e), cannot be measured, or None.

        They have to be finite and within the norms that training has taught; nothing is learnt.
        """
        if (wrong := not_finite(values)) is not None:
            return wrong
        return self._norm(np.array(_norms(values)), values.shape[1]) if len(values) else None

    def _norm(self, seen: NDArray[np.float64], dim: int) -> Refusal | None:
        if len(self._past) < FIRST:
            bound = FIRST_BOUND * math.sqrt(dim)
            norm = math.exp(seen[1])
            return Refusal("norm", norm, bound) if norm > bound else None
        usual = _median(self._past[:, :2])
        scatter = 1.4826 * _median(np.abs(self._past[:, :2] - usual))
        margin = np.clip(_DEVIATIONS * scatter, _LOG_FACTORS, math.log(MOST_FACTOR))
        for norm, bound in zip(seen[:2].tolist(), (usual + margin).tolist(), strict=True):
            if norm > bound:
                return Refusal("norm", math.exp(norm), math.exp(bound))
        return None

    def _constant(self, seen: NDArray[np.float64], count: int) -> Refusal | None:
        if len(self._past) < FIRST or count < _LEAST or seen[2] * count > 1:
            return None
        usual = float(_median(self._past[:, 2]))
        return Refusal("constant", seen[2], usual) if usual > 0.5 else None

    def _repetition(
        self,
        hashes: NDArray[np.uint64],
        events: NDArray[np.integer],
        counts: NDArray[np.intp],
    ) -> Refusal | None:
        """Refuse rows that came before in the same places, for other events."""
        size = len(hashes)
        if size < _LEAST or (counts * (counts - 1)).sum() > _MOST_ALIKE * size * (size - 1):
            return None
        places = _places(size)
        again = (self._hashes == hashes[places]) & (self._events != events[places])
        found = np.flatnonzero(again.sum(axis=1) >= _PROBES - 1)
        if not len(found):
            return None
        return Refusal("repetition", float(self._exchanges[found[-1]]), 0.0)

    def _learn(
        self,
        seen: NDArray[np.float64],
        hashes: NDArray[np.uint64],
        events: NDArray[np.integer],
        exchange: int,
    ) -> None:
        self._past = np.vstack([self._past, seen])[-_WINDOW:]
        if len(hashes) < _LEAST:
            return
        places = _places(len(hashes))
        self._hashes = np.vstack([self._hashes, hashes[places]])[-_REMEMBERED:]
        self._events = np.vstack([self._events, events[places]])[-_REMEMBERED:]
        self._exchanges = np.append(self._exchanges, exchange)[-_REMEMBERED:]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that was learnt, as arrays by name."""
        return {
            "past": self._past,
            "hashes": self._hashes.view(np.int64),
            "events": self._events,
            "exchanges": self._exchanges,
        }

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what `state` returned."""
        self._past = state["past"].astype(np.float64)
        self._hashes = state["hashes"].astype(np.int64).view(np.uint64)
        self._events = state["events"].astype(np.int64)
        self._exchanges = state["exchanges"].astype(np.int64)


def not_finite(values: NDArray[np.floating]) -> Refusal | None:
    """Refuse values that are no numbers or infinite."""
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    return Refusal("finite", float(wrong), 0.0) if wrong else None


def _norms(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return log of the median and of the largest row norm; both may exceed what a float32 can."""
    largest = float(np.abs(values).max()) or 1.0
    norms = largest * np.linalg.norm(values.astype(np.float64) / largest, axis=1)
    return _log(float(_median(norms))), _log(float(norms.max()))


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lower median along the first axis: it is one of the values, and quickly found."""
    middle: NDArray[np.float64] = np.sort(values, axis=0)[(len(values) - 1) // 2]
    return middle


def _places(size: int) -> NDArray[np.intp]:
    return np.linspace(0, size - 1, _PROBES).astype(np.intp)


def _log(norm: float) -> float:
    return math.log(max(norm, 1e-300))
