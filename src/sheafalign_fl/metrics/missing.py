"""Accuracy with missing modalities (DESIGN section 5.4)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError
from sheafalign_fl.metrics.base import (
    Card,
    Column,
    FederationMetric,
    Numbers,
    Rows,
    Score,
    Together,
)
from sheafalign_fl.metrics.classifier import LinearClassifier, accuracy, fit_classifier
from sheafalign_fl.metrics.vectors import embeddings, labelled
from sheafalign_fl.numbers import percent, percent_sign
from sheafalign_fl.row import Row

Embeddings = Mapping[str, NDArray[np.floating]]
Imputed = Mapping[tuple[str, str], NDArray[np.floating]]
Shares = Mapping[str, NDArray[np.float64]]

_MOST_SUBSETS, _MOST_IN_ALL, _LEAST_SUBSETS = 64, 1024, 8
_WHAT = "missing modalities"


class Missing(Row):
    """Accuracy of the fused probe with `missing` clients absent, mean over all subsets."""

    missing: int
    subsets: int
    events: int
    imputed: float
    """h_j imputed as the mean over present neighbours i of Q_ji z_ij."""
    mean_fill: float
    zero_fill: float
    worst_imputed: float
    """Accuracy of the worst subset, imputed."""


def _imputed_with(count: int) -> Callable[[Rows], float | None]:
    """Return a function: rows -> accuracy with so many clients missing, imputed."""
    return lambda rows: next((row.imputed for row in rows if row.missing == count), None)


class MissingMetric(FederationMetric):
    """What remains when sensors fail."""

    name = "missing"
    title = "Missing modalities"
    explanation = (
        "The values behind the curve. Worst: the least favourable choice of missing clients, "
        "imputed."
    )
    row = Missing
    columns = (
        Column("missing", "missing", "count"),
        Column("subsets", "subsets", "count"),
        Column("imputed %", "imputed"),
        Column("worst %", "worst_imputed"),
        Column("mean-fill %", "mean_fill"),
        Column("zero-fill %", "zero_fill"),
    )
    ranked_by = "imputed"
    scores = (
        Score("1 missing", _imputed_with(1)),
        Score("2 missing", _imputed_with(2)),
    )

    def measure(self, held: Together) -> list[Numbers]:
        """Return one row for each number of missing clients."""
        found = missing_modalities(
            held.fit_h,
            held.fit_labels,
            held.h,
            held.labels,
            held.imputed,
            shared_space=held.shared_space,
        )
        return [row.model_dump() for row in found]

    def cards(self, rows: Rows, split: str) -> list[Card]:
        """Return the accuracy with one client missing."""
        if len(rows) < 2:
            return []
        whole, one = rows[:2]
        return [
            Card(
                "One client missing",
                percent_sign(one.imputed),
                f"imputed; {percent(whole.imputed)} % with all, "
                f"{percent(one.mean_fill)} % with mean-fill",
            )
        ]

    def facts(self, rows: Rows) -> dict[str, Any]:
        """Return accuracies by the number of missing clients."""
        kept = {"missing", "imputed", "mean_fill", "zero_fill"}
        return {"missing": tuple(row.model_dump(include=kept) for row in rows)}


def missing_modalities(
    train_h: Embeddings,
    train_labels: NDArray[np.integer],
    test_h: Embeddings,
    test_labels: NDArray[np.integer],
    imputed: Imputed,
    *,
    shared_space: bool,
    most: int | None = None,
) -> tuple[Missing, ...]:
    """Train a probe on the concatenation of all h, test it with 0, 1, 2, ... clients missing.

    Parameters
    ----------
    train_h, test_h
        Client -> embeddings (M, d_i) and (N, d_i) of events that every client has.
    train_labels, test_labels
        Shapes (M,) and (N,); rows with label -1 are left out.
    imputed
        (i, j) -> Q_ji z_ij of the test events, shape (N, d_j), for every directed edge i -> j. A
        missing h_j is the mean of these over the present neighbours i; where no neighbour is
        present it is the training mean.
    shared_space
        A constant sheaf: a missing h_j is the mean of all present h instead, and `imputed` is not
        looked at.
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
        No test event is labelled, or the labelled training events are of fewer than two classes.
    RunError
        An embedding is not finite.
    """
    clients = list(train_h)
    _check(clients, train_h, train_labels, test_h, test_labels, imputed, shared_space=shared_space)
    train, fit_labels = labelled(
        np.concatenate([train_h[client] for client in clients], axis=1),
        train_labels,
        f"{_WHAT}, training events",
    )
    if not (tested := test_labels >= 0).any():
        raise DataError(
            f"{_WHAT}: none of {len(test_labels)} test events has a label, and this metric needs "
            "labels"
        )
    probe = _FusedProbe(fit_classifier(train, fit_labels, _WHAT), clients, train_h)
    sources = _shared_sources(test_h) if shared_space else imputed
    present = {client: probe.share(client, test_h[client][tested]) for client in clients}
    by_peer = {(i, j): probe.share(j, values[tested]) for (i, j), values in sources.items()}
    largest = len(clients) - 1 if most is None else min(most, len(clients) - 1)
    return tuple(
        _measure(probe, present, by_peer, test_labels[tested].astype(np.int64), count)
        for count in range(largest + 1)
    )


class _FusedProbe:
    """The probe on the concatenation, taken apart into the shares of its clients.

    Scores are sums over clients, and imputation is linear, so a subset costs additions of (N, K)
    arrays and no h is ever put together again.
    """

    def __init__(
        self, classifier: LinearClassifier, clients: Sequence[str], train_h: Embeddings
    ) -> None:
        self.classifier = classifier
        ends = np.cumsum([train_h[client].shape[1] for client in clients]).tolist()
        self.columns = {
            client: slice(end - train_h[client].shape[1], end)
            for client, end in zip(clients, ends, strict=True)
        }

    def share(self, client: str, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return what h of `client` = `values` (N, d_i) adds to the scores (N, K)."""
        return self.classifier.share(
            embeddings(values, f"{_WHAT}, '{client}'"), self.columns[client]
        )

    def zero(self, client: str) -> NDArray[np.float64]:
        """Return what h of `client` = 0 adds to the scores (1, K)."""
        columns = self.columns[client]
        return self.classifier.share(np.zeros((1, columns.stop - columns.start)), columns)


