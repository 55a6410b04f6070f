"""Missing modalities (DESIGN section 5.4)."""

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from sheafalign_fl.errors import DataError, RunError
from sheafalign_fl.metrics import missing_modalities
from sheafalign_fl.metrics.missing import Missing
from sheafalign_fl.metrics.moments import Moments
from sheafalign_fl.metrics.standing_in import StandIn
from sheafalign_fl.metrics.subsets import subset_of_rank, subsets
from tests.metrics import oracle
from tests.metrics.toy_classes import clusters

Case = tuple[dict[str, oracle.Array], oracle.Array, dict[str, oracle.Array], oracle.Array]


def case(
    seed: int, clients: int, classes: int = 3, *, same_dim: bool = False, noise: float = 1.5
) -> Case:
    """Return train_h, train_labels, test_h, test_labels.

    Every client sees the label through its own noise.
    """
    parts = []
    for offset, events in ((0, 90), (1000, 70)):
        labels = clusters(seed + offset, events, 2, classes)[1]
        h = {}
        for index in range(clients):
            dim = 4 if same_dim else 3 + index
            centres = np.random.default_rng(index).normal(size=(classes, dim)) + 0.7
            generator = np.random.default_rng([seed + offset, index])
            h[f"c{index}"] = centres[labels] + noise * generator.normal(size=(events, dim))
        parts.append((h, labels))
    return (*parts[0], *parts[1])


def imputations(
    test_h: dict[str, oracle.Array], edges: list[tuple[str, str]]
) -> dict[tuple[str, str], oracle.Array]:
    """Return some linear guess of h_j out of h_i for both directions of `edges`."""
    result: dict[tuple[str, str], oracle.Array] = {}
    for i, j in itertools.chain(edges, [(b, a) for a, b in edges]):
        shape = (test_h[i].shape[1], test_h[j].shape[1])
        result[i, j] = test_h[i] @ np.random.default_rng(len(result)).normal(size=shape)
    return result


def agree(rows: tuple[Missing, ...], expected: list[dict[str, float]]) -> None:
    assert [row.missing for row in rows] == list(range(len(expected)))
    for row, other in zip(rows, expected, strict=True):
        for key, value in other.items():
            # One event may fall on either side where two scores are equal up to rounding.
            assert getattr(row, key) == pytest.approx(value, abs=1.5 / row.events), key


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(2, 3))
def test_equals_the_loop_on_a_complete_graph(seed: int, clients: int, classes: int) -> None:
    train_h, train_labels, test_h, test_labels = case(seed, clients, classes)
    imputed = imputations(test_h, list(itertools.combinations(test_h, 2)))
    rows = missing_modalities(
        train_h, train_labels, test_h, test_labels, imputed, shared_space=False
    )
    agree(rows, oracle.missing(train_h, train_labels, test_h, test_labels, imputed, False))


def test_equals_the_loop_on_a_path_where_some_have_no_present_neighbour() -> None:
    train_h, train_labels, test_h, test_labels = case(1, 4)
    imputed = imputations(test_h, [("c0", "c1"), ("c1", "c2"), ("c2", "c3")])
    rows = missing_modalities(
        train_h, train_labels, test_h, test_labels, imputed, shared_space=False
    )
    agree(rows, oracle.missing(train_h, train_labels, test_h, test_labels, imputed, False))


def test_equals_the_loop_in_a_shared_space() -> None:
    train_h, train_labels, test_h, test_labels = case(2, 4, same_dim=True)
    rows = missing_modalities(train_h, train_labels, test_h, test_labels, {}, shared_space=True)
    agree(rows, oracle.missing(train_h, train_labels, test_h, test_labels, {}, True))


