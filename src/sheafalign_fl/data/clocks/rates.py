"""How a sensor's clock runs (rate, span, gaps, jitter), and which clock suits several of them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GAP = 3.0
"""A pause of so many usual intervals is a gap."""
_HOUR = 3600.0


@dataclass(frozen=True)
class Clock:
    """How the times of one sensor lie. All in seconds.

    Attributes
    ----------
    samples
        How many times there are.
    start, end
        The first and the last.
    interval
        From a sample to the next: the median; 0 with fewer than two different times.
    jitter
        95 % of the intervals that are no gaps differ from the median by no more.
    gaps, longest
        Pauses of more than three usual intervals: how many, and the longest (0 without any).
    unordered
        Samples that come before their predecessor.
    duplicates
        Samples that have the time of another one.
    turned
        The sample at which the clock jumps by an hour, as at a change of hour; -1 where it never
        does.
    """

    samples: int
    start: float
    end: float
    interval: float
    jitter: float
    gaps: int
    longest: float
    unordered: int
    duplicates: int
    turned: int

    @property
    def span(self) -> float:
        """Return the seconds from the first to the last sample."""
        return self.end - self.start

    @property
    def rate(self) -> float:
        """Return the samples per second; 0 where it is not known."""
        return 1 / self.interval if self.interval > 0 else 0.0

    def notes(self) -> tuple[str, ...]:
        """Return what is odd about it, as lines for people."""
        found = []
        if self.unordered:
            found.append(f"{self.unordered} samples come before their predecessor; sorted by time")
        if self.duplicates:
            found.append(
                f"{self.duplicates} samples have the time of another one, of which the first is "
                "taken"
            )
        if self.turned >= 0:
            found.append(
                f"the clock jumps by an hour at sample {self.turned}, as local time does; save UTC,"
                " or name the zone in data.options.time_zone"
            )
        return tuple(found)


@dataclass(frozen=True)
class Grid:
    """A clock that several sensors can share, in seconds."""

    period: float
    tolerance: float
    """0: half the period, which is enough."""


def describe_clock(times: NDArray[np.float64]) -> Clock:
    """Return how `times` (N,) lie, N at least 1."""
    steps = np.diff(times)
    ordered = np.sort(times)
    between = np.diff(ordered)
    apart = between[between > 0]
    interval = float(np.median(apart)) if len(apart) else 0.0
    gap = between > _GAP * interval if interval > 0 else np.zeros(len(between), dtype=bool)
    usual = apart[apart <= _GAP * interval]
    slack = max(2 * interval, 1e-6)
    # By an hour and no gap of the recording's: forward it is one step longer, backward shorter.
    turns = np.abs(np.abs(steps - interval) - _HOUR) <= slack if interval > 0 else steps > np.inf
    turned = int(np.argmax(turns)) + 1 if turns.any() and interval < _HOUR / 10 else -1
    return Clock(
        samples=len(times),
        start=float(ordered[0]),
        end=float(ordered[-1]),
        interval=interval,
        jitter=float(np.quantile(np.abs(usual - interval), 0.95)) if len(usual) else 0.0,
        gaps=int(gap.sum()),
        longest=float(between[gap].max()) if gap.any() else 0.0,
        unordered=int((steps < 0).sum()),
        duplicates=int((between == 0).sum()),
        turned=turned,
    )


def propose_grid(clocks: Iterable[Clock]) -> Grid | None:
    """Return the finest clock at which even the slowest sensor has a sample for every tick.

    None where no sensor has two different times.
    """
    known = [clock for clock in clocks if clock.interval > 0]
    if not known:
        return None
    slowest = max(known, key=lambda clock: clock.interval)
    period = rounded(slowest.interval * 0.995, up=True)
    needed = (slowest.interval + slowest.jitter) / 2
    return Grid(
        period=period,
        tolerance=0.0 if needed <= period / 2 * 1.02 else rounded(needed, up=True),
    )


def rounded(value: float, *, up: bool) -> float:
    """Return a positive `value` rounded up or down to two digits."""
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    digits = value / scale
    whole = math.ceil(digits - 1e-9) if up else math.floor(digits + 1e-9)
    return float(f"{whole * scale:.2g}")
