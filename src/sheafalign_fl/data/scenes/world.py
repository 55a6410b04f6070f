"""The world that all sensors of `scenes` see: a road and vehicles, one served by the roadside unit.

Axes: x along the road, y across it and away from the roadside unit, z up; metres, seconds. The unit
stands at the origin. Arrays have the event first and the vehicle second; vehicle 0 is the served
user.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.scenes.geometry import clearance
from sheafalign_fl.seeding import numpy_generator

Array = NDArray[Any]
"""Arrays of any number type; docstrings give shapes and units."""

LANES = np.array([6.0, 9.5, 14.0, 17.5])
"""Distance of the lane centres from the unit."""
DIRECTIONS = np.array([1.0, 1.0, -1.0, -1.0])
WALL = 25.0
"""Distance of the building behind the road."""
TREES, CROWN = 22.0, 3.0
"""Distance of the row of trees before the building, and height at which their crowns begin: above
every radio path."""
UNIT_HEIGHT = 2.0
"""Height of every sensor of the unit."""
FRAME_SECONDS = 0.1
VEHICLES = 12

_CELLS, _CELL = 5, 13.0
"""Places of a lane and their length: one vehicle has one place, and all of a lane drive at one
speed, so none meet."""
# length, width, height (m), radar cross-section (m^2), how often
TYPES = {
    "car": (4.5, 1.8, 1.5, 10.0, 0.32),
    "van": (5.5, 2.0, 2.3, 20.0, 0.22),
    "truck": (9.0, 2.5, 3.4, 60.0, 0.26),
    "bus": (11.5, 2.5, 3.2, 80.0, 0.2),
}


@dataclass(frozen=True)
class World:
    """Everything that is the case in every event. E events, V vehicles."""

    event_ids: NDArray[np.int64]
    sequence: NDArray[np.int64]
    exists: NDArray[np.bool_]
    """(E, V)"""
    centre: Array
    """(E, V, 2): x and y of the middle of the vehicle."""
    size: Array
    """(E, V, 3): along x, along y, height."""
    velocity: Array
    """(E, V): along x, m/s."""
    kind: NDArray[np.int64]
    """(E, V): index into `TYPES`."""
    colour: Array
    """(E, V, 3): red, green, blue."""
    cross_section: Array
    """(E, V): radar cross-section, m^2."""
    braking: NDArray[np.bool_]
    """(E, V): stands still with its brake lights on."""
    night: NDArray[np.bool_]
    fog: Array
    """(E,): extinction, 1/m; 0 in clear air."""
    reflector: Array
    """(E, 2): x, y of a metal sign on the wall that only radio sees; NaN where there is none."""
    trees: Array
    """(E,): share of the sky and of the wall that the crowns of the trees cover; 0 where there are
    none."""
    blocked: NDArray[np.bool_]
    """(E,): another vehicle cuts the line from the unit to the user's antenna."""
    blocked_ahead: NDArray[np.bool_]
    """(E,): ... in any of the next frames."""

    @property
    def antenna(self) -> Array:
        """Return the position of the user's antenna, on its roof, (E, 3)."""
        return np.concatenate([self.centre[:, 0], self.size[:, 0, 2:] + 0.1], axis=1)

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.event_ids)


