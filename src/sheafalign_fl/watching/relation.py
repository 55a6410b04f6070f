"""Whether what an edge's ends hold is about the same events at all.

An edge that was well aligned and whose retrieval falls to chance from one exchange to the next is
fed with something else: noise, other events, another sensor. Training on it would teach this
client, and through its encoder all its other edges, that unrelated things belong together.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.watching.receipt import Refusal

_WARM_UP = 20
_RATE = 0.1
_ALIGNED = 0.25
"""Mean rank up to which an edge counts as aligned; chance is 0.5. Above, nothing can be told
yet."""
_LEAST_RISE = 0.15
_ERRORS = 6.0
_ERROR = 0.5 / math.sqrt(3)
"""Standard deviation of one rank by chance, which is uniform between 0 and 1."""


class Relation:
    """The usual rank of one directed edge, learnt from the exchanges that were trained on."""

    def __init__(self) -> None:
        self._level, self._count = 0.5, 0

    def check(self, rank: float, events: int) -> Refusal | None:
        """Return why a batch is refused, or None and learn from it.

        Parameters
        ----------
        rank
            Of the true event among the batch's, 0 best, 0.5 chance (`statistics.Measures`).
        """
        bound = self._level + max(_LEAST_RISE, _ERRORS * _ERROR / math.sqrt(2 * events))
        if self._count >= _WARM_UP and self._level <= _ALIGNED and rank > bound:
            return Refusal("unrelated", rank, bound)
        self._level += _RATE * (rank - self._level)
        self._count += 1
        return None

    def state(self) -> NDArray[np.float64]:
        """Return what was learnt."""
        return np.array([self._level, float(self._count)])

    def load(self, state: NDArray[np.float64]) -> None:
        """Restore what `state` returned."""
        self._level, self._count = float(state[0]), int(state[1])
