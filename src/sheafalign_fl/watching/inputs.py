"""The watch on a client's own inputs: a drift that learning hides in the embeddings shows here.

A sensor's offset that grows slowly is learnt away as it grows: encoder and maps follow it, step by
step, and what travels stays as it was. No training moves the inputs, so there it cannot hide.
"""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.watching.changes import WARM_UP, Change, Detector
from sheafalign_fl.watching.statistics import FLOOR

FEATURES = 256
"""So many values of an input are watched, evenly spaced."""
LEAST_ROWS = 8
_FLOOR = 0.3
"""Least scatter of the log distance."""
_RATE = 0.005
"""How fast the past forgets, once it is longer than the inverse."""
_MOST = 5.0
"""By how many deviations one value of a batch counts at most: a few odd events are no drift."""


class InputWatch:
    """Compares mean and deviation of every batch's inputs with those of the batches before."""

    def __init__(self) -> None:
        self._detector = Detector("improving", _FLOOR)
        self._count = 0.0
        self._mean, self._variance = np.empty(0), np.empty(0)
        """Of what the batches' means and deviations were."""

    def look(self, x: NDArray[np.generic]) -> Change | None:
        """Take in the inputs of one batch, shape (B, ...); return a change of the log distance.

        The distance is the mean over the watched values of ((batch - past) / usual)^2, which is
        about 1 for a batch like those before.
        """
        if len(x) < LEAST_ROWS:
            return None
        seen = _summary(x)
        if self._count == 0:
            self._mean, self._variance = seen, np.zeros_like(seen)
            self._count = 1.0
            return None
        change, gap = None, seen - self._mean
        if self._count >= WARM_UP:
            usual = np.sqrt(self._variance)
            usual = np.maximum(usual, max(FLOOR, 1e-3 * float(usual.max())))
            gap = np.clip(gap, -_MOST * usual, _MOST * usual)
            distance = float(np.mean(np.square(gap / usual)))
            change = self._detector.look(float(np.log(max(distance, FLOOR))))
        self._learn(gap)
        return change

    def _learn(self, gap: NDArray[np.float64]) -> None:
        """Move mean and variance by one more batch (Welford, with a memory that is bounded)."""
        self._count += 1
        rate = max(_RATE, 1 / self._count)
        self._mean = self._mean + rate * gap
        self._variance = (1 - rate) * (self._variance + rate * np.square(gap))

    @property
    def nearness(self) -> float:
        """How near it is to an alarm, which is at 1."""
        return self._detector.nearness

    def state(self) -> NDArray[np.float64]:
        """Return all that changes as one vector, for `load`."""
        return np.concatenate([[self._count], self._detector.state(), self._mean, self._variance])

    def load(self, state: NDArray[np.float64]) -> None:
        """Restore what `state` returned."""
        size = 1 + len(self._detector.state())
        self._count = float(state[0])
        self._detector.load(state[1:size])
        self._mean, self._variance = np.split(state[size:].copy(), 2)


def _summary(x: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return mean and deviation over the batch of the values that are watched, shape (2 D,)."""
    flat = x.reshape(len(x), -1)
    places = np.linspace(0, flat.shape[1] - 1, min(FEATURES, flat.shape[1])).astype(np.intp)
    values = np.nan_to_num(flat[:, places].astype(np.float64))
    return np.concatenate([values.mean(axis=0), values.std(axis=0)])
