"""The fused probe, and what it is given in place of parts that are missing.

Its scores are sums over the parts, and everything that stands in is linear; so a subset costs
additions of (N, K) arrays and no feature vector is ever put together again.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.metrics.answers import Reader, mean_absolute_error
from sheafalign_fl.metrics.moments import Affine
from sheafalign_fl.metrics.standing_in import StandIn
from sheafalign_fl.metrics.subsets import subsets
from sheafalign_fl.metrics.vectors import embeddings
from sheafalign_fl.numbers import mean

Matrix = NDArray[np.float64]
Parts = Mapping[str, NDArray[np.floating]]
Imputed = Mapping[tuple[str, str], NDArray[np.floating]]
WHAT = "missing modalities"
MOST_UNEXPLAINED = 10.0
"""An error that is more than this times that of the training mean counts as this."""


class FusedProbe:
    """A probe on the concatenation of all parts, taken apart into their shares."""

    def __init__(self, reader: Reader, train: Parts) -> None:
        """Take the columns from the widths of the parts that `reader` was fitted on."""
        self.reader = reader
        ends = np.cumsum([values.shape[1] for values in train.values()]).tolist()
        self.columns = {
            part: slice(end - values.shape[1], end)
            for (part, values), end in zip(train.items(), ends, strict=True)
        }

    def share(self, part: str, values: NDArray[np.floating]) -> Matrix:
        """Return what `part` = `values` (N, d) adds to the scores (N, K)."""
        return self.reader.share(embeddings(values, f"{WHAT}, '{part}'"), self.columns[part])

    def zero(self, part: str) -> Matrix:
        """Return what `part` = 0 adds to the scores (1, K)."""
        columns = self.columns[part]
        return self.reader.share(np.zeros((1, columns.stop - columns.start)), columns)

    def through(self, part: str, fitted: Affine) -> Affine:
        """Return the map from what stands in for `part` to what it adds to the scores."""
        columns, linear = self.columns[part], self.reader.linear
        onwards = linear.weights[columns] / linear.scale[columns][:, None]
        return Affine(fitted.weights @ onwards, (fitted.bias - linear.mean[columns]) @ onwards)


class ByRidge:
    """One part as the ridge regression from all that are present has it."""

    def __init__(self, probe: FusedProbe, part: str, stand_in: StandIn, own: Matrix) -> None:
        """Stand in for `part`, whose true values of the tested events are `own` (N, d)."""
        self._probe, self._part, self._stand_in = probe, part, stand_in
        self._true = stand_in.tested(own)
        self._solved = lru_cache(maxsize=None)(self._solve)

    def share(self, present: Sequence[str]) -> Matrix | None:
        """Return what it adds to the scores (N, K); None if nobody present stands in."""
        solved = self._solved(self._stand_in.sources(present))
        return None if solved is None else solved[0].apply(self._stand_in.received(present))

    def error(self, present: Sequence[str]) -> float | None:
        """Return the mean square error, by dimension; None if nobody present stands in."""
        solved = self._solved(self._stand_in.sources(present))
        return None if solved is None else solved[1]

    def _solve(self, sources: tuple[str, ...]) -> tuple[Affine, float] | None:
        if (fitted := self._stand_in.by(sources)) is None:
            return None
        error = self._stand_in.left(fitted, sources, self._true)
        return self._probe.through(self._part, fitted), error


class ByPeers:
    """One part as the mean of what each that is present makes of it: the paper's way."""

    def __init__(self, probe: FusedProbe, part: str, peers: Parts, own: Matrix) -> None:
        """Take what each peer makes of it, shape (N, d), and its true values (N, d)."""
        self._shares = {peer: probe.share(part, values) for peer, values in peers.items()}
        rows = [*(values.ravel() for values in peers.values()), own.ravel()]
        stacked = np.stack(rows).astype(np.float64)
        self._products = stacked @ stacked.T / own.size
        self._place = {peer: index for index, peer in enumerate(peers)}

    def share(self, present: Sequence[str]) -> Matrix | None:
        """Return what it adds to the scores (N, K); None if no peer is present."""
        shares = [self._shares[peer] for peer in present if peer in self._shares]
        return sum(shares[1:], shares[0]) / len(shares) if shares else None

    def error(self, present: Sequence[str]) -> float | None:
        """Return the mean square error, by dimension; None if no peer is present."""
        places = [self._place[peer] for peer in present if peer in self._place]
        if not places:
            return None
        weights = np.zeros(len(self._products))
        weights[places], weights[-1] = 1 / len(places), -1.0
        return max(0.0, float(weights @ self._products @ weights))


