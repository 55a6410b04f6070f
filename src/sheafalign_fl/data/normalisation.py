"""Scaling by what training events say."""

import numpy as np
from numpy.typing import NDArray

_ROWS = 1024


def standardised(
    x: NDArray[np.float32], train: NDArray[np.bool_] | NDArray[np.intp], channel: int = 1
) -> NDArray[np.float32]:
    """Return `x` with zero mean and unit deviation over the rows `train`, float32.

    Every feature of a vector (N, F) has its own mean and deviation, every channel of anything larger. What does not
    vary in training is only centred: dividing by the rounding error of a constant would let a test event explode.
    Returned as it is where there are no training rows, or where they are not all finite.

    Parameters
    ----------
    x
        (N, ...).
    train
        Mask or indices of the training rows.
    channel
        The axis of channels.
    """
    fit = x[train]
    if not len(fit) or not np.isfinite(fit).all():
        return x
    axes = tuple(axis for axis in range(x.ndim) if axis != channel)
    mean = fit.mean(axis=axes, keepdims=True, dtype=np.float64)
    scale = fit.std(axis=axes, keepdims=True, dtype=np.float64)
    scale = np.where(scale > 1e-6 * np.abs(mean), scale, 1.0)
    del fit
    scaled = np.empty(x.shape, dtype=np.float32)
    for start in range(0, len(x), _ROWS):  # some rows at a time: float64 takes twice the memory
        rows = slice(start, start + _ROWS)
        scaled[rows] = (x[rows] - mean) / scale
    return scaled
