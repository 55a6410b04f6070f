"""Which events form the batch of which exchange: the same for all clients, from the shared seed."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.seeding import numpy_generator


class BatchSchedule:
    """Every epoch is a fresh permutation of the agreed events, cut into batches; a short last batch is left out."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        """Schedule batches of `batch_size` out of `count` agreed events; raise `ValueError` if there are too few."""
        if not 1 <= batch_size <= count:
            raise ValueError(f"a batch of {batch_size} cannot be drawn from {count} events")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.batches_per_epoch = count // batch_size
        self._permutation = lru_cache(maxsize=2)(self._draw)

    def positions(self, exchange: int) -> NDArray[np.intp]:
        """Return the positions in the agreed list that form the batch of `exchange`, shape (batch_size,)."""
        epoch, index = divmod(exchange, self.batches_per_epoch)
        return self._permutation(epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def _draw(self, epoch: int) -> NDArray[np.intp]:
        return numpy_generator(self.seed, "batches", epoch).permutation(self.count).astype(np.intp)
