"""Sequences of unequal length: padded with NaN in memory, with a length beside them in files.

An event is (C, T') with T' of its own. Raw, many of them are an array (N, C, T) that is NaN behind
each event's end; as an encoder takes them they are (N, C + 1, T), padded with 0, and the last
channel says what is there. In a file they are plain arrays: `x` (N, C, T), padded with anything,
and `length` (N,).
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sheafalign_fl.data.normalisation import Scaling
from sheafalign_fl.errors import DataError

ENCODER = "sequence"
"""The built-in encoder for which padding is as if it were not there."""


def is_unequal(events: object) -> TypeGuard[Sequence[ArrayLike]]:
    """Say whether `events` is a list or tuple of arrays (C, T') of more than one length."""
    if not isinstance(events, list | tuple) or not events:
        return False
    try:
        np.asarray(events)
    except ValueError:  # ragged
        return True
    return False


def padded(
    events: Sequence[ArrayLike], where: str, most: int | None = None
) -> NDArray[np.floating]:
    """Return sequences (C, T') as one array (N, C, T), NaN behind the end of each.

    Raises
    ------
    DataError
        They are no numbers, of another number of axes, of no sample or of more than `most`, which
        is said before memory is taken for all of them; or differ in channels.
    """
    arrays: list[NDArray[Any]] = []
    for row, event in enumerate(events):
        try:
            array = np.asarray(event)
        except ValueError:
            raise DataError(f"{where}: event {row}: its channels differ in length") from None
        if array.ndim != 2 or array.dtype.kind not in "fiub" or array.shape[1] == 0:
            raise DataError(
                f"{where}: event {row} has shape {array.shape} and dtype {array.dtype}; of unequal "
                "length are sequences (C, T) of numbers, with a sample at least"
            )
        if len(array) != len(arrays[0] if arrays else array):
            raise DataError(
                f"{where}: event {row} has {len(array)} channels, the first has {len(arrays[0])}"
            )
        arrays.append(array)
    dtype = np.result_type(np.float32, *{array.dtype for array in arrays})
    longest = max(array.shape[1] for array in arrays)
    if most is not None and longest > most:
        raise DataError(f"{where}: an event has {longest} samples; it takes {most} or fewer")
    x = np.full((len(arrays), len(arrays[0]), longest), np.nan, dtype)
    for row, array in enumerate(arrays):
        x[row, :, : array.shape[1]] = array
    return x


def ended(x: NDArray[Any], length: NDArray[Any], where: str) -> NDArray[np.floating]:
    """Return x (N, C, T) as a float array that is NaN behind each event's `length`, (N,).

    Raises
    ------
    DataError
        x has other axes, or a length is no whole number of 1 to T.
    """
    if x.ndim != 3:
        raise DataError(
            f"{where}: 'length' is for x of shape (N, C, T), channels first; x has {x.shape}"
        )
    if length.shape != (len(x),) or length.dtype.kind not in "iu":
        raise DataError(
            f"{where}: length has shape {length.shape} and dtype {length.dtype}; it is one whole "
            f"number for each of the {len(x)} events"
        )
    bad = (length < 1) | (length > x.shape[2])
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{where}: length of row {row} is {length[row]}, not 1 to {x.shape[2]}")
    exact = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    made: NDArray[np.floating] = x.astype(np.float32 if exact else np.float64)
    made[np.broadcast_to(behind(length, x.shape[2])[:, None], x.shape)] = np.nan
    return made


def behind(length: NDArray[Any], steps: int) -> NDArray[np.bool_]:
    """Return what lies behind the ends, shape (N, steps)."""
    return np.arange(steps) >= length.astype(np.int64)[:, None]


def lengths(x: NDArray[np.floating], where: str) -> NDArray[np.int64]:
    """Return how long the events of x (N, C, T) are, which is NaN behind the end of each.

    Raises
    ------
    DataError
        An event has no sample, or NaN or infinity before its end.
    """
    there = ~np.isnan(x).all(axis=1)
    steps = np.arange(1, x.shape[2] + 1)
    found: NDArray[np.int64] = np.where(there, steps, 0).max(axis=1, initial=0)
    inside = ~behind(found, x.shape[2])
    bad = (found == 0) | ~(np.isfinite(x).all(axis=1) | ~inside).all(axis=1)
    if bad.any():
        raise DataError(
            f"{where}: x holds NaN or infinity before the end of an event, or nothing else (first: "
            f"row {int(np.argmax(bad))}); NaN stands behind the end alone"
        )
    return found


def scaling_of(x: NDArray[np.floating], train: NDArray[np.intp]) -> Scaling | None:
    """Return zero mean and unit deviation of each channel over what is there in `train`'s rows."""
    samples = x[train].transpose(0, 2, 1)
    there = samples[np.logical_not(np.isnan(samples).all(axis=2))]
    found = Scaling.of(there, np.arange(len(there)))
    return None if found is None else Scaling(found.mean[:, None], found.scale[:, None])


def masked(x: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """Return x (N, C, T) as an encoder takes it: (N, C + 1, steps), what is there as last channel.

    T must not be above `steps`.
    """
    count, channels, given = x.shape
    made = np.zeros((count, channels + 1, steps), np.float32)
    there = np.logical_not(np.isnan(x).all(axis=1))
    made[:, :channels, :given] = np.where(there[:, None], x, 0)
    made[:, channels, :given] = there
    return made
