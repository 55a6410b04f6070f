"""Exact nearest neighbours among many comparison embeddings, as the metric retrieval ranks them.

The gallery is gone through in float32, some rows at a time. That decides which rows may be among
the nearest; these alone are compared again in double precision. So the result is exact, and costs
one pass over the gallery for some queries together.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from sheafalign_fl.errors import DataError
from sheafalign_fl.metrics.vectors import unit_rows

Measure = Literal["cosine", "dot"]
_CHUNK = 65_536
"""Rows of the gallery at a time."""
_QUERIES = 16
"""Queries at a time: 4 MB of similarities."""
_ROUNDING = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Found:
    """The nearest events of a gallery, for Q queries, the nearest first.

    Attributes
    ----------
    rows
        Shape (Q, k): rows of the gallery.
    scores
        Shape (Q, k): cosines (or inner products). A cosine with a vector of zeros is NaN; such
        events come last.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]


class Gallery:
    """Comparison embeddings that are searched in: N rows of d_e values, in memory (`nbytes`)."""

    def __init__(self, z: NDArray[np.floating], measure: Measure = "cosine") -> None:
        """Take z, shape (N, d_e); for cosines its rows are copied at length 1.

        Raises
        ------
        DataError
            It is empty, or the measure is neither cosine nor dot.
        """
        if measure not in ("cosine", "dot"):
            raise DataError(f"measure '{measure}': it must be cosine or dot")
        if len(z) == 0:
            raise DataError("the gallery is empty; there is nothing to find in it")
        self.measure = measure
        self._z = np.ascontiguousarray(np.asarray(z), dtype=np.float32)
        self._scan = self._z
        self._dead = np.zeros(0, dtype=np.int64)
        if measure == "cosine":
            self._scan = np.empty_like(self._z)
            for start in range(0, len(z), _CHUNK):
                rows = slice(start, start + _CHUNK)
                self._scan[rows] = unit_rows(self._z[rows].astype(np.float64))
            self._dead = np.flatnonzero(~self._z.any(axis=1))
        squares = np.einsum("nd,nd->n", self._scan, self._scan)
        longest = float(np.sqrt(squares.max()))
        self._slack = 2 * (self._z.shape[1] + 4) * _ROUNDING * longest
        """By so much of a query's length may two float32 scores differ from the exact order."""

    def __len__(self) -> int:
        """Return how many events there are."""
        return len(self._z)

    @property
    def nbytes(self) -> int:
        """Return how much memory the gallery takes."""
        return self._z.nbytes + (0 if self._scan is self._z else self._scan.nbytes)

    def search(self, queries: NDArray[np.floating], k: int = 10) -> Found:
        """Return the k nearest events (all, if there are fewer) to `queries`, shape (Q, d_e).

        Equally near ones are in the order of their rows.

        Raises
        ------
        DataError
            k is below 1, or the queries are of another dimension.
        """
        if k < 1:
            raise DataError(f"k = {k}: at least one event has to be asked for")
        if queries.ndim != 2 or queries.shape[1] != self._z.shape[1]:
            raise DataError(
                f"queries have shape {queries.shape}, but the gallery holds vectors of "
                f"{self._z.shape[1]} values"
            )
        exact = np.asarray(queries).astype(np.float64)
        if self.measure == "cosine" and len(exact):
            exact = unit_rows(exact)
        k = min(k, len(self._z))
        rows = np.empty((len(exact), k), dtype=np.int64)
        scores = np.empty((len(exact), k))
        # One pass over memory keeps one processor waiting for it; more threads would only spin.
        with _threadpools().limit(limits=1, user_api="blas"):
            for start in range(0, len(exact), _QUERIES):
                block = slice(start, start + _QUERIES)
                for at, candidates in enumerate(self._candidates(exact[block], k), start):
                    rows[at], scores[at] = self._ranked(exact[at], candidates, k)
        return Found(rows, scores)

    def _candidates(self, queries: NDArray[np.float64], k: int) -> list[NDArray[np.int64]]:
        """Return for each query the rows that may be among its k nearest."""
        narrow = queries.astype(np.float32)
        slack = self._slack * np.linalg.norm(queries, axis=1)
        nearest = [_Nearest(k, float(part)) for part in slack]
        for start in range(0, len(self._scan), _CHUNK):
            chunk = self._scan[start : start + _CHUNK]
            similarity = narrow @ chunk.T
            dead = self._dead[np.searchsorted(self._dead, start) :]
            similarity[:, dead[dead < start + len(chunk)] - start] = -np.inf
            for one, scores in zip(nearest, similarity, strict=True):
                one.take(scores, start)
        return [one.rows for one in nearest]

    def _ranked(
        self, query: NDArray[np.float64], candidates: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the k nearest of the candidates, and their scores, in double precision."""
        scores = np.empty(len(candidates))
        for start in range(0, len(candidates), _CHUNK):
            part = slice(start, start + _CHUNK)
            vectors = self._z[candidates[part]].astype(np.float64)
            if self.measure == "cosine":
                dead = ~vectors.any(axis=1)
                vectors = unit_rows(vectors)
            scores[part] = (vectors * query).sum(axis=1)
            if self.measure == "cosine":
                scores[part][dead | ~query.any()] = np.nan
        # NaN is sorted last; the sort is stable, so that equal ones stay in the order of rows.
        order = np.argsort(-scores, kind="stable")[:k]
        return candidates[order], scores[order]


@lru_cache(maxsize=1)
def _threadpools() -> ThreadpoolController:
    """Return what limits BLAS; looking for its libraries takes as long as a search."""
    return ThreadpoolController()


class _Nearest:
    """The rows that may be among the k nearest of one query, as chunks come by."""

    def __init__(self, k: int, slack: float) -> None:
        self._k, self._slack = k, slack
        self.rows = np.zeros(0, dtype=np.int64)
        self._scores = np.zeros(0, dtype=np.float32)
        self._least = -np.inf
        """A score below this is not among the k nearest, whatever rounding did."""

    def take(self, scores: NDArray[np.float32], first: int) -> None:
        """Look at the rows from `first` on."""
        if len(self.rows) < self._k and len(scores) > self._k:
            self._raise_to(np.partition(scores, len(scores) - self._k)[-self._k])
        kept = np.flatnonzero(scores >= self._least)
        if not len(kept):
            return
        self.rows = np.concatenate([self.rows, kept + first])
        self._scores = np.concatenate([self._scores, scores[kept]])
        if len(self._scores) > self._k:
            self._raise_to(np.partition(self._scores, len(self._scores) - self._k)[-self._k])
            still = self._scores >= self._least
            self.rows, self._scores = self.rows[still], self._scores[still]

    def _raise_to(self, score: np.float32) -> None:
        self._least = max(self._least, float(score) - self._slack)
