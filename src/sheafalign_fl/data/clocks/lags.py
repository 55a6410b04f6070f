"""How far the clocks of two sensors are apart, and how fast they drift, from the data alone.

Two sensors that see the same thing are active at the same moments, whatever they measure. So each
recording becomes an envelope of activity on a common grid; the lag is where the cross-correlation
of two envelopes is highest, and the drift is how the lags of successive pieces grow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.clocks.rates import describe_clock

Floats = NDArray[np.float64]
_MOST_FEATURES = 64
_MOST_BINS = 200_000
_MOST_LAG = 30.0
"""Seconds: a clock that is further off is not found."""
_BINS_OF_A_PIECE = 400
_LEAST_PIECES, _MOST_PIECES = 4, 24
_SLOW = 10.0
"""Seconds over which activity is compared with its own mean: slower changes are no events."""
_CLEAR = 6.0
"""A peak is believed if it stands so many deviations above all other lags ..."""
_LEAD = 1.1
"""... and is so many times as high as the next one that is no shoulder of it."""
_LEAST_STEP = 0.01


@dataclass(frozen=True)
class Lag:
    """How the second of two clocks differs from the first: its time minus the first's.

    Attributes
    ----------
    seconds
        At the time `at` of the first clock.
    drift
        Parts per million by which the second clock is faster.
    error
        Of `seconds`: half the grid's step, and how well the pieces of the recording agree.
    clearness
        How far the peak stands above all other lags, in deviations.
    at
        Middle of the recording, in seconds.
    """

    seconds: float
    drift: float
    error: float
    clearness: float
    at: float


def estimate_lag(
    times: tuple[Floats, Floats], values: tuple[NDArray[Any], NDArray[Any]]
) -> Lag | None:
    """Return how the second clock differs from the first; None where the data does not tell.

    Parameters
    ----------
    times
        Of each sensor, (N,), seconds, in any order.
    values
        Of each sensor, (N, ...).
    """
    start = max(float(t.min()) for t in times)
    end = min(float(t.max()) for t in times)
    step = _step(times, end - start)
    if step is None:
        return None
    count = int((end - start) / step)
    one, other = (_envelope(t, x, start, step, count) for t, x in zip(times, values, strict=True))
    reach = min(int(_MOST_LAG / step), count // 4)
    whole = _peak(one, other, reach)
    pieces = _pieces(one, other, reach, step)
    at = start + count * step / 2
    if len(pieces) >= _LEAST_PIECES:
        middle, lag, weight = (np.array(column) for column in zip(*pieces, strict=True))
        fitted = _line(middle - count * step / 2, lag, weight, step / 2)
        if fitted is not None:
            seconds, drift, error = fitted
            clear = float(np.median(weight)) if whole is None else whole[1]
            return Lag(seconds, drift * 1e6, float(np.hypot(error, step / 2)), clear, at)
    if whole is None:
        return None
    return Lag(whole[0] * step, 0.0, step / 2, whole[1], at)


def lags_to_reference(lags: Mapping[tuple[str, str], Lag]) -> dict[str, Lag]:
    """Return for every sensor but the first of each connected group how it differs from that first.

    Parameters
    ----------
    lags
        (first, second) -> the second's difference from the first. Where there are more pairs than
        needed, the clearest are taken: a tree in which errors add up least.
    """
    found: dict[str, Lag] = {}
    names = sorted({name for pair in lags for name in pair})
    while rest := [name for name in names if name not in found]:
        root = rest[0]
        found[root] = Lag(0.0, 0.0, 0.0, np.inf, 0.0)
        while (step := _clearest(lags, found)) is not None:
            known, new, lag = step
            base = found[known]
            found[new] = Lag(
                base.seconds + base.drift * 1e-6 * (lag.at - base.at) + lag.seconds,
                base.drift + lag.drift,
                float(np.hypot(base.error, lag.error)),
                min(base.clearness, lag.clearness),
                lag.at,
            )
    return {name: lag for name, lag in found.items() if np.isfinite(lag.clearness)}


def _clearest(
    lags: Mapping[tuple[str, str], Lag], found: Mapping[str, Lag]
) -> tuple[str, str, Lag] | None:
    """Return the clearest step from a known sensor to a new one."""
    steps = []
    for (first, second), lag in lags.items():
        if first in found and second not in found:
            steps.append((lag.clearness, first, second, lag))
        elif second in found and first not in found:
            turned = Lag(-lag.seconds, -lag.drift, lag.error, lag.clearness, lag.at)
            steps.append((lag.clearness, second, first, turned))
    return max(steps, key=lambda step: step[0])[1:] if steps else None


# ---- activity ----------------------------------------------------------------------------------


def _step(times: tuple[Floats, Floats], overlap: float) -> float | None:
    """Return the grid's step: that of the slower sensor; None where too little is shared."""
    slowest = max(describe_clock(t).interval for t in times)
    if overlap <= 0 or slowest <= 0:
        return None
    step = max(slowest, _LEAST_STEP, overlap / _MOST_BINS)
    return step if overlap / step >= _BINS_OF_A_PIECE / 4 else None


