"""Rays against boxes, vectorised."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Arrays of any number type; docstrings give shapes and units."""


def slab(origin: float, direction: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return where a ray enters and leaves a slab, as multiples of its direction (all broadcast).

    A ray along the slab is inside it everywhere or nowhere.
    """
    safe = np.where(np.abs(direction) < 1e-9, np.float32(1e-9), direction)
    first, second = (low - origin) / safe, (high - origin) / safe
    return np.minimum(first, second), np.maximum(first, second)


def clearance(
    antenna: Array, centre: Array, size: Array, height: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Return how far vehicles' roofs reach above the line from unit to antenna, and which cross it.

    Parameters
    ----------
    antenna
        (..., 3): the line runs from (0, 0, height) to here.
    centre, size
        (..., V, 2) and (..., V, 3): the vehicles.
    height
        Height of the unit's antenna.

    Returns
    -------
    above
        (..., V): roof height minus the line's height where the line is lowest above the vehicle's
        footprint; metres.
    crossed
        (..., V): the line's shadow on the ground crosses the footprint.
    """
    direction = antenna[..., None, :]
    enter_x, leave_x = slab(
        0.0, direction[..., 0], centre[..., 0] - size[..., 0] / 2, centre[..., 0] + size[..., 0] / 2
    )
    enter_y, leave_y = slab(
        0.0, direction[..., 1], centre[..., 1] - size[..., 1] / 2, centre[..., 1] + size[..., 1] / 2
    )
    enter = np.maximum(np.maximum(enter_x, enter_y), 0.0)
    leave = np.minimum(np.minimum(leave_x, leave_y), 1.0)
    slope = antenna[..., None, 2] - height
    lowest = height + np.minimum(slope * enter, slope * leave)
    return (size[..., 2] - lowest).astype(np.float32), enter < leave


def cast(
    directions: Array, centre: Array, size: Array, exists: NDArray[np.bool_], height: float
) -> tuple[Array, NDArray[np.int64]]:
    """Cast rays from (0, 0, height) and return the distance to the nearest box and which box it is.

    Parameters
    ----------
    directions
        (R, 3), unit vectors.
    centre, size, exists
        (E, V, 2), (E, V, 3) and (E, V): boxes that stand on the ground.

    Returns
    -------
    distance
        (E, R), metres; infinity where nothing is hit.
    hit
        (E, R), index of the box; meaningless where nothing is hit.
    """
    nearest = np.full((len(centre), len(directions)), np.inf, dtype=np.float32)
    hit = np.zeros(nearest.shape, dtype=np.int64)
    for vehicle in range(centre.shape[1]):
        low, high = (
            centre[:, vehicle] - size[:, vehicle, :2] / 2,
            centre[:, vehicle] + size[:, vehicle, :2] / 2,
        )
        enter, leave = slab(0.0, directions[None, :, 0], low[:, None, 0], high[:, None, 0])
        for axis, bottom, top in (
            (1, low[:, None, 1], high[:, None, 1]),
            (2, -height, size[:, None, vehicle, 2] - height),
        ):
            first, last = slab(0.0, directions[None, :, axis], np.asarray(bottom), np.asarray(top))
            enter, leave = np.maximum(enter, first), np.minimum(leave, last)
        closer = (enter < leave) & (enter > 0) & (enter < nearest) & exists[:, vehicle, None]
        nearest = np.where(closer, enter, nearest).astype(np.float32)
        hit = np.where(closer, vehicle, hit)
    return nearest, hit