def test_nothing_missing_needs_no_imputation_and_perfect_imputation_loses_nothing() -> None:
    train_h, train_labels, test_h, test_labels = case(3, 3)
    perfect = {(i, j): test_h[j] for i, j in itertools.permutations(test_h, 2)}
    rows = missing_modalities(
        train_h, train_labels, test_h, test_labels, perfect, shared_space=False
    )
    assert rows[0].imputed == rows[0].mean_fill == rows[0].zero_fill == rows[0].worst_imputed
    assert {row.imputed for row in rows} == {rows[0].imputed}
    assert [row.subsets for row in rows] == [1, 3, 3]
    assert rows[2].mean_fill < rows[0].mean_fill


def test_unlabelled_rows_are_left_out() -> None:
    train_h, train_labels, test_h, test_labels = case(4, 3)
    imputed = imputations(test_h, list(itertools.combinations(test_h, 2)))
    fit, test = np.arange(90) % 3 > 0, np.arange(70) % 2 > 0
    rows = missing_modalities(
        train_h,
        np.where(fit, train_labels, -1),
        test_h,
        np.where(test, test_labels, -1),
        imputed,
        shared_space=False,
    )
    alone = missing_modalities(
        {name: h[fit] for name, h in train_h.items()},
        train_labels[fit],
        {name: h[test] for name, h in test_h.items()},
        test_labels[test],
        {edge: values[test] for edge, values in imputed.items()},
        shared_space=False,
    )
    assert rows == alone


def test_permuted_labels_give_chance() -> None:
    train_h, train_labels, test_h, test_labels = case(5, 3, noise=0.5)
    imputed = imputations(test_h, list(itertools.combinations(test_h, 2)))
    assert (
        missing_modalities(train_h, train_labels, test_h, test_labels, imputed, shared_space=False)[
            0
        ].imputed
        > 0.9
    )
    rows = [
        missing_modalities(
            train_h,
            train_labels,
            test_h,
            np.random.default_rng(seed).permutation(test_labels),
            imputed,
            shared_space=False,
        )
        for seed in range(20)
    ]
    for column in ("imputed", "mean_fill", "zero_fill"):
        assert np.mean([getattr(row[1], column) for row in rows]) == pytest.approx(1 / 3, abs=0.06)


def test_most_limits_the_number_of_missing_clients() -> None:
    arguments = case(6, 4)
    assert len(missing_modalities(*arguments, {}, shared_space=False, most=1)) == 2
    assert len(missing_modalities(*arguments, {}, shared_space=False, most=99)) == 4


# ---- the closed form -----------------------------------------------------------------------------

Sent = dict[tuple[str, str], tuple[oracle.Array, oracle.Array, oracle.Array]]


def sent_along(seed: int, given: Case, edges: list[tuple[str, str]]) -> Sent:
    """Return what both directions of `edges` carried, of training and of test events."""
    train_h, _, test_h, _ = given
    found: Sent = {}
    for i, j in itertools.chain(edges, [(b, a) for a, b in edges]):
        generator = np.random.default_rng([seed, len(found)])
        maps = generator.normal(size=(train_h[i].shape[1], 3))
        noise = 0.1 * generator.normal(size=(len(train_h[i]), 3))
        found[i, j] = (train_h[i] @ maps + noise, train_h[j], test_h[i] @ maps)
    return found


def standing_in(sent: Sent, *, wire: bool = False) -> dict[str, StandIn]:
    """Return how each part follows from what came, as moments; `wire`: after a journey."""
    found = {}
    for j in {j for _, j in sent}:
        sources = [i for i, other in sent if other == j]
        columns = [sent[i, j][0] for i in sources]
        moments = Moments.of(np.hstack([*columns, sent[sources[0], j][1]]))
        if wire:
            moments = Moments.unpacked(moments.packed().astype(np.float32))
        stand_in = StandIn.of(
            moments, dict.fromkeys(sources, 3), {i: sent[i, j][2] for i in sources}
        )
        assert stand_in is not None
        found[j] = stand_in
    return found


