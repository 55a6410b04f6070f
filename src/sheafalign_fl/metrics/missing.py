"""Accuracy with missing modalities (DESIGN section 5.4).

The fused probe is fitted on the concatenation of all h, at the evaluator. Where edges are sealed
nobody sends h, and each client measures what it can: a probe on its own h and on what its
neighbours send it, any of which may be missing. Imputation is the same for every method.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError
from sheafalign_fl.labels import known
from sheafalign_fl.metrics.answers import WORST_R2, fit_reader
from sheafalign_fl.metrics.base import (
    Card,
    Column,
    FederationMetric,
    Nearby,
    Numbers,
    Rows,
    Score,
    Together,
)
from sheafalign_fl.metrics.fused import (
    MOST_UNEXPLAINED,
    WHAT,
    FusedProbe,
    Measured,
    check_fused,
    shared_sources,
)
from sheafalign_fl.metrics.standing_in import MOST_SOURCES, StandIn
from sheafalign_fl.metrics.vectors import embeddings
from sheafalign_fl.numbers import mean, percent, percent_sign
from sheafalign_fl.row import Bounds, Row

Embeddings = Mapping[str, NDArray[np.floating]]
Imputed = Mapping[tuple[str, str], NDArray[np.floating]]


class Missing(Row):
    """Accuracy of the fused probe with `missing` clients absent, mean over all subsets.

    Of labels that are values it is R2.
    """

    missing: int
    subsets: int
    events: int
    imputed: float
    """The paper's way: h_j as the mean over present neighbours i of Q_ji z_ij; in a constant sheaf
    as the mean of all present h."""
    mean_fill: float
    zero_fill: float
    worst_imputed: float
    """Of the worst subset, the paper's way."""
    ridge: float | None = None
    """h_j by one ridge regression from all z that are present; the same for every method. None
    where nothing was received in training, and in runs of earlier versions."""
    worst_ridge: float | None = None
    unexplained: float | None = None
    """Share of the variance of h_j that ridge leaves unexplained; needs no label. 1: no better than
    the training mean."""
    unexplained_imputed: float | None = None
    """The same, the paper's way."""
    mae: float | None = None
    """Mean absolute error by ridge, of labels that are values, in their units."""
    clients: int | None = None
    """Edges were sealed: it is the mean over so many clients, each with a probe on its own h and on
    what its neighbours sent. None: the fused probe on all h."""

    @property
    def best_known(self) -> float:
        """By ridge, or the paper's way where there is no other."""
        return self.imputed if self.ridge is None else self.ridge


class MissingNearby(Missing):
    """What one client measures of itself and of its neighbours."""

    client: str
    key: ClassVar[tuple[str, ...]] = ("missing",)
    bounds: ClassVar[Bounds] = {
        **dict.fromkeys(
            ("imputed", "mean_fill", "zero_fill", "worst_imputed", "ridge", "worst_ridge"),
            (WORST_R2, 1.0),
        ),
        **dict.fromkeys(("unexplained", "unexplained_imputed"), (0.0, MOST_UNEXPLAINED)),
        "missing": (0, MOST_SOURCES),
        "subsets": (1, 64),
        "mae": (0.0, float("inf")),
    }


def _with(count: int, how: str) -> Callable[[Rows], float | None]:
    """Return a function: rows -> accuracy with so many clients missing, imputed one way."""
    return lambda rows: next((getattr(row, how) for row in rows if row.missing == count), None)


class MissingMetric(FederationMetric):
    """What remains when sensors fail."""

    name = "missing"
    title = "Missing modalities"
    explanation = (
        "The values behind the curve. Ridge: every missing embedding from all comparison "
        "embeddings that are there, by one ridge regression fitted on what was received in "
        "training. Paper: the mean of what the dual maps make of them (in one space, of the "
        "embeddings). Worst: the least favourable choice of missing clients. Unexplained: the "
        "share of the variance of the missing embeddings that an imputation leaves."
    )
    row = Missing
    nearby_row = MissingNearby
    columns = (
        Column("missing", "missing", "count"),
        Column("subsets", "subsets", "count"),
        Column("ridge %", "ridge", optional=True),
        Column("worst %", "worst_ridge", optional=True),
        Column("paper %", "imputed"),
        Column("worst, paper %", "worst_imputed"),
        Column("mean-fill %", "mean_fill"),
        Column("zero-fill %", "zero_fill"),
        Column("unexplained %", "unexplained", optional=True),
        Column("paper, unexplained %", "unexplained_imputed", optional=True),
        Column("MAE", "mae", "number", optional=True),
    )
    ranked_by = "imputed"
    scores = (
        Score("1 missing", _with(1, "ridge"), chance=_with(1, "mean_fill")),
        Score("2 missing", _with(2, "ridge"), chance=_with(2, "mean_fill")),
        Score("1 missing, paper's way", _with(1, "imputed"), chance=_with(1, "mean_fill")),
        Score("2 missing, paper's way", _with(2, "imputed"), chance=_with(2, "mean_fill")),
    )
    label_kinds = frozenset({"classes", "values", "multi"})

    def measure(self, held: Together) -> list[Numbers]:
        """Return one row for each number of missing clients."""
        found = missing_modalities(
            held.fit_h,
            held.fit_labels,
            held.h,
            held.labels,
            held.imputed,
            held.standing_in,
            shared_space=held.shared_space,
        )
        return [row.model_dump() for row in found]

    def measure_nearby(self, held: Nearby) -> list[Numbers]:
        """Return one row for each number that is missing of a client and its neighbours."""
        found = missing_modalities(
            held.fit_parts,
            held.fit_labels,
            held.parts,
            held.labels,
            held.imputed,
            held.standing_in,
            shared_space=held.shared_space,
        )
        return [row.model_dump() | {"client": held.client} for row in found]

    def gathered(self, rows: Sequence[Mapping[str, Any]]) -> list[Numbers]:
        """Return the mean over clients, by the number that is missing."""
        counts = sorted({int(row["missing"]) for row in rows})
        return [_mean_of_clients([row for row in rows if row["missing"] == k]) for k in counts]

    def cards(self, rows: Rows, split: str) -> list[Card]:
        """Return the accuracy with one client missing."""
        if len(rows) < 2:
            return []
        whole, one = rows[:2]
        how = "the paper's way" if one.ridge is None else "ridge"
        return [
            Card(
                "One client missing",
                percent_sign(one.best_known),
                f"imputed by {how}; {percent(whole.best_known)} % with all, "
                f"{percent(one.mean_fill)} % with mean-fill",
            )
        ]

    def facts(self, rows: Rows) -> dict[str, Any]:
        """Return accuracies by the number of missing clients."""
        kept = {"missing", "imputed", "mean_fill", "zero_fill", "ridge", "unexplained"}
        return {"missing": tuple(row.model_dump(include=kept) for row in rows)}


