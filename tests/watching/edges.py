"""A made edge whose two ends learn to agree, as in training, and what can go wrong with it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]


def learning(
    seed: int, looks: int, *, events: int = 64, dim: int = 8, tempo: float = 30.0
) -> Iterator[Batch]:
    """Yield (own, theirs): noise at first, then more and more of a common signal."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(5, dim))
    for look in range(looks):
        learnt = 1 - 0.9 * np.exp(-look / tempo)
        signal = rng.normal(size=(events, 5)) @ weights
        size = 1 + 0.5 * np.exp(-look / (2 * tempo))
        ends = [
            size * (learnt * signal + (1.2 - learnt) * rng.normal(size=signal.shape))
            for _ in range(2)
        ]
        yield ends[0].astype(np.float32), ends[1].astype(np.float32)