def _envelope(times: Floats, values: NDArray[Any], start: float, step: float, count: int) -> Floats:
    """Return how active a sensor is in each bin of the grid, (count,), without slow changes.

    Activity is how much the values change, from bin to bin and within one: so a fast sensor and a
    slow one are treated alike.
    """
    x = np.asarray(values).reshape(len(values), -1)
    x = x[:, :: -(-x.shape[1] // _MOST_FEATURES)].astype(np.float64)
    inside = (times >= start) & (times < start + count * step) & np.isfinite(x).all(axis=1)
    x, bins = x[inside], ((times[inside] - start) / step).astype(np.int64)
    scale = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    bins = np.minimum(bins, count - 1)
    number = np.bincount(bins, minlength=count)
    mean = _by_bin(x, bins, count) / np.maximum(number, 1)[:, None]
    there = np.flatnonzero(number)
    if len(there) < 2:
        return np.zeros(count)
    grid = np.arange(count)
    mean = np.stack([np.interp(grid, there, column[there]) for column in mean.T], axis=1)
    within = _by_bin(np.square(x - mean[bins]), bins, count) / np.maximum(number, 1)[:, None]
    change = np.square(np.gradient(mean, axis=0)).mean(axis=1) + within.mean(axis=1)
    active = np.log(change + 1e-3 * float(change.mean()) + 1e-12)
    active = np.where(_smooth(number.astype(np.float64), 1) > 0, active, np.nan)
    return _centred(active, max(3, round(_SLOW / step)))


def _by_bin(x: Floats, bins: NDArray[np.int64], count: int) -> Floats:
    return np.stack([np.bincount(bins, column, count) for column in x.T], axis=1)


def _smooth(values: Floats, reach: int) -> Floats:
    """Return the mean of each value and its `reach` neighbours on both sides."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    low = np.maximum(np.arange(len(values)) - reach, 0)
    high = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low), dtype=np.float64)


def _centred(values: Floats, width: int) -> Floats:
    """Return the values less their running mean, at most 3 deviations large, 0 where unknown."""
    known = np.isfinite(values)
    if known.sum() < 2:
        return np.zeros(len(values))
    filled = np.where(known, values, 0.0)
    share = _smooth(known.astype(np.float64), width // 2)
    flat = np.where(known, filled - _smooth(filled, width // 2) / np.maximum(share, 1e-9), 0.0)
    scale = float(flat[known].std())
    return np.clip(flat / scale, -3.0, 3.0) if scale > 0 else np.zeros(len(values))


# ---- lags --------------------------------------------------------------------------------------


def _peak(one: Floats, other: Floats, reach: int) -> tuple[float, float] | None:
    """Return the lag of `other` behind `one` in bins, to a fraction, and how clear it is."""
    if reach < 2:
        return None
    size = 1 << (len(one) + reach).bit_length()
    spectrum = np.conj(np.fft.rfft(one, size)) * np.fft.rfft(other, size)
    circular = np.fft.irfft(spectrum, size)
    correlation = np.concatenate([circular[-reach:], circular[: reach + 1]])
    lag = np.arange(-reach, reach + 1)
    correlation /= np.maximum(len(one) - np.abs(lag), 1)
    top = int(np.argmax(correlation))
    if top in (0, 2 * reach):
        return None
    low, high = _shoulders(correlation, top)
    rest = np.concatenate([correlation[:low], correlation[high:]])
    if len(rest) < 3:
        return None
    spread = 1.4826 * float(np.median(np.abs(rest - np.median(rest)))) or 1e-12
    clear = (float(correlation[top]) - float(np.median(rest))) / spread
    if clear < _CLEAR or correlation[top] < _LEAD * rest.max():
        return None
    before, here, after = correlation[top - 1 : top + 2].tolist()
    bend = before - 2 * here + after
    return float(lag[top]) + (0.5 * (before - after) / bend if bend < 0 else 0.0), clear


def _shoulders(correlation: Floats, top: int) -> tuple[int, int]:
    """Return where the peak at `top` ends on both sides: where it has fallen below a quarter."""
    below = np.flatnonzero(correlation < correlation[top] / 4)
    left, right = below[below < top], below[below > top]
    return (
        int(left[-1]) if len(left) else 0,
        int(right[0]) + 1 if len(right) else len(correlation),
    )


def _pieces(
    one: Floats, other: Floats, reach: int, step: float
) -> list[tuple[float, float, float]]:
    """Return (middle, lag, clearness) of the pieces whose lag is clear, in seconds."""
    size = max(_BINS_OF_A_PIECE, 2 * reach, -(-len(one) // _MOST_PIECES))
    found = []
    for first in range(0, len(one) - size + 1, size // 2):
        piece = slice(first, first + size)
        peak = _peak(one[piece], other[piece], min(reach, size // 2))
        if peak is not None:
            found.append(((first + size / 2) * step, peak[0] * step, peak[1]))
    return found


def _line(
    middle: Floats, lag: Floats, weight: Floats, least: float
) -> tuple[float, float, float] | None:
    """Return (value at 0, slope, standard error) of a robust line; None if the lags do not agree.

    Theil-Sen first, to find the lags that are none; then least squares over the others. A slope
    within three of its own errors, or that makes no more than `least` over all pieces, counts as
    no drift.
    """
    pairs = np.array(list(combinations(range(len(lag)), 2)))
    slope = float(
        np.median(
            (lag[pairs[:, 1]] - lag[pairs[:, 0]]) / (middle[pairs[:, 1]] - middle[pairs[:, 0]])
        )
    )
    residual = lag - slope * middle
    residual -= np.median(residual)
    spread = 1.4826 * float(np.median(np.abs(residual)))
    kept = np.abs(residual) <= max(4 * spread, 1e-3)
    if kept.sum() < max(_LEAST_PIECES, len(lag) / 2):
        return None
    x, y, w = middle[kept], lag[kept], weight[kept]
    level, tilt, error, tilt_error = _least_squares(x, y, w)
    if abs(tilt) <= 3 * tilt_error or abs(tilt) * float(np.ptp(x)) <= least:
        level = float(np.average(y, weights=w))
        return level, 0.0, float(np.std(y) / np.sqrt(len(y)))
    return level, tilt, error


def _least_squares(x: Floats, y: Floats, weight: Floats) -> tuple[float, float, float, float]:
    """Return level at 0, slope, and their standard errors, of a weighted straight line."""
    design = np.stack([np.ones(len(x)), x], axis=1)
    normal = design.T @ (design * weight[:, None])
    level, tilt = np.linalg.solve(normal, design.T @ (weight * y)).tolist()
    residual = y - level - tilt * x
    variance = float((weight * residual**2).sum() / max(len(x) - 2, 1))
    error, tilt_error = np.sqrt(np.diag(np.linalg.inv(normal)) * variance).tolist()
    return level, tilt, error, tilt_error