@pytest.mark.parametrize("wire", [False, True], ids=["exact", "as it travels"])
@pytest.mark.parametrize(
    "edges",
    [list(itertools.combinations(["c0", "c1", "c2", "c3"], 2)), [("c0", "c1"), ("c1", "c2")]],
    ids=["complete", "path, one alone"],
)
def test_ridge_equals_a_fit_on_the_rows_for_every_subset(
    edges: list[tuple[str, str]], wire: bool
) -> None:
    given = case(11, 4)
    sent = sent_along(11, given, edges)
    rows = missing_modalities(*given, {}, standing_in(sent, wire=wire), shared_space=False)
    expected = oracle.missing_by_ridge(*given, sent)
    for row, other in zip(rows, expected, strict=True):
        assert row.ridge == pytest.approx(other["ridge"], abs=1.5 / row.events)
        assert row.worst_ridge == pytest.approx(other["worst_ridge"], abs=1.5 / row.events)
        if row.missing:
            tolerance = 1e-3 if wire else 1e-7
            assert row.unexplained == pytest.approx(other["unexplained"], rel=tolerance)
    assert rows[0].unexplained is None


def test_the_papers_way_has_the_error_of_its_mean() -> None:
    given = case(12, 3)
    imputed = imputations(given[2], list(itertools.combinations(given[2], 2)))
    rows = missing_modalities(*given, imputed, shared_space=False)
    errors = []
    for absent in given[2]:
        others = [imputed[i, absent] for i in given[2] if i != absent]
        mean = given[0][absent].mean(axis=0)
        floor = np.square(given[2][absent] - mean).mean()
        errors.append(
            min(10.0, np.square(np.mean(others, axis=0) - given[2][absent]).mean() / floor)
        )
    assert rows[1].unexplained_imputed == pytest.approx(np.mean(errors))
    assert rows[1].ridge is None  # nothing was received


def test_a_source_that_sent_nothing_changes_nothing() -> None:
    given = case(13, 3)
    sent = sent_along(13, given, list(itertools.combinations(given[0], 2)))
    with_it = {edge: values for edge, values in sent.items() if edge != ("c2", "c0")}
    silent = Moments.of(np.hstack([sent["c1", "c0"][0], np.zeros((90, 3)), given[0]["c0"]]))
    moments = Moments.unpacked(silent.packed().astype(np.float32))
    received = {i: sent[i, "c0"][2] for i in ("c1", "c2")}
    stand_in = StandIn.of(moments, {"c1": 3, "c2": 3}, received)
    assert stand_in is not None
    assert stand_in.sources(["c1", "c2"]) == ("c1",)
    ways = standing_in(with_it)
    rows = missing_modalities(*given, {}, ways, shared_space=False)
    again = missing_modalities(*given, {}, {**ways, "c0": stand_in}, shared_space=False)
    assert [row.unexplained for row in again[1:]] == pytest.approx(
        [row.unexplained for row in rows[1:]], rel=1e-4
    )
    nothing = StandIn.of(Moments.nothing(9), {"c1": 3, "c2": 3}, received)
    assert nothing is None