class Measured:
    """Everything that the rows are made of."""

    def __init__(
        self,
        probe: FusedProbe,
        train: Parts,
        test: Parts,
        labels: NDArray[Any],
        tested: NDArray[np.bool_],
        sources: Imputed,
        standing_in: Mapping[str, StandIn],
    ) -> None:
        """Prepare what `numbers` adds up; `tested` says which of `test` have a label."""
        self._probe, self._labels, self._clients = probe, labels[tested], list(train)
        own = {client: embeddings(test[client][tested], WHAT) for client in train}
        self._present = {client: probe.share(client, own[client]) for client in train}
        self._floors = {
            client: float(np.square(own[client] - train[client].mean(axis=0)).mean())
            for client in train
        }
        self._peers = {
            client: ByPeers(probe, client, made, own[client])
            for client in train
            if (made := {i: values[tested] for (i, j), values in sources.items() if j == client})
        }
        self._ridges = {
            client: ByRidge(probe, client, _of(stand_in, tested), own[client])
            for client, stand_in in standing_in.items()
        }

    def numbers(self, count: int) -> dict[str, Any]:
        """Return the numbers for `count` missing clients."""
        found: dict[str, list[float]] = {"imputed": [], "ridge": [], "mean": [], "zero": []}
        left: dict[str, list[float]] = {"imputed": [], "ridge": []}
        errors: list[float] = []
        ways: dict[str, Mapping[str, ByPeers | ByRidge]] = {"imputed": self._peers}
        if self._ridges:
            ways["ridge"] = self._ridges
        for absent in subsets(len(self._clients), count):
            missing = [self._clients[index] for index in absent]
            here = [client for client in self._clients if client not in missing]
            # The training mean is 0 once standardised, so mean-fill adds nothing to the scores.
            by_mean = np.sum([self._present[client] for client in here], axis=0)
            found["mean"].append(self._score(by_mean))
            zeros = sum(self._probe.zero(client) for client in missing)
            found["zero"].append(self._score(by_mean + zeros))
            for name, way in ways.items():
                shares = by_mean + self._stood_in(way, missing, here)
                found[name].append(self._score(shares))
                left[name] += [self._unexplained(way, client, here) for client in missing]
                if name == "ridge" and self._probe.reader.kind == "values":
                    answers = self._probe.reader.answers(shares)
                    errors.append(mean_absolute_error(answers, self._labels))
        return {
            "missing": count,
            "subsets": len(found["mean"]),
            "events": len(self._labels),
            "imputed": float(np.mean(found["imputed"])),
            "mean_fill": float(np.mean(found["mean"])),
            "zero_fill": float(np.mean(found["zero"])),
            "worst_imputed": min(found["imputed"]),
            "ridge": mean(found["ridge"]),
            "worst_ridge": min(found["ridge"], default=None),
            "unexplained": mean(left["ridge"]),
            "unexplained_imputed": mean(left["imputed"]),
            "mae": mean(errors),
        }

    def _score(self, shares: NDArray[np.float64]) -> float:
        return self._probe.reader.goodness(shares, self._labels)

    def _stood_in(
        self, way: Mapping[str, ByPeers | ByRidge], missing: Sequence[str], here: Sequence[str]
    ) -> NDArray[np.float64] | float:
        """Return the shares of those that are missing; 0, the training mean's, where none is."""
        total: NDArray[np.float64] | float = 0.0
        for client in missing:
            share = way[client].share(here) if client in way else None
            total = total if share is None else total + share
        return total

    def _unexplained(
        self, way: Mapping[str, ByPeers | ByRidge], client: str, here: Sequence[str]
    ) -> float:
        """Return the error as a share of that of the training mean."""
        error = way[client].error(here) if client in way else None
        if error is None or self._floors[client] == 0.0:
            return 1.0
        return min(MOST_UNEXPLAINED, error / self._floors[client])


def _of(stand_in: StandIn, tested: NDArray[np.bool_]) -> StandIn:
    given = {source: values[tested] for source, values in stand_in.given.items()}
    return StandIn(stand_in.fitted, given)


def shared_sources(test_h: Parts) -> dict[tuple[str, str], NDArray[np.floating]]:
    """Return (i, j) -> h_i: in one space every client may stand for every other."""
    return {(i, j): values for i, values in test_h.items() for j in test_h if i != j}


def check_fused(
    clients: Sequence[str],
    train_h: Parts,
    train_labels: NDArray[Any],
    test_h: Parts,
    test_labels: NDArray[Any],
    imputed: Imputed,
    *,
    shared_space: bool,
) -> None:
    """Raise `ValueError` where shapes or clients do not fit together."""
    if not clients or set(clients) != set(test_h):
        raise ValueError(
            f"{WHAT}: clients {sorted(train_h)} in training but {sorted(test_h)} in the test"
        )
    dims = {client: train_h[client].shape[-1] for client in clients}
    if shared_space and len(set(dims.values())) > 1:
        raise ValueError(f"{WHAT}: in a shared space all clients have one dimension, not {dims}")
    for client, dim in dims.items():
        _check_shape(
            train_h[client], (len(train_labels), dim), f"training embeddings of '{client}'"
        )
        _check_shape(test_h[client], (len(test_labels), dim), f"test embeddings of '{client}'")
    for (source, target), values in {} if shared_space else imputed.items():
        if not {source, target} <= set(clients):
            raise ValueError(f"{WHAT}: imputed {source} -> {target} names an unknown client")
        _check_shape(
            values, (len(test_labels), dims[target]), f"'{target}' imputed from '{source}'"
        )


def _check_shape(values: NDArray[np.floating], expected: tuple[int, int], what: str) -> None:
    if values.shape != expected:
        raise ValueError(f"{WHAT}: {what} have shape {values.shape}, not {expected}")
