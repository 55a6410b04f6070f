"""Sensors of one scene with known clocks: bursts of activity that each sees in its own way."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recording:
    """What one sensor recorded."""

    time: NDArray[np.float64]
    x: NDArray[np.float64]


def scene(seed: int, span: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a fine grid of times and how much goes on at each: bursts at random moments."""
    rng = np.random.default_rng(seed)
    grid = np.arange(-60.0, span + 60.0, 0.01)
    activity = np.zeros(len(grid))
    for moment in rng.uniform(-60, span + 60, int((span + 120) / 3)):
        width = rng.uniform(0.1, 0.5)
        activity += rng.uniform(0.5, 2) * np.exp(-0.5 * ((grid - moment) / width) ** 2)
    return grid, activity


def recorded(
    seed: int, span: float, rate: float, sensor: int, lag: float = 0.0, drift: float = 0.0
) -> Recording:
    """Return noise as loud as the scene is active, on a clock that jitters, is off, and drifts.

    Parameters
    ----------
    lag, drift
        Seconds by which the clock is ahead in the middle, and parts per million by which it is
        fast.
    """
    grid, activity = scene(seed, span)
    rng = np.random.default_rng([seed, sensor])
    count = int(span * rate)
    time = np.arange(count) / rate + rng.normal(0, 0.05 / rate, count)
    x = rng.normal(size=(count, 3)) * np.interp(time, grid, activity)[:, None]
    x += 0.15 * rng.normal(size=(count, 3))
    return Recording(time + lag + drift * 1e-6 * (time - span / 2), x)
