"""Sequential change detection on one statistic.

A CUSUM (Page, *Continuous inspection schemes*, Biometrika 1954) adds up by how much a statistic
exceeds its forecast, in units of its own scatter, less an allowance; an alarm is raised when the
sum passes a threshold. The forecast has to follow training, which moves every statistic for good
reasons, and must not follow a fault. Of a *free* statistic level and trend are forecast (after
Holt), and a jump counts in both directions; of a *rising* one upwards only. An *improving*
statistic is one that training lowers: its level follows down at once and up only very slowly, and
only a rise counts, which is what finds a slow drift; its scatter is that of successive differences
(von Neumann et al., 1941), which a drift does not add to. That of the others is of what the
forecast missed.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WARM_UP = 20
"""Looks before the first verdict: the scatter is not known before."""
ALLOWANCE = 2.0
"""In units of scatter; smaller changes never raise an alarm."""
THRESHOLD = 12.0
"""In units of scatter; `experiments/faults.py` measures how near clean runs come to it."""
CLIP = 8.0
"""Of one look, in units of scatter, so that no single batch raises an alarm: it takes two."""
LEAST_LOOKS = 3
"""Looks in a row that have to exceed, so that no two do either."""
_LEVEL, _TREND, _SCATTER = 0.15, 0.02, 0.05
_RISE = 0.002
"""How fast the level of an improving statistic follows a rise: a tenth of it in 50 looks."""
_OF_DIFFERENCES = 0.886
"""Standard deviation over mean absolute successive difference, of independent normal values."""
_OF_ERRORS = 1.2533
"""Standard deviation over mean absolute value, of normal values."""

Kind = Literal["free", "rising", "improving"]


@dataclass(frozen=True)
class Change:
    """A change that a detector has found."""

    value: float
    expected: float
    scatter: float
    looks: int
    """Looks since the sum last left 0: how long ago the change seems to have begun."""


@dataclass
class Detector:
    """Level, trend and scatter of one statistic, and the sums of what exceeds them."""

    kind: Kind
    floor: float
    """Scatter is never taken for less: a smaller change is of no interest, however sure."""
    count: float = 0.0
    last: float = 0.0
    level: float = 0.0
    smooth: float = 0.0
    trend: float = 0.0
    scatter: float = 0.0
    above: float = 0.0
    below: float = 0.0
    above_for: float = 0.0
    below_for: float = 0.0

    def look(self, value: float) -> Change | None:
        """Take in the next value; return the change if it proves one, and begin anew then."""
        if self.count == 0:
            self.level = self.smooth = self.last = value
            self.scatter, self.count = self.floor, 1
            return None
        expected = self.level + self.trend
        scatter = max(self.scatter, self.floor)
        change = self._judge(value, expected, scatter) if self.count >= WARM_UP else None
        if change is None:
            self._follow(value, expected, scatter)
        return change

    def _judge(self, value: float, expected: float, scatter: float) -> Change | None:
        excess = float(np.clip((value - expected) / scatter, -CLIP, CLIP))
        self.above = max(0.0, self.above + excess - ALLOWANCE)
        self.above_for = self.above_for + 1 if self.above else 0
        if self.kind == "free":
            self.below = max(0.0, self.below - excess - ALLOWANCE)
            self.below_for = self.below_for + 1 if self.below else 0
        for total, looks in ((self.above, self.above_for), (self.below, self.below_for)):
            if total >= THRESHOLD and looks >= LEAST_LOOKS:
                self.load(np.zeros(len(fields(self)) - 2))
                return Change(value, expected, scatter, int(looks))
        return None

    def _follow(self, value: float, expected: float, scatter: float) -> None:
        """Move level and scatter; once warm, by no more than an ordinary deviation at a time."""
        warm = self.count >= WARM_UP
        most = 2 * scatter if warm else np.inf
        rate = max(_LEVEL, 1 / (self.count + 1))
        if self.kind == "improving":
            self.smooth += rate * float(np.clip(value - self.smooth, -most, most))
            above = warm and self.smooth > self.level
            self.level += (_RISE if above else 1.0) * (self.smooth - self.level)
            size = _OF_DIFFERENCES * abs(value - self.last)
        else:
            error = float(np.clip(value - expected, -most, most))
            self.level = expected + rate * error
            self.trend += _TREND * error if warm else 0.0
            size = _OF_ERRORS * abs(error)
        size = min(size, most)
        self.scatter += max(_SCATTER, 1 / (self.count + 1)) * (size - self.scatter)
        self.last = value
        self.count += 1

    @property
    def nearness(self) -> float:
        """How near it is to an alarm, which is at 1."""
        return max(self.above, self.below) / THRESHOLD

    def state(self) -> NDArray[np.float64]:
        """Return all that changes, as numbers."""
        return np.array([getattr(self, field.name) for field in fields(self)[2:]])

    def load(self, state: NDArray[np.float64]) -> None:
        """Restore what `state` returned."""
        for field, value in zip(fields(self)[2:], state.tolist(), strict=True):
            setattr(self, field.name, value)
