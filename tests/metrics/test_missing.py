"""Missing modalities (DESIGN section 5.4)."""

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.errors import DataError, RunError
from sheafalign_fl.metrics import missing_modalities
from sheafalign_fl.metrics.missing import Missing
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