def test_values_are_scored_by_r2_and_mean_absolute_error() -> None:
    train_h, _, test_h, _ = given = case(14, 3)
    rng = np.random.default_rng(14)
    weights = {name: rng.normal(size=h.shape[1]) for name, h in train_h.items()}
    truth = [np.sum([h[name] @ weights[name] for name in h], axis=0) for h in (train_h, test_h)]
    truth[0][::7], truth[1][::5] = np.nan, np.nan
    sent = sent_along(14, given, list(itertools.combinations(train_h, 2)))
    rows = missing_modalities(
        train_h, truth[0], test_h, truth[1], {}, standing_in(sent), shared_space=False
    )
    assert rows[0].events == int(np.isfinite(truth[1]).sum())
    assert rows[0].ridge == pytest.approx(1.0, abs=1e-3)
    assert rows[0].mae == pytest.approx(0.0, abs=0.2)
    fit, tested = np.isfinite(truth[0]), np.isfinite(truth[1])
    errors = []
    for absent in train_h:
        peers = [i for i in train_h if i != absent]
        filled = {name: h[tested] for name, h in test_h.items()}
        filled[absent] = oracle.ridge(
            np.hstack([sent[i, absent][0] for i in peers]),
            train_h[absent],
            np.hstack([sent[i, absent][2][tested] for i in peers]),
        )
        scaler = StandardScaler().fit(np.hstack([h[fit] for h in train_h.values()]))
        x = scaler.transform(np.hstack([h[fit] for h in train_h.values()]))
        answers = oracle.ridge(
            x, truth[0][fit][:, None], scaler.transform(np.hstack(list(filled.values())))
        )[:, 0]
        errors.append(np.abs(answers - truth[1][tested]).mean())
    assert rows[1].mae == pytest.approx(np.mean(errors), rel=1e-6)


def test_several_labels_an_event_are_averaged() -> None:
    train_h, train_labels, test_h, test_labels = case(15, 3, noise=0.5)
    several = [
        np.stack([labels == 0, labels > 0, np.ones_like(labels)], axis=1).astype(np.int64)
        for labels in (train_labels, test_labels)
    ]
    rows = missing_modalities(train_h, several[0], test_h, several[1], {}, shared_space=False)
    scores = [
        oracle.missing(train_h, several[0][:, k], test_h, several[1][:, k], {}, False)[1]
        for k in (0, 1)
    ]
    # The third label is had by all, so it is right for every subset.
    expected = (sum(score["mean_fill"] for score in scores) + 1.0) / 3
    assert rows[1].mean_fill == pytest.approx(expected, abs=1.5 / rows[1].events)


@pytest.mark.parametrize(("size", "count"), [(5, 0), (5, 2), (6, 6), (7, 3)])
def test_subsets_are_found_by_their_rank(size: int, count: int) -> None:
    ranked = [subset_of_rank(size, count, rank) for rank in range(comb(size, count))]
    assert ranked == list(itertools.combinations(range(size), count))


@pytest.mark.parametrize("size", [12, 16, 30, 100])
def test_a_selection_of_subsets_is_even(size: int) -> None:
    for count in range(size):
        chosen = list(subsets(size, count))
        assert (
            len(set(chosen))
            == len(chosen)
            == min(comb(size, count), 64 if size <= 16 else 1024 // size)
        )
        assert all(len(set(subset)) == count for subset in chosen)
    halves = list(subsets(size, size // 2))
    shares = np.bincount(np.concatenate(halves), minlength=size) / len(halves)
    assert np.abs(shares - 0.5).max() <= 0.11


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"test_h": {"c0": np.ones((70, 3))}}, ValueError, "clients"),
        ({"imputed": {("c0", "other"): np.ones((70, 3))}}, ValueError, "unknown client"),
        ({"imputed": {("c0", "c1"): np.ones((70, 9))}}, ValueError, "imputed from 'c0'"),
        ({"test_labels": np.zeros(3, dtype=int)}, ValueError, "test embeddings"),
        ({"test_labels": np.full(70, -1)}, DataError, "no|none"),
        ({"train_labels": np.zeros(90, dtype=int)}, DataError, "two classes"),
        ({"imputed": {("c0", "c1"): np.full((70, 4), np.nan)}}, RunError, "'c1'.*diverged"),
        ({"shared_space": True}, ValueError, "one dimension"),
    ],
)
def test_bad_input_is_refused(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    train_h, train_labels, test_h, test_labels = case(7, 3)
    arguments: dict[str, object] = {
        "train_h": train_h,
        "train_labels": train_labels,
        "test_h": test_h,
        "test_labels": test_labels,
        "imputed": {},
        "shared_space": False,
    }
    with pytest.raises(error, match=message):
        missing_modalities(**{**arguments, **change})  # type: ignore[arg-type]
