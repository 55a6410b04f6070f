"""Which axis of x is what: channels first is what encoders take; other layouts are turned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import ConfigError, DataError

_NAMES = {"C": "channels", "T": "samples", "H": "rows", "W": "columns", "F": "features"}
_ORDERS = ("F", "CT", "CHW", "TCHW")
"""What encoders take: vectors, signals, images, videos; the axis C is made where it is lacking."""
_COLOURS = (1, 3, 4)
_MOST_CHANNELS = 16
_LONGER = 4


def layout_of(modality: str, layout: object) -> str:
    """Return the layout that the option `layout` gives a modality; "" where it gives none.

    Raises
    ------
    ConfigError
        The layout is no text or mapping, or no layout.
    """
    given = layout.get(modality, "") if isinstance(layout, Mapping) else layout
    if given == "":
        return ""
    if not isinstance(given, str) or len(set(given)) != len(given) or set(given) - set(_NAMES):
        raise ConfigError(
            f"data.options.layout: '{given}' is no layout; write one letter for each axis of an "
            "event, such as TC, HWC or HW (C channels, T samples, H rows, W columns, F features)"
        )
    _order(given)
    return given


def arranged(x: NDArray[Any], layout: str, path: Path) -> NDArray[Any]:
    """Return x (N, ...) with the axes of an event in the order that encoders take.

    Raises
    ------
    DataError
        The layout has another number of axes than an event.
    """
    if not layout:
        return x
    if len(layout) != x.ndim - 1:
        raise DataError(
            f"{path}: data.options.layout: {layout} has {len(layout)} axes, but an event of x has "
            f"{x.ndim - 1}: {_sizes(x.shape[1:])}"
        )
    made, axes = turn(layout)
    x = x[:, None] if made else x
    return x.transpose(0, *(1 + axis for axis in axes))


def turn(layout: str) -> tuple[bool, tuple[int, ...]]:
    """Return how an event of `layout` becomes channels first.

    That is whether an axis of one channel is put before its axes, and then their order.
    """
    order = _order(layout)
    made = "C" in order and "C" not in layout
    axes = "C" + layout if made else layout
    return made, tuple(axes.index(letter) for letter in order)


def raw_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Return the shape of an event in `layout` that `arranged` gives the shape `shape`."""
    if not layout:
        return shape
    made, axes = turn(layout)
    sizes = dict(zip(axes, shape, strict=True))
    return tuple(sizes[axis] for axis in sorted(sizes))[made:]


def understood(shape: tuple[int, ...]) -> str:
    """Return how one event's axes are read, for people."""
    match shape:
        case (features,):
            return _several(features, "feature")
        case (channels, samples):
            return f"{_several(channels, 'channel')} of {_several(samples, 'sample')}"
        case (channels, rows, columns):
            return f"{_several(channels, 'channel')} of {rows} × {columns} pixels"
        case (frames, channels, rows, columns):
            pixels = f"{_several(channels, 'channel')} of {rows} × {columns} pixels"
            return f"{_several(frames, 'frame')} of {pixels}"
    return _sizes(shape)


def suspected(shape: tuple[int, ...]) -> str:
    """Return the layout that an event of this shape more likely has than channels first, or ""."""
    if len(shape) == 2 and shape[1] <= _MOST_CHANNELS and shape[0] >= _LONGER * shape[1]:
        return "TC"
    if len(shape) == 3 and shape[2] in _COLOURS and shape[0] not in _COLOURS:
        return "HWC"
    return ""


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _order(layout: str) -> str:
    for order in _ORDERS:
        if set(order) - {"C"} == set(layout) - {"C"} and set(layout) <= set(order):
            return order
    raise ConfigError(
        f"data.options.layout: {layout} is none that an encoder takes; use F, or C with T, with H "
        "and W, or with T, H and W, in the order that they have in x"
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"


def channel_axis(axes: int) -> int:
    """Return which of the axes of x is that of channels: videos are (N, T, C, H, W)."""
    return 2 if axes == 1 + len("TCHW") else 1


def as_float32(x: NDArray[Any]) -> tuple[NDArray[np.float32], float]:
    """Return x as float32, and how much of its variation that rounds away (0 to 1).

    Of the feature or channel that loses most: the error's deviation by that of the values.
    """
    with np.errstate(over="ignore"):
        result = x.astype(np.float32)
    if x.dtype != np.float64 or not len(x) or not np.isfinite(x).all():
        return result, 0.0
    axes = tuple(axis for axis in range(x.ndim) if axis != channel_axis(x.ndim))
    spread = x.std(axis=axes)
    lost = (x - result).std(axis=axes)
    return result, float(np.max(np.divide(lost, spread, where=spread > 0, out=0.0 * spread)))
