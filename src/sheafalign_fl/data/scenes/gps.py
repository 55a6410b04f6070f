"""The user's GPS: position and speed along the road, metres of error and a bias for each drive."""

import numpy as np

from sheafalign_fl.data.scenes.world import Array, World

BIAS, JITTER, SPEED_ERROR = 1.5, 0.6, 0.4
"""Standard deviations in the open: of the bias of a sequence (multipath), of a reading (m), of the
speed (m/s)."""
_REPORT_ERROR = 0.15
"""Standard deviation of the logarithm of the accuracy that the receiver reports."""


def read(world: World, rng: np.random.Generator) -> Array:
    """Return x, y, velocity along x, speed, reported accuracy (E, 5), all roughly standardised."""
    position, velocity, reported = fixes(world, rng)
    reading = [
        position[:, 0] / 10.0,
        (position[:, 1] - 13.5) / 4.0,
        velocity / 9.0,
        (np.abs(velocity) - 9.0) / 5.0,
        (reported - 0.25) / 0.3,
    ]
    return np.stack(reading, axis=1).astype(np.float32)


def fixes(world: World, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return measured position (E, 2), velocity along x (E,) and log reported dilution (E,).

    Position is in m, velocity in m/s.
    """
    worse = dilution(world)
    bias = rng.normal(0.0, BIAS, (int(world.sequence.max()) + 1, 2))[world.sequence]
    error = bias + rng.normal(0.0, JITTER, (len(world), 2))
    position = world.centre[:, 0] + worse[:, None] * error
    velocity = world.velocity[:, 0] + rng.normal(0.0, SPEED_ERROR, len(world))
    reported = np.log(worse) + rng.normal(0.0, _REPORT_ERROR, len(world))
    return position, velocity, reported


def dilution(world: World) -> Array:
    """Return by how much the satellites that trees hide make a fix worse, (E,): 1 in the open."""
    return np.asarray(1.0 + world.trees, dtype=np.float64)