def build_world(
    seed: int,
    *,
    events: int,
    frames: int,
    horizon: int,
    night: float,
    fog: float,
    traffic: float,
    trees: float,
) -> World:
    """Let sequences of `frames` frames happen until there are `events` events.

    Parameters
    ----------
    horizon
        How many frames ahead `blocked_ahead` looks.
    night, fog
        Fraction of sequences at night, and in fog.
    traffic
        Probability that each of the eleven other vehicles is there.
    trees
        Fraction of sequences with a row of trees before the building.
    """
    rng = numpy_generator(seed, "scenes", "world")
    count = -(-events // frames)
    road = _road(rng, count, traffic)
    time = (np.arange(frames + horizon) - frames / 2) * FRAME_SECONDS
    x = road["x"][:, None, :] + road["velocity"][:, None, :] * time[None, :, None]
    y = np.broadcast_to(road["y"][:, None, :], x.shape)
    centre = np.stack([x, y], axis=-1).astype(np.float32)
    blocked = _blocked(centre, road["size"], road["exists"])
    ahead = np.stack([blocked[:, 1 + k : 1 + k + frames] for k in range(horizon)]).any(axis=0)

    def per_event(values: Array) -> Array:
        return np.repeat(values, frames, axis=0)[:events]

    index = np.arange(count)
    is_night = rng.random(count) < night
    extinction = np.where(rng.random(count) < fog, rng.uniform(0.02, 0.06, count), 0.0).astype(
        np.float32
    )
    sign = np.stack([rng.uniform(-18, 18, count), np.full(count, WALL)], axis=1).astype(np.float32)
    sign[rng.random(count) < 0.5] = np.nan
    crowns = np.where(rng.random(count) < trees, rng.uniform(0.5, 0.9, count), 0.0).astype(
        np.float32
    )
    return World(
        event_ids=(np.repeat(index, frames) * 1000 + np.tile(np.arange(frames), count))[
            :events
        ].astype(np.int64),
        sequence=per_event(index),
        exists=per_event(road["exists"]),
        centre=centre[:, :frames].reshape(-1, VEHICLES, 2)[:events],
        size=per_event(road["size"]),
        velocity=per_event(road["velocity"]),
        kind=per_event(road["kind"]),
        colour=per_event(road["colour"]),
        cross_section=per_event(road["cross_section"]),
        braking=per_event(road["velocity"] == 0),
        night=per_event(is_night),
        fog=per_event(extinction),
        reflector=per_event(sign),
        trees=per_event(crowns),
        blocked=blocked[:, :frames].reshape(-1)[:events],
        blocked_ahead=ahead.reshape(-1)[:events],
    )


def _road(rng: np.random.Generator, count: int, traffic: float) -> dict[str, Array]:
    """Draw the vehicles of `count` sequences: arrays (count, V, ...), x in mid-sequence."""
    table = np.array(list(TYPES.values()))
    kind = rng.choice(len(table), size=(count, VEHICLES), p=table[:, 4])
    kind[:, 0] = rng.choice(2, size=count, p=[0.7, 0.3])  # the user drives a car or a van
    lane, cell = _places(rng, count)
    speed = rng.uniform(4.0, 18.0, (count, len(LANES)))
    speed[rng.random((count, len(LANES))) < 0.2] = 0.0  # a lane that stands still
    offset = rng.uniform(-_CELL / 2, _CELL / 2, (count, len(LANES)))
    x = (
        (cell - (_CELLS - 1) / 2) * _CELL
        + np.take_along_axis(offset, lane, 1)
        + rng.uniform(-0.5, 0.5, cell.shape)
    )
    exists = rng.random((count, VEHICLES)) < traffic
    exists[:, 0] = True
    colour = rng.uniform(0.1, 0.95, (count, VEHICLES, 3))
    grey = rng.random((count, VEHICLES, 1)) < 0.5
    colour = np.where(grey, colour[..., :1], colour)
    return {
        "x": x,
        "y": LANES[lane] + rng.uniform(-0.3, 0.3, lane.shape),
        "velocity": (np.take_along_axis(speed, lane, 1) * DIRECTIONS[lane]).astype(np.float32),
        "kind": kind.astype(np.int64),
        "size": (table[kind, :3] * rng.uniform(0.93, 1.07, (count, VEHICLES, 1))).astype(
            np.float32
        ),
        "colour": colour.astype(np.float32),
        "cross_section": (table[kind, 3] * rng.uniform(0.5, 2.0, kind.shape)).astype(np.float32),
        "exists": exists,
    }


def _places(rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw lane and place of each vehicle, none twice; the user is mid-lane, not in the nearest."""
    places = rng.permuted(np.tile(np.arange(len(LANES) * _CELLS), (count, 1)), axis=1)
    wanted = (
        rng.choice(np.arange(1, len(LANES)), size=count, p=[0.2, 0.35, 0.45]) * _CELLS + _CELLS // 2
    )
    # Whoever drew the user's place gets the one that the user drew.
    holder = np.argmax(places == wanted[:, None], axis=1)
    places[np.arange(count), holder] = places[:, 0]
    places[:, 0] = wanted
    return places[:, :VEHICLES] // _CELLS, places[:, :VEHICLES] % _CELLS


def _blocked(centre: Array, size: Array, exists: Array) -> NDArray[np.bool_]:
    """Return for (count, time) whether another vehicle cuts the line from unit to antenna."""
    count, time = centre.shape[:2]
    sizes = np.broadcast_to(size[:, None], (count, time, VEHICLES, 3))
    antenna = np.concatenate([centre[:, :, 0], sizes[:, :, 0, 2:] + 0.1], axis=-1)
    above, crossed = clearance(antenna, centre[:, :, 1:], sizes[:, :, 1:], UNIT_HEIGHT)
    return np.asarray((crossed & (above > 0) & exists[:, None, 1:]).any(axis=-1))
