"""What a metric is: one descriptor, from which measuring, tables, words and comparisons follow.

A metric is a class with one of four kinds of `measure`: of one direction or one edge
(`PairMetric`), of one client (`ClientMetric`), or, by the evaluator on the relay, of the whole
federation (`FederationMetric`). It takes arrays and returns numbers. It never asks where the arrays
come from, and nobody else asks what the numbers mean: how they are shown and compared is said here,
by `columns`, `scores` and a few words.

A metric of your own is a subclass without arguments, named by a dotted path::

    evaluation:
      metrics: [retrieval, my_module:MyMetric]
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.labels import Kind
from sheafalign_fl.metrics.standing_in import StandIn
from sheafalign_fl.numbers import count_of, mean, percent_sign
from sheafalign_fl.row import Row

Array = NDArray[np.floating]
Labels = NDArray[Any]
"""Classes, several labels an event, or values (`sheafalign_fl.labels`); only classes, unless a
metric says that it takes others."""
Number = float | int | None
Numbers = Mapping[str, Number]
Rows = Sequence[Any]
"""Rows of one metric; their numbers are attributes."""


class OwnRow(Row, extra="allow"):
    """A row of a metric that is not built in: whose it is, and its numbers as attributes."""

    __pydantic_extra__: dict[str, str | int | float | None]


# ---- what is measured ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Held-out events of one edge, as client `source` has them; row k of all is the same event."""

    source: str
    target: str
    own: Array
    """z_ij, shape (N, d_e); refined, as all z here, if the metric is `refined`."""
    received: Array
    """z_ji, shape (N, d_e)."""
    labels: Labels
    """Shape (N,), -1 where unknown."""
    fit_own: Array
    """z_ij of training events, shape (M, d_e); M is 0 unless the metric `needs_fit`."""
    fit_labels: Labels
    """Shape (M,)."""


@dataclass(frozen=True)
class Own:
    """Held-out events of one client."""

    client: str
    h: Array
    """Shape (N, d_i)."""
    labels: Labels
    """Shape (N,), -1 where unknown."""
    fit_h: Array
    """h of training events, shape (M, d_i); M is 0 unless the metric `needs_fit`."""
    fit_labels: Labels
    """Shape (M,)."""


@dataclass(frozen=True)
class Together:
    """Events that every client has, in one place."""

    h: Mapping[str, Array]
    """Client -> shape (N, d_i)."""
    labels: Labels
    fit_h: Mapping[str, Array]
    """Client -> h of training events, shape (M, d_i)."""
    fit_labels: Labels
    imputed: Mapping[tuple[str, str], Array]
    """(i, j) -> Q_ji z_ij, shape (N, d_j), for every directed edge."""
    shared_space: bool
    """A constant sheaf: any client's h may stand for another's."""
    standing_in: Mapping[str, StandIn] = field(default_factory=dict)
    """j -> how h_j follows from the z that its neighbours sent, fitted on what was received in
    training; without those that had received too little."""


@dataclass(frozen=True)
class Nearby:
    """What one client has without asking: its own h, and z_ji of its neighbours j.

    Of events that all of them have. `fit_parts` are what was received last in training.
    """

    client: str
    parts: Mapping[str, Array]
    """The client -> h, shape (N, d_i); neighbour -> z, shape (N, d_e)."""
    labels: Labels
    fit_parts: Mapping[str, Array]
    fit_labels: Labels
    imputed: Mapping[tuple[str, str], Array]
    """(j, i) -> Q_ij z_ji and (i, j) -> z_ij: the paper's way to any part, shape (N, d)."""
    shared_space: bool
    standing_in: Mapping[str, StandIn]
    """Part -> how it follows from the others."""


# ---- how it is shown -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One column of a metric's table."""

    heading: str
    field: str
    """Name of the number in a row."""
    kind: Literal["percent", "count", "number", "flag"] = "percent"
    """percent: a fraction, shown times 100; count: an integer; number: as `spec` says; flag: yes
    or no, over rows how many say yes."""
    spec: str = ".3g"
    mean_spec: str = ".3g"
    """Format of the mean over rows."""
    chance: Callable[[Any], float] | None = None
    """What guessing gives in one row."""
    optional: bool = False
    """Left out where no row has it."""


@dataclass(frozen=True)
class Score:
    """A figure by which runs are compared: one number out of all rows."""

    name: str
    of: Callable[[Rows], float | None]
    percent: bool = True
    """A fraction, shown times 100."""
    higher_is_better: bool = True
    chance: Callable[[Rows], float | None] | None = None
    """What guessing gives, or another floor that anything should beat."""


@dataclass(frozen=True)
class Card:
    """A key figure at the head of a report."""

    title: str
    value: str
    remark: str