def _measure(
    probe: _FusedProbe,
    present: Shares,
    by_peer: Mapping[tuple[str, str], NDArray[np.float64]],
    labels: NDArray[np.int64],
    count: int,
) -> Missing:
    """Return the row for `count` missing clients."""
    clients = list(present)
    imputations: list[float] = []
    mean_fills: list[float] = []
    zero_fills: list[float] = []

    def score(shares: NDArray[np.float64]) -> float:
        return accuracy(probe.classifier.answer(shares), labels)

    for absent in _subsets(len(clients), count):
        missing = [clients[index] for index in absent]
        here = [client for client in clients if client not in missing]
        # The training mean is 0 once standardised, so mean-fill adds nothing to the scores.
        by_mean = np.sum([present[client] for client in here], axis=0)
        mean_fills.append(score(by_mean))
        zero_fills.append(score(by_mean + sum(probe.zero(client) for client in missing)))
        imputations.append(
            score(by_mean + sum(_imputed_share(client, here, by_peer) for client in missing))
        )
    return Missing(
        missing=count,
        subsets=len(imputations),
        events=len(labels),
        imputed=float(np.mean(imputations)),
        mean_fill=float(np.mean(mean_fills)),
        zero_fill=float(np.mean(zero_fills)),
        worst_imputed=min(imputations),
    )


def _imputed_share(
    client: str, present: Sequence[str], by_peer: Mapping[tuple[str, str], NDArray[np.float64]]
) -> NDArray[np.float64] | float:
    """Return the share of the mean over present neighbours; 0, the training mean's, if none is."""
    shares = [by_peer[peer, client] for peer in present if (peer, client) in by_peer]
    mean: NDArray[np.float64] | float = sum(shares[1:], shares[0]) / len(shares) if shares else 0.0
    return mean


def _shared_sources(test_h: Embeddings) -> dict[tuple[str, str], NDArray[np.floating]]:
    """Return (i, j) -> h_i: in one space every client may stand for every other."""
    return {(i, j): values for i, values in test_h.items() for j in test_h if i != j}


def _subsets(size: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield all subsets of `count` of `size` things, or some at even lexicographic distances."""
    total = comb(size, count)
    wanted = max(_LEAST_SUBSETS, min(_MOST_SUBSETS, _MOST_IN_ALL // size))
    if total <= wanted:
        return combinations(range(size), count)
    return (
        _subset_of_rank(size, count, (2 * k + 1) * total // (2 * wanted)) for k in range(wanted)
    )


def _subset_of_rank(size: int, count: int, rank: int) -> tuple[int, ...]:
    """Return item `rank` of ``combinations(range(size), count)``, without going through all."""
    chosen: list[int] = []
    for thing in range(size):
        if len(chosen) == count:
            break
        with_it = comb(size - thing - 1, count - len(chosen) - 1)
        if rank < with_it:
            chosen.append(thing)
        else:
            rank -= with_it
    return tuple(chosen)


def _check(
    clients: Sequence[str],
    train_h: Embeddings,
    train_labels: NDArray[np.integer],
    test_h: Embeddings,
    test_labels: NDArray[np.integer],
    imputed: Imputed,
    *,
    shared_space: bool,
) -> None:
    if not clients or set(clients) != set(test_h):
        raise ValueError(
            f"{_WHAT}: clients {sorted(train_h)} in training but {sorted(test_h)} in the test"
        )
    dims = {client: train_h[client].shape[-1] for client in clients}
    if shared_space and len(set(dims.values())) > 1:
        raise ValueError(f"{_WHAT}: in a shared space all clients have one dimension, not {dims}")
    for client, dim in dims.items():
        _check_shape(
            train_h[client], (len(train_labels), dim), f"training embeddings of '{client}'"
        )
        _check_shape(test_h[client], (len(test_labels), dim), f"test embeddings of '{client}'")
    for (source, target), values in {} if shared_space else imputed.items():
        if not {source, target} <= set(clients):
            raise ValueError(f"{_WHAT}: imputed {source} -> {target} names an unknown client")
        _check_shape(
            values, (len(test_labels), dims[target]), f"'{target}' imputed from '{source}'"
        )


def _check_shape(values: NDArray[np.floating], expected: tuple[int, int], what: str) -> None:
    if values.shape != expected:
        raise ValueError(f"{_WHAT}: {what} have shape {values.shape}, not {expected}")
