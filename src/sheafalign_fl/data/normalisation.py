"""Scaling by what training events say."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_ROWS = 1024
_CONSTANT = {4: 1e-6, 8: 1e-12}
"""Bytes of a number -> what varies by no more of its size is constant but for rounding."""


@dataclass(frozen=True)
class Scaling:
    """What turns a sensor's own units into an encoder's input: (raw - mean) / scale.

    Attributes
    ----------
    mean, scale
        Float64; both broadcast against one event, without the event axis. `scale` is never 0.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(
        cls, x: NDArray[np.floating], train: NDArray[np.bool_] | NDArray[np.intp], channel: int = 1
    ) -> Self | None:
        """Return zero mean and unit deviation over the rows `train`; see `standardised`.

        None where there are no training rows, or where they are not all finite.
        """
        fit = x[train]
        if not len(fit) or not np.isfinite(fit).all():
            return None
        axes = tuple(axis for axis in range(x.ndim) if axis != channel)
        mean = fit.mean(axis=axes, keepdims=True, dtype=np.float64)
        scale = fit.std(axis=axes, keepdims=True, dtype=np.float64)
        scale = np.where(scale > _CONSTANT[x.dtype.itemsize] * np.abs(mean), scale, 1.0)
        return cls(mean[0], scale[0])

    def apply(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return raw events (N, ...) scaled; in double precision, and rounded once, at the end."""
        scaled = np.empty(x.shape, dtype=np.float32)
        for start in range(0, len(x), _ROWS):  # some rows at a time: float64 takes twice the memory
            rows = slice(start, start + _ROWS)
            with np.errstate(over="ignore"):  # infinity is refused later, by name
                scaled[rows] = (x[rows] - self.mean) / self.scale
        return scaled


def standardised(
    x: NDArray[np.floating], train: NDArray[np.bool_] | NDArray[np.intp], channel: int = 1
) -> NDArray[np.float32]:
    """Return `x` with zero mean and unit deviation over the rows `train`, float32.

    Every feature of a vector (N, F) has its own mean and deviation, every channel of anything
    larger. What does not vary in training is only centred: dividing by the rounding error of a
    constant would let a test event explode. Only rounded where there are no training rows, or where
    they are not all finite. A source that wants what was learnt to take raw values keeps
    `Scaling.of` instead, and says so in `ModalityData.scaling`.

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
    return scaled(x, Scaling.of(x, train, channel))


def scaled(x: NDArray[np.floating], scaling: Scaling | None) -> NDArray[np.float32]:
    """Return `x` (N, ...) scaled, or only rounded where there is no scaling."""
    if scaling is not None:
        return scaling.apply(x)
    with np.errstate(over="ignore"):  # infinity is refused later, by name
        return x.astype(np.float32, copy=False)
