"""Sequential change detection on one statistic (Page, *Continuous inspection schemes*, Biometrika 1954).

A CUSUM adds up by how much a statistic exceeds its forecast, in units of its own scatter, less an allowance; an alarm
is raised when the sum passes a threshold. The forecast has to follow training, which moves every statistic for good
reasons, and must not follow a fault. So a statistic is *free* (it may move either way: level and trend are forecast,
after Holt, and a jump counts in both directions) or *improving* (training lowers it; the level follows down at once and
up only very slowly, and only a rise counts), which is what finds a slow drift.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WARM_UP = 20
"""Looks before the first verdict: the scatter is not known before."""
ALLOWANCE = 1.5
"""In units of scatter; changes smaller than this never raise an alarm."""
THRESHOLD = 12.0
"""On clean runs the sums stay below 4 (`experiments/faults.py` measures it again)."""
CLIP = 6.0
"""Of one look, so that no single batch raises an alarm: it takes three in a row."""
_LEVEL, _TREND, _SCATTER = 0.15, 0.02, 0.05
_RISE = 0.002
"""How fast the level of an improving statistic follows a rise: a tenth of it in 50 looks."""

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
    level: float = 0.0
    trend: float = 0.0
    scatter: float = 0.0
    above: float = 0.0
    below: float = 0.0
    above_for: float = 0.0
    below_for: float = 0.0

    def look(self, value: float) -> Change | None:
        """Take in the next value; return the change if it proves one. The detector then begins anew."""
        if self.count == 0:
            self.level, self.scatter, self.count = value, self.floor, 1
            return None
        expected = self.level + self.trend
        scatter = max(self.scatter, self.floor)
        excess = float(np.clip((value - expected) / scatter, -CLIP, CLIP))
        change = self._judge(value, expected, scatter, excess)
        if change is None:
            self._follow(value, expected, scatter)
        return change

    def _judge(
        self, value: float, expected: float, scatter: float, excess: float
    ) -> Change | None:
        if self.count < WARM_UP:
            return None
        self.above = max(0.0, self.above + excess - ALLOWANCE)
        self.above_for = self.above_for + 1 if self.above else 0
        if self.kind == "free":
            self.below = max(0.0, self.below - excess - ALLOWANCE)
            self.below_for = self.below_for + 1 if self.below else 0
        if max(self.above, self.below) < THRESHOLD:
            return None
        looks = self.above_for if self.above >= THRESHOLD else self.below_for
        self.load(np.zeros(len(fields(self)) - 2))
        return Change(value, expected, scatter, int(looks))

    def _follow(self, value: float, expected: float, scatter: float) -> None:
        """Move level, trend and scatter; once warm, by no more than an ordinary deviation at a time."""
        warm = self.count >= WARM_UP
        error = value - expected
        if warm:
            error = float(np.clip(error, -2 * scatter, 2 * scatter))
        rate = max(_LEVEL, 1 / (self.count + 1))
        if self.kind == "improving":
            rising = warm and error > 0
            self.level += (_RISE if rising else rate) * error
        else:
            self.level = expected + rate * error
            self.trend += _TREND * error if warm else 0.0
        size = 1.4826 * 0.845 * abs(error)  # the median of |error| from its mean, both of a normal distribution
        self.scatter += max(_SCATTER, 1 / (self.count + 1)) * (size - self.scatter)
        self.count += 1

    def state(self) -> NDArray[np.float64]:
        """Return all that changes, as numbers."""
        return np.array([getattr(self, field.name) for field in fields(self)[2:]])

    def load(self, state: NDArray[np.float64]) -> None:
        """Restore what `state` returned."""
        for field, value in zip(fields(self)[2:], state.tolist(), strict=True):
            setattr(self, field.name, value)
