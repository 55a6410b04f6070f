"""Labelled embeddings whose classes can be told apart."""

import numpy as np
from numpy.typing import NDArray

from tests.metrics.oracle import Array


def clusters(
    seed: int, events: int, dim: int, classes: int = 3, noise: float = 0.4, unlabelled: float = 0.0
) -> tuple[Array, NDArray[np.int64]]:
    """Return (events, dim) embeddings around one centre per class, and labels.

    The centres depend on `dim` alone.
    """
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(dim).normal(size=(classes, dim))
    labels = generator.integers(0, classes, events)
    z = centres[labels] + noise * generator.normal(size=(events, dim))
    return z, np.where(generator.random(events) < unlabelled, -1, labels)