def _mean_of_clients(rows: Sequence[Mapping[str, Any]]) -> Numbers:
    means = {
        name: mean(row[name] for row in rows)
        for name in Missing.model_fields
        if name not in ("missing", "subsets", "events", "clients")
    }
    return means | {
        "missing": int(rows[0]["missing"]),
        "subsets": sum(int(row["subsets"]) for row in rows),
        "events": min(int(row["events"]) for row in rows),
        "clients": len(rows),
        "worst_imputed": min(row["worst_imputed"] for row in rows),
        "worst_ridge": min(
            (row["worst_ridge"] for row in rows if row["worst_ridge"] is not None), default=None
        ),
    }


def missing_modalities(
    train_h: Embeddings,
    train_labels: NDArray[Any],
    test_h: Embeddings,
    test_labels: NDArray[Any],
    imputed: Imputed,
    standing_in: Mapping[str, StandIn] | None = None,
    *,
    shared_space: bool,
    most: int | None = None,
) -> tuple[Missing, ...]:
    """Fit a probe on the concatenation of all h, test it with 0, 1, 2, ... clients missing.

    Parameters
    ----------
    train_h, test_h
        Client -> embeddings (M, d_i) and (N, d_i) of events that every client has. At a client with
        sealed edges these are its own h and its neighbours' z.
    train_labels, test_labels
        Classes, shapes (M,) and (N,); values, likewise; or several labels an event, (M, L) and (N,
        L). Rows without a label are left out.
    imputed
        (i, j) -> Q_ji z_ij of the test events, shape (N, d_j), for every directed edge i -> j: the
        paper's way, by which a missing h_j is the mean of these over the present neighbours i.
        Where no neighbour is present it is the training mean.
    standing_in
        j -> how h_j follows from its neighbours by ridge regression; their z are of the test
        events. Where none of them is present h_j is the training mean.
    shared_space
        A constant sheaf: the paper's way is the mean of all present h, and `imputed` is not looked
        at.
    most
        Largest number of missing clients; default: all but one.

    Returns
    -------
    tuple of Missing
        One for each number of missing clients; accuracies are means over subsets of that size. All
        subsets, up to 64 of them; beyond that a selection at even distances in lexicographic order
        (64 up to 16 clients, fewer for more, never fewer than 8). `Missing.subsets` says how many.

    Raises
    ------
    ValueError
        Shapes or clients do not fit together.
    DataError
        No test event is labelled, or the labelled training events are all alike.
    RunError
        An embedding is not finite.
    """
    clients = list(train_h)
    check_fused(
        clients, train_h, train_labels, test_h, test_labels, imputed, shared_space=shared_space
    )
    fit, tested = known(train_labels), known(test_labels)
    for mask, which in ((fit, "training"), (tested, "test")):
        if not mask.any():
            raise DataError(
                f"{WHAT}: none of {len(mask)} {which} events has a label, and this metric needs "
                "labels"
            )
    train = {
        client: embeddings(train_h[client][fit], f"{WHAT}, training events") for client in clients
    }
    reader = fit_reader(
        np.concatenate([train[client] for client in clients], axis=1), train_labels[fit], WHAT
    )
    probe = FusedProbe(reader, train)
    sources = shared_sources(test_h) if shared_space else imputed
    measured = Measured(probe, train, test_h, test_labels, tested, sources, standing_in or {})
    largest = len(clients) - 1 if most is None else min(most, len(clients) - 1)
    return tuple(Missing(**measured.numbers(count)) for count in range(largest + 1))
