"""The radar: range-Doppler and range-angle maps.

It measures radial speed, and sees metal signs that light does not.
"""

from typing import NamedTuple

import numpy as np

from sheafalign_fl.data.scenes.world import WALL, Array, World

RANGES = np.linspace(2.0, 42.0, 32)
DOPPLERS = np.linspace(-16.0, 16.0, 24)
ANGLES = np.linspace(-0.95, 0.95, 24)
"""Sine of the angle from straight across the road."""
_RANGE_WIDTH, _DOPPLER_WIDTH, _ANGLE_WIDTH = 0.9, 0.9, 0.09
_SIGN_CROSS_SECTION = 120.0
_GHOST = 0.02
"""Share of the power that comes by way of the wall and looks farther away."""
FLOOR_DB = -62.0
"""Mean noise of a bin of the maps, on the scale of the targets' power."""


class Targets(NamedTuple):
    """What the radar can see: vehicles, their ghosts, and the sign; each array is (E, targets)."""

    distance: Array
    """Metres."""
    sine: Array
    """Sine of the angle from straight across the road, positive towards +x."""
    radial: Array
    """Radial velocity, m/s, positive: receding."""
    power: Array
    """Received power, m^2 / m^4; 0 where there is no such target."""


def measure(world: World, rng: np.random.Generator) -> Array:
    """Return dB maps (E, 2, ranges, dopplers), range-Doppler and -angle, roughly standardised."""
    found = targets(world)
    along = _response(found.distance, RANGES, _RANGE_WIDTH) * found.power[..., None].astype(
        np.float32
    )
    doppler = _response(found.radial, DOPPLERS, _DOPPLER_WIDTH)
    angle = _response(found.sine, ANGLES, _ANGLE_WIDTH)
    maps = np.stack(
        [np.einsum("evr,evd->erd", along, doppler), np.einsum("evr,eva->era", along, angle)], axis=1
    )
    floor = 10 ** (FLOOR_DB / 10) * rng.exponential(1.0, maps.shape).astype(np.float32)
    return np.asarray((10 * np.log10(maps + floor) + 55.0) / 10.0, dtype=np.float32)


def targets(world: World) -> Targets:
    """Return everything that reflects."""
    distance, sine, radial = polar(world)
    power = np.where(world.exists, world.cross_section / distance**4, 0.0)
    ghost_distance = 2 * WALL - world.centre[..., 1]
    ghost_distance = (distance + np.hypot(world.centre[..., 0], ghost_distance)) / 2
    sign_distance, sign_sine, sign_power = _sign(world)
    still = np.zeros_like(sign_distance)
    return Targets(
        distance=np.concatenate([distance, ghost_distance, sign_distance], axis=1),
        sine=np.concatenate([sine, sine, sign_sine], axis=1),
        radial=np.concatenate([radial, radial, still], axis=1),
        power=np.concatenate([power, _GHOST * power, sign_power], axis=1),
    )


def polar(world: World) -> tuple[Array, Array, Array]:
    """Return distance (m), sine of the angle, and radial velocity (m/s) of vehicles, (E, V).

    A receding vehicle has a positive velocity.
    """
    x, y = world.centre[..., 0], world.centre[..., 1]
    distance = np.hypot(x, y)
    sine = x / distance
    return distance, sine, world.velocity * sine


def _sign(world: World) -> tuple[Array, Array, Array]:
    x, y = world.reflector[:, :1], world.reflector[:, 1:]
    there = np.isfinite(x)
    distance = np.where(there, np.hypot(x, y), 40.0)
    sine = np.where(there, x / distance, 0.0)
    return distance, sine, np.where(there, _SIGN_CROSS_SECTION / distance**4, 0.0)


def _response(values: Array, bins: Array, width: float) -> Array:
    """Return how much of each target falls into each bin, (E, targets, bins): a Gaussian lobe."""
    return np.exp(-0.5 * np.square((values[..., None] - bins) / width)).astype(np.float32)
