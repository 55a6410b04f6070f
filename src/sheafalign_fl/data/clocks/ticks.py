"""Events from clocks: which sample of a sensor belongs to which tick that all have in common."""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import ConfigError

_MOST_TICKS_OF_A_SAMPLE = 100


def ticks(
    times: NDArray[np.float64], period: float, tolerance: float
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the sample nearest to each tick, and the tick's number, in order of time.

    Ticks are at all whole multiples of the period, so machines whose clocks agree number them alike
    without a word between them. A tick without a sample within the tolerance is left out; of two
    samples as near the earlier is taken.

    Parameters
    ----------
    times
        Shape (N,), seconds, in any order.
    period
        Seconds from a tick to the next.
    tolerance
        Seconds that a sample may lie beside its tick.

    Raises
    ------
    ConfigError
        Period or tolerance is not positive, or the tolerance spans more than a hundred ticks.
    """
    if not period > 0 or not np.isfinite(period):
        raise ConfigError(f"data.options.period: must be above 0 seconds, not {period}")
    if not tolerance > 0 or tolerance / period > _MOST_TICKS_OF_A_SAMPLE / 2:
        most = period * _MOST_TICKS_OF_A_SAMPLE / 2
        raise ConfigError(
            f"data.options.tolerance: must be above 0 and at most {most:g} seconds, not {tolerance}"
        )
    reach = int(np.ceil(tolerance / period))
    nearest = np.round(times / period).astype(np.int64)
    tick = (nearest[:, None] + np.arange(-reach, reach + 1)).ravel()
    row = np.repeat(np.arange(len(times)), 2 * reach + 1)
    distance = np.abs(tick * period - times[row])
    # Times are seconds since 1970 or so: what lies on the tolerance must not fall to rounding.
    near = distance <= tolerance + 4 * np.spacing(np.abs(times[row]))
    tick, row, distance = tick[near], row[near], distance[near]
    order = np.lexsort((times[row], distance, tick))
    numbers, first = np.unique(tick[order], return_index=True)
    return row[order][first], numbers
