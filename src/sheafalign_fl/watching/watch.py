"""The watch on one directed edge: it sees a sensor that lies, drifts, sticks or is swapped.

No labels are needed. It runs where embeddings are received, on them and on what this client sent of
the same events, so it costs no byte. It knows nothing of training: every look compares a batch with
the edge's own past, so it works the same on what comes in after training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.watching.changes import Change, Detector, Kind
from sheafalign_fl.watching.receipt import Refusal
from sheafalign_fl.watching.relation import Relation
from sheafalign_fl.watching.statistics import FLOOR, Measures, measure

MIN_EVENTS = 8
"""A smaller batch is not looked at: its statistics say too little."""
ALIKE_LOOKS = 3
"""Batches in a row whose rows are all alike, after which the sender is said to be stuck."""
_PROFILE_RATE = 0.1

Statistic = Literal["size", "spread", "profile", "alike", "disagreement", "rank"]
OF_BOTH_ENDS: frozenset[str] = frozenset({"disagreement", "rank", "unrelated"})
"""What depends on both ends; the rest depends on the sender alone."""

_DETECTORS: Mapping[Statistic, tuple[Kind, float]] = {
    "size": ("free", 0.05),
    "spread": ("free", 0.03),
    "profile": ("rising", 0.15),
    "disagreement": ("improving", 0.02),
    "rank": ("improving", 0.02),
}
"""Statistic -> how it may move, and the least scatter: of log size, of a share, of log distance, of
the normalised disagreement, and of the angle whose squared sine is the rank (which makes its
scatter about the same everywhere)."""


@dataclass(frozen=True)
class Alarm:
    """One statistic of an edge has changed."""

    statistic: Statistic
    value: float
    expected: float
    looks: int
    """How many looks ago the change seems to have begun; 1 is the present one."""


@dataclass(frozen=True)
class Look:
    """What one batch shows."""

    alarms: tuple[Alarm, ...] = ()
    refusal: Refusal | None = None
    """Why the batch should not be trained on: its two ends are not about the same events."""


class EdgeWatch:
    """Looks at every batch that one neighbour sends, and says when it has changed."""

    def __init__(self) -> None:
        self._detectors = {
            name: Detector(kind, floor) for name, (kind, floor) in _DETECTORS.items()
        }
        self._relation = Relation()
        self._profile: NDArray[np.float64] | None = None
        self._alike = 0

    def look(self, sent: NDArray[np.floating], received: NDArray[np.floating]) -> Look:
        """Take in one batch of both ends, shape (B, d_e), row by row the same events.

        Values have to be finite (`sheafalign_fl.watching.receipt` sees to that before).
        """
        if len(received) < MIN_EVENTS:
            return Look()
        seen = measure(sent, received)
        alarms = [
            _alarm(name, change)
            for name, value in self._values(seen).items()
            if (change := self._detectors[name].look(value)) is not None
        ]
        self._alike = self._alike + 1 if seen.distinct * seen.events <= 1 else 0
        if self._alike == ALIKE_LOOKS:
            alarms.append(Alarm("alike", 1.0, 0.0, ALIKE_LOOKS))
        return Look(tuple(alarms), self._relation.check(seen.rank, seen.events))

    def _values(self, seen: Measures) -> dict[Statistic, float]:
        values: dict[Statistic, float] = {
            "size": seen.size,
            "spread": float(np.exp(seen.spread)),
            "disagreement": seen.disagreement,
            "rank": float(np.arcsin(np.sqrt(seen.rank))),
        }
        if self._profile is None:
            self._profile = seen.profile.copy()
            return values
        apart = float(np.linalg.norm(seen.profile - self._profile))
        self._profile += _PROFILE_RATE * (seen.profile - self._profile)
        return values | {"profile": float(np.log(max(apart, FLOOR)))}

    @property
    def nearness(self) -> float:
        """How near the nearest statistic is to an alarm, which is at 1."""
        return max(detector.nearness for detector in self._detectors.values())

    def state(self) -> NDArray[np.float64]:
        """Return all that changes as one vector, for `load`."""
        parts = [detector.state() for detector in self._detectors.values()]
        profile = np.empty(0) if self._profile is None else self._profile
        return np.concatenate([[float(self._alike)], self._relation.state(), *parts, profile])

    def load(self, state: NDArray[np.float64]) -> None:
        """Restore what `state` returned."""
        self._alike, rest = int(state[0]), state[3:]
        self._relation.load(state[1:3])
        for detector in self._detectors.values():
            size = len(detector.state())
            detector.load(rest[:size])
            rest = rest[size:]
        self._profile = rest.copy() if len(rest) else None


def _alarm(name: Statistic, change: Change) -> Alarm:
    """Return the alarm in the statistic's own unit."""
    value, expected = change.value, change.expected
    if name == "rank":
        value, expected = (float(np.sin(angle) ** 2) for angle in (value, expected))
    elif name in ("size", "profile"):
        value, expected = float(np.exp(value)), float(np.exp(expected))
    return Alarm(name, value, expected, change.looks)
