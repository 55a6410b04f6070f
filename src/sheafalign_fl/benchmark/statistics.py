"""Paired differences over seeds: Student's t, its interval, and Holm's correction for many claims.

A seed gives two methods the same events, batches and initial weights where these are alike, so what
they differ by within a seed is compared, not their means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf, sqrt

LEVEL = 0.05
"""Probability of one wrong verdict or more among all verdicts of a benchmark."""
ENOUGH_SEEDS = 5
"""Fewer settle nothing."""
MOST_SEEDS = 1000
"""Beyond so many nobody will look."""
_NOTHING = 1e-12
"""Figures closer than this are equal: means of fractions differ by units in the last place."""


@dataclass(frozen=True)
class Paired:
    """Differences of two methods, seed by seed.

    Attributes
    ----------
    mean, deviation
        Of the differences; the sample standard deviation of a single one is infinite, as nothing is
        known of it.
    count
        How many seeds both have.
    """

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, differences: Sequence[float]) -> "Paired":
        """Return mean and deviation; `ValueError` without any difference."""
        if not differences:
            raise ValueError("no seed is there of both methods")
        count = len(differences)
        centre = fsum(differences) / count
        if abs(centre) <= _NOTHING:
            centre = 0.0
        if count < 2:
            return cls(centre, inf, count)
        if max(differences) - min(differences) <= _NOTHING:
            return cls(centre, 0.0, count)
        squares = fsum((value - centre) ** 2 for value in differences)
        return cls(centre, sqrt(squares / (count - 1)), count)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.deviation / sqrt(self.count)

    def above(self) -> float:
        """Return the probability of a mean so high or higher if there were no difference.

        Where all differences are equal there is no chance in them: 0 if they are above zero, else
        1. Of a single seed nothing is known: 1.
        """
        return _tail(self.mean, self)

    def below(self) -> float:
        """Return the probability of a mean so low or lower if there were no difference."""
        return _tail(-self.mean, self)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the two-sided interval that misses the true mean with probability `level`."""
        if self.count < 2:
            return -inf, inf
        half = _quantile(level, self.count) * self.error
        return self.mean - half, self.mean + half


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down rule, in the same order.

    The smallest is multiplied by their number n, the next one by n - 1, and so on; none becomes
    smaller than one before it, or more than 1. Rejecting those up to `LEVEL` keeps the probability
    of any wrong rejection below `LEVEL`, whatever depends on what (Holm, Scandinavian Journal of
    Statistics 6, 1979).
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted


def seeds_to_settle(found: Paired, level: float) -> int | None:
    """Return with how many seeds the interval would leave out zero, if nothing else changed.

    Mean and deviation of the differences stay those of `found`; `level` is two-sided. None where
    that is unknown, or beyond `MOST_SEEDS`.
    """
    if found.count < 2 or found.mean == 0:
        return None
    import numpy as np
    from scipy.stats import t

    counts = np.arange(max(ENOUGH_SEEDS, found.count), MOST_SEEDS + 1)
    half = t.isf(level / 2, counts - 1) * found.deviation / np.sqrt(counts)
    enough = counts[abs(found.mean) > half]
    return int(enough[0]) if len(enough) else None


def _tail(mean: float, found: Paired) -> float:
    if found.count < 2:
        return 1.0
    if found.deviation == 0:
        return 0.0 if mean > 0 else 1.0
    from scipy.stats import t  # seconds to load, and only reports need it

    return float(t.sf(mean / found.error, found.count - 1))


def _quantile(level: float, count: int) -> float:
    from scipy.stats import t

    return float(t.isf(level / 2, count - 1))
