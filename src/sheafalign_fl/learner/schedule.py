"""Which events form which exchange's batches: the same for all clients, from the shared seed."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config.schema import TrainingSettings
from sheafalign_fl.seeding import numpy_generator

MIN_SHARED = 2
"""An edge takes part in a batch if both ends have at least this many of its events: one event has
no negatives."""


class BatchSchedule:
    """Every epoch is a fresh permutation of the agreed events, cut into batches.

    A short last batch is left out. An exchange takes the next `batches` batches of `batch_size`
    events.
    """

    def __init__(self, count: int, batch_size: int, seed: int, batches: int = 1) -> None:
        """Schedule batches of `batch_size` out of `count` agreed events.

        Raise `ValueError` if there are too few.
        """
        if not 1 <= batch_size <= count:
            raise ValueError(f"a batch of {batch_size} cannot be drawn from {count} events")
        self.count, self.batch_size, self.seed, self.batches = count, batch_size, seed, batches
        self.batches_per_epoch = count // batch_size
        self._permutation = lru_cache(maxsize=2)(self._draw)

    @classmethod
    def of(cls, training: TrainingSettings, count: int, seed: int) -> "BatchSchedule":
        """Return the schedule that `training` describes over `count` agreed events."""
        return cls(count, training.batch_size, seed, training.batches)

    def positions(self, exchange: int) -> NDArray[np.intp]:
        """Return the positions in the agreed list of the events of `exchange`.

        The shape is (batches * batch_size,).
        """
        first = exchange * self.batches
        return np.concatenate([self.batch(index) for index in range(first, first + self.batches)])

    def shared(self, has: NDArray[np.bool_], exchange: int) -> NDArray[np.bool_]:
        """Return which events of `exchange` an edge exchanges, shape (batches * batch_size,).

        Parameters
        ----------
        has
            Mask over the agreed list: both ends have the event.

        Notes
        -----
        A batch of which the two ends share fewer than `MIN_SHARED` events is left out as a whole.
        """
        mask = has[self.positions(exchange)].reshape(self.batches, self.batch_size)
        enough = mask.sum(axis=1, keepdims=True) >= MIN_SHARED
        both: NDArray[np.bool_] = (mask & enough).reshape(-1)
        return both

    def batch(self, number: int) -> NDArray[np.intp]:
        """Return the positions of the `number`th batch since the start, shape (batch_size,)."""
        epoch, index = divmod(number, self.batches_per_epoch)
        return self._permutation(epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def _draw(self, epoch: int) -> NDArray[np.intp]:
        return numpy_generator(self.seed, "batches", epoch).permutation(self.count).astype(np.intp)
