"""GPS of the served user: position and speed along the road, with metres of error and a bias for each drive."""

import numpy as np

from sheafalign_fl.data.scenes.world import Array, World

BIAS, JITTER, SPEED_ERROR = 1.5, 0.6, 0.4
"""Standard deviations: of the bias of a sequence (multipath), of a reading (m), of the speed (m/s)."""


def read(world: World, rng: np.random.Generator) -> Array:
    """Return readings (E, 4): x, y, velocity along x, and speed; about zero mean and unit scale."""
    bias = rng.normal(0.0, BIAS, (int(world.sequence.max()) + 1, 2))[world.sequence]
    position = world.centre[:, 0] + bias + rng.normal(0.0, JITTER, (len(world), 2))
    velocity = world.velocity[:, 0] + rng.normal(0.0, SPEED_ERROR, len(world))
    reading = [position[:, 0] / 10.0, (position[:, 1] - 13.5) / 4.0, velocity / 9.0, (np.abs(velocity) - 9.0) / 5.0]
    return np.stack(reading, axis=1).astype(np.float32)