def mean_of(field: str) -> Callable[[Rows], float | None]:
    """Return a function: rows -> mean of one of their numbers, None where nobody has it."""
    return lambda rows: mean(getattr(row, field, None) for row in rows)


# ---- the descriptor ------------------------------------------------------------------------------


class Metric(ABC):
    """What everybody has to know of a metric. Subclass one of the three kinds below."""

    name: ClassVar[str]
    """Of a built-in metric: its name in settings and in `summary.json`."""
    title: ClassVar[str]
    """Heading of its table."""
    explanation: ClassVar[str] = ""
    """What the numbers mean and what is good, for the report."""
    row: ClassVar[type[Row]] = OwnRow
    """The row in `summary.json`."""
    columns: ClassVar[tuple[Column, ...]]
    """Of its table, after whose row it is and of how many events."""
    ranked_by: ClassVar[str] = ""
    """The number by which long tables are cut to the worst and best; default: the first
    column's."""
    higher_is_better: ClassVar[bool] = True
    """Of `ranked_by`."""
    scores: ClassVar[tuple[Score, ...]] = ()
    """By which runs are compared; the first one is the headline."""
    narrow: ClassVar[bool] = True
    """Its table may stand beside another one."""
    needs_labels: ClassVar[bool] = False
    """Events without a label are of no use to it; others may use labels where there are some."""
    needs_fit: ClassVar[bool] = False
    """It fits something on training events: labelled ones, if it needs labels."""
    periodic: ClassVar[bool] = False
    """Cheap enough to be measured between exchanges too."""
    leaves_client: ClassVar[bool] = False
    """It needs embeddings outside the clients, so no run has it whose edges are sealed, unless
    there is a `nearby_row`."""
    nearby_row: ClassVar[type[Row] | None] = None
    """What a client says that measures it nearby, where edges are sealed; None: it cannot."""
    label_kinds: ClassVar[frozenset[Kind]] = frozenset({"classes"})
    """The kinds of labels that it can use."""

    @property
    def rank(self) -> Callable[[Any], float]:
        """Return a function: row -> number that is higher in better rows."""
        field, sign = self.ranked_by or self.columns[0].field, 1 if self.higher_is_better else -1
        return lambda row: sign * float(getattr(row, field))

    def cards(self, rows: Rows, split: str) -> list[Card]:
        """Return the key figures of a report; by default the headline and its floor."""
        if not self.scores or (value := self.scores[0].of(rows)) is None:
            return []
        score = self.scores[0]
        remark = f"{score.name}, {count_of(len(rows), 'row')}, {split}"
        if score.chance is not None and (floor := score.chance(rows)) is not None:
            remark += f"; floor {_shown(score, floor)}"
        return [Card(self.title, _shown(score, value), remark)]

    def facts(self, rows: Rows) -> dict[str, Any]:
        """Return what `benchmark.json` keeps of the rows in fields of its own."""
        return {}


class PairMetric(Metric):
    """Measured by a client on its own and on a neighbour's comparison embeddings."""

    directed: ClassVar[bool] = True
    """i -> j and j -> i are two results; else the first client of an edge measures for both."""
    refined: ClassVar[bool] = True
    """It compares embeddings as they are compared in use (`evaluation.refine`), not as they are
    exchanged."""

    @abstractmethod
    def measure(self, held: Pair) -> Numbers:
        """Return the numbers of one direction or edge; ``events`` may say of how many they are."""


class ClientMetric(Metric):
    """Measured by a client on its own embeddings; of several labels it is the mean."""

    @abstractmethod
    def measure(self, held: Own) -> Numbers:
        """Return the numbers of one client; ``events`` may say of how many they are."""


class FederationMetric(Metric):
    """Measured by the evaluator, whom every client sends h; of several labels it is the mean."""

    leaves_client = True
    needs_labels = needs_fit = True

    @abstractmethod
    def measure(self, held: Together) -> Sequence[Numbers]:
        """Return the numbers of every row, in order."""

    def measure_nearby(self, held: Nearby) -> Sequence[Numbers]:
        """Return what one client can measure of it, as rows of `nearby_row`."""
        raise NotImplementedError

    def gathered(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Numbers]:
        """Return the rows of the federation out of what clients measured nearby."""
        raise NotImplementedError


def mean_over_labels(measured: Sequence[Numbers]) -> dict[str, Number]:
    """Return the numbers of one label as they are.

    Of several labels: means, flags that all of them have, counts of the first.
    """
    first = dict(measured[0])
    if len(measured) > 1:
        for name, value in first.items():
            values = [row[name] for row in measured]
            if isinstance(value, bool):
                first[name] = all(values)
            elif any(isinstance(each, float) for each in values):
                first[name] = mean(values)
    return first


def _shown(score: Score, value: float) -> str:
    return percent_sign(value) if score.percent else f"{value:.3g}"
