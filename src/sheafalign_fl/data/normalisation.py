"""Scaling by what training events say."""

import numpy as np
from numpy.typing import NDArray

_ROWS = 1024
_CONSTANT = {4: 1e-6, 8: 1e-12}
"""Bytes of a number -> what varies by no more of its size is constant but for rounding."""


def standardised(
    x: NDArray[np.floating], train: NDArray[np.bool_] | NDArray[np.intp], channel: int = 1
) -> NDArray[np.float32]:
    """Return `x` with zero mean and unit deviation over the rows `train`, float32.

    Every feature of a vector (N, F) has its own mean and deviation, every channel of anything
    larger. What does not vary in training is only centred: dividing by the rounding error of a
    constant would let a test event explode. Only rounded where there are no training rows, or where
    they are not all finite.

    Parameters
    ----------
    x
        (N, ...); float64 where float32 would lose what varies (latitudes, counters): it is scaled
        before it is rounded.
    train
        Mask or indices of the training rows.
    channel
        The axis of channels.
    """
    fit = x[train]
    if not len(fit) or not np.isfinite(fit).all():
        return x.astype(np.float32, copy=False)
    axes = tuple(axis for axis in range(x.ndim) if axis != channel)
    mean = fit.mean(axis=axes, keepdims=True, dtype=np.float64)
    scale = fit.std(axis=axes, keepdims=True, dtype=np.float64)
    scale = np.where(scale > _CONSTANT[x.dtype.itemsize] * np.abs(mean), scale, 1.0)
    del fit
    scaled = np.empty(x.shape, dtype=np.float32)
    for start in range(0, len(x), _ROWS):  # some rows at a time: float64 takes twice the memory
        rows = slice(start, start + _ROWS)
        scaled[rows] = (x[rows] - mean) / scale
    return scaled
