"""The LiDAR: rings of rays cast against the vehicles; range and reflectivity of the first hit."""

import numpy as np

from sheafalign_fl.data.scenes.geometry import cast
from sheafalign_fl.data.scenes.world import CROWN, TREES, UNIT_HEIGHT, WALL, Array, World

RINGS = np.radians(np.array([3.0, 0.0, -3.0, -6.0, -10.0, -15.0]))
AZIMUTHS = np.radians(np.linspace(-65.0, 65.0, 64))
"""From straight across the road (0) towards +x."""
MAX_RANGE = 45.0
_CHUNK = 500
_WALL_REFLECTIVITY, _LEAF_REFLECTIVITY = 0.4, 0.6


def directions(rings: Array = RINGS, azimuths: Array = AZIMUTHS) -> Array:
    """Return all rays' unit vectors, (rings * azimuths, 3), ring by ring; angles in radians."""
    elevation, azimuth = np.meshgrid(rings, azimuths, indexing="ij")
    level = np.cos(elevation)
    rays = np.stack([level * np.sin(azimuth), level * np.cos(azimuth), np.sin(elevation)], axis=-1)
    return rays.reshape(-1, 3).astype(np.float32)


def scan(world: World, rng: np.random.Generator) -> Array:
    """Return range images (E, 2, rings, azimuths): range and reflectivity, roughly standardised."""
    rays = directions()
    images = np.empty((len(world), 2, len(RINGS), len(AZIMUTHS)), dtype=np.float32)
    for start in range(0, len(world), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(world)))
        distance, shine = returns(world, rows, rays, rng)
        images[rows, 0] = ((distance - 20.0) / 10.0).reshape(-1, len(RINGS), len(AZIMUTHS))
        images[rows, 1] = ((shine - 0.3) / 0.25).reshape(-1, len(RINGS), len(AZIMUTHS))
    return images


def returns(
    world: World, rows: slice, rays: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return measured distance (m) and reflectivity of rays (R, 3), each (events, R).

    Reflectivity is 0 to 1, and a little beyond. Dropped and out-of-range returns read as the
    maximum range with reflectivity 0. Fog swallows far returns and gives false near ones.
    """
    distance, shine = _first_returns(world, rows, rays)
    _cover_with_leaves(distance, shine, rays, world.trees[rows], rng)
    distance += 0.03 * rng.standard_normal(distance.shape, dtype=np.float32)
    shine += 0.05 * rng.standard_normal(shine.shape, dtype=np.float32)
    lost = rng.random(distance.shape) > 0.98 * np.exp(-0.5 * world.fog[rows, None] * distance)
    false = rng.random(distance.shape) < 0.6 * world.fog[rows, None]
    lost |= distance >= MAX_RANGE
    distance = np.where(lost, MAX_RANGE, distance)
    distance = np.where(
        false, np.minimum(distance, rng.uniform(1.0, 8.0, distance.shape)), distance
    )
    return distance, np.where(lost | false, 0.0, shine)


def _first_returns(world: World, rows: slice, rays: Array) -> tuple[Array, Array]:
    distance, hit = cast(
        rays, world.centre[rows], world.size[rows], world.exists[rows], UNIT_HEIGHT
    )
    brightness = world.colour[rows].mean(axis=-1)
    shine = np.take_along_axis(brightness, hit, axis=1)
    with np.errstate(divide="ignore"):
        wall = np.where(rays[:, 1] > 0, WALL / rays[:, 1], np.inf)
        ground = np.where(rays[:, 2] < 0, UNIT_HEIGHT / -rays[:, 2], np.inf)
    behind = np.minimum(wall, ground)[None].astype(np.float32)
    background = np.where(ground < wall, 0.15, _WALL_REFLECTIVITY)[None]
    nearer = distance < behind
    return np.where(nearer, distance, behind), np.where(nearer, shine, background).astype(
        np.float32
    )


def _cover_with_leaves(
    distance: Array, shine: Array, rays: Array, trees: Array, rng: np.random.Generator
) -> None:
    """Let crowns return the rays that reach them, in place; denser ones let fewer rays through."""
    reach = TREES / rays[:, 1]
    high = reach * rays[:, 2] + UNIT_HEIGHT > CROWN
    leaf = (
        high & (distance > reach) & (rng.random(distance.shape, dtype=np.float32) < trees[:, None])
    )
    distance[:] = np.where(leaf, reach, distance)
    shine[:] = np.where(leaf, _LEAF_REFLECTIVITY, shine)
