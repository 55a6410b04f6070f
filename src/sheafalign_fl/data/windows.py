"""Windows over frames: which frames form an event, and what lies ahead of it."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.normalisation import Scaling
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.labels import UNLABELLED

Array = NDArray[Any]
_Float = TypeVar("_Float", bound=np.generic)
JOIN = {2: "time", 3: "samples", 4: "channels", 5: "channels"}
"""Axes of x -> where a window's samples go along the axes of an event.

Vectors become signals, signals longer, images deeper, and videos longer: frames are their first
axis.
"""


def cut(
    recording: Array, position: Array, usable: NDArray[np.bool_], *, window: int, stride: int
) -> NDArray[np.intp]:
    """Return the rows of every window, (windows, window), each in order of time.

    A window is `window` usable frames of one recording at consecutive positions, from a position
    that `stride` divides. That depends on the positions alone, so clients that lack other frames
    still cut the same windows.

    Parameters
    ----------
    recording, position, usable
        Shape (frames,): which recording, an integer that grows by 1 from a frame to the next,
        whether it can be used.

    Raises
    ------
    ConfigError
        Window or stride is below 1.
    """
    check_window(window, stride)
    _, code = np.unique(recording, return_inverse=True)
    rows = np.flatnonzero(usable)
    rows = rows[np.lexsort((position[rows], code[rows]))]
    if len(rows) < window:
        return np.empty((0, window), dtype=np.intp)
    windows = np.lib.stride_tricks.sliding_window_view(rows, window)
    steps = np.diff(position[windows], axis=1) == 1
    same = code[windows[:, 0]] == code[windows[:, -1]]
    starts = position[windows[:, 0]] % stride == 0
    return np.ascontiguousarray(windows[steps.all(axis=1) & same & starts])


def check_window(window: int, stride: int) -> None:
    """Raise `ConfigError` where window or stride is below 1."""
    for name, value in (("window", window), ("stride", stride)):
        if value < 1:
            raise ConfigError(f"data.options.{name}: must be 1 or more, not {value}")


def any_ahead(
    values: NDArray[np.int64], recording: Array, position: Array, horizon: int
) -> NDArray[np.int64]:
    """Return for each frame whether any of its recording's next `horizon` frames has value 1.

    `UNLABELLED` where none of them is known to be 1 and some are absent or not labelled.

    Raises
    ------
    ConfigError
        The horizon is below 1.
    """
    if horizon < 1:
        raise ConfigError(f"data.options.horizon: must be 1 or more, not {horizon}")
    _, code = np.unique(recording, return_inverse=True)
    order = np.lexsort((position, code))
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    seen_one = np.zeros(len(values), dtype=bool)
    all_known = np.ones(len(values), dtype=bool)
    for step in range(1, horizon + 1):
        # Positions may have gaps, so the frame `step` ahead is looked up and not counted.
        found, row = _row_at(code, position, order, code, position + step)
        value = np.where(found, values[row], UNLABELLED)
        seen_one |= value == 1
        all_known &= value != UNLABELLED
    return np.where(seen_one, 1, np.where(all_known, 0, UNLABELLED)).astype(np.int64)


def _row_at(
    code: Array, position: Array, order: Array, wanted_code: Array, wanted: Array
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return for each wanted (recording, position) whether it exists, and its row."""
    low = int(position.min())
    span = int(wanted.max()) - low + 1
    keys = code[order].astype(np.int64) * span + (position[order] - low)
    wanted_keys = wanted_code.astype(np.int64) * span + (wanted - low)
    index = np.minimum(np.searchsorted(keys, wanted_keys), len(keys) - 1)
    return keys[index] == wanted_keys, order[index]


def stack(frames: NDArray[_Float], windows: NDArray[np.intp], join: str) -> NDArray[_Float]:
    """Return events from `frames` (F, ...), (windows, ...), joined along one axis.

    Parameters
    ----------
    windows
        (windows, window): rows of `frames`.
    join
        channels: frames become channels, (T * C, ...); frames: a first axis, (T, ...), left out
        where there is one frame only; time: a last axis, (..., T); samples: the last axis goes on,
        (..., T * S).
    """
    x = frames[windows]
    if join == "channels":
        return x.reshape(len(x), -1, *x.shape[3:])
    if join == "frames":
        return x[:, 0] if x.shape[1] == 1 else x
    if join == "time":
        return np.ascontiguousarray(np.moveaxis(x, 1, -1))
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -2))
    return moved.reshape(*moved.shape[:-2], -1)


def stacked_scaling(
    scaling: Scaling | None, shape: tuple[int, ...], window: int, join: str
) -> Scaling | None:
    """Return the scaling of events that `stack` makes of `window` frames of `shape` each."""
    if scaling is None:
        return None
    rows = np.zeros((1, window), dtype=np.intp)
    both = (np.broadcast_to(part, shape)[None] for part in (scaling.mean, scaling.scale))
    mean, scale = (_narrowed(stack(part, rows, join)[0]) for part in both)
    return Scaling(mean, scale)


def _narrowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `values` with every axis along which nothing changes of size 1."""
    for axis in range(values.ndim):
        first = values.take([0], axis=axis)
        if (values == first).all():
            values = first
    return np.ascontiguousarray(values)
