"""Retrieval (DESIGN section 5.1)."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sheafalign_fl.errors import RunError
from sheafalign_fl.metrics import retrieval, vectors
from tests.metrics import oracle

SMALL = st.integers(-2, 2).map(float)
"""Few distinct values, so that ties and zero vectors are common."""


def pair_of_arrays(draw: st.DrawFn) -> tuple[oracle.Array, oracle.Array, oracle.Array]:
    events, dim = draw(st.integers(1, 14)), draw(st.integers(1, 4))
    queries = draw(arrays(np.float64, (events, dim), elements=SMALL))
    gallery = draw(arrays(np.float64, (events, dim), elements=SMALL))
    labels = draw(arrays(np.int64, events, elements=st.integers(-1, 2)))
    return queries, gallery, labels


pairs = st.composite(pair_of_arrays)


@settings(max_examples=150, deadline=None)
@given(pairs())
def test_equals_the_loop_from_the_definition(
    case: tuple[oracle.Array, oracle.Array, oracle.Array],
) -> None:
    queries, gallery, labels = case
    found, ranks = retrieval("i", "j", queries, gallery, labels), oracle.ranks(queries, gallery)
    assert (found.source, found.target, found.events) == ("i", "j", len(queries))
    assert found.recall_at_1 == pytest.approx(np.mean([rank <= 1 for rank in ranks]))
    assert found.recall_at_5 == pytest.approx(np.mean([rank <= 5 for rank in ranks]))
    assert found.recall_at_10 == pytest.approx(np.mean([rank <= 10 for rank in ranks]))
    assert found.median_rank == np.median(ranks)
    expected = oracle.mean_average_precision(queries, gallery, labels)
    assert found.mean_average_precision == (None if expected is None else pytest.approx(expected))


@settings(max_examples=60, deadline=None)
@given(pairs(), st.randoms(use_true_random=False))
def test_order_of_events_does_not_matter(
    case: tuple[oracle.Array, oracle.Array, oracle.Array], random: Random
) -> None:
    queries, gallery, labels = case
    order = list(range(len(queries)))
    random.shuffle(order)
    here, there = (
        retrieval("i", "j", *case),
        retrieval("i", "j", queries[order], gallery[order], labels[order]),
    )
    assert here.model_dump() == pytest.approx(there.model_dump())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_identical_embeddings_are_perfect_whatever_their_scale(seed: int, scale: float) -> None:
    z = np.random.default_rng(seed).normal(size=(60, 8))
    found = retrieval("i", "j", z.astype(np.float32), (scale * z).astype(np.float32), np.arange(60))
    assert (found.recall_at_1, found.median_rank, found.mean_average_precision) == (1, 1, 1)


def test_random_embeddings_are_at_chance() -> None:
    generator = np.random.default_rng(5)
    z, other = generator.normal(size=(2, 3000, 16))
    found = retrieval("i", "j", z, other, generator.integers(0, 4, 3000))
    assert found.recall_at_10 == pytest.approx(10 / 3000, abs=0.004)
    assert found.median_rank == pytest.approx(1500, rel=0.06)
    assert found.mean_average_precision == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("constant", [0.0, 0.1, 3.7])
@pytest.mark.parametrize("events", [30, 257])
def test_constant_embeddings_get_nothing(constant: float, events: int) -> None:
    z = np.full((events, 67), constant) * np.linspace(0.3, 1.9, 67)
    labels = np.repeat([0, 1], [events // 3, events - events // 3])
    found = retrieval("i", "j", z, z, labels)
    assert (found.recall_at_1, found.recall_at_10, found.median_rank) == (0, 0, events)
    assert found.mean_average_precision == pytest.approx(
        oracle.mean_average_precision(z, z, labels)
    )


def test_a_zero_vector_comes_last_and_finds_nothing() -> None:
    z = np.random.default_rng(0).normal(size=(20, 6))
    queries, gallery = z.copy(), z.copy()
    queries[3], gallery[7] = 0, 0
    found = retrieval("i", "j", queries, gallery, None)
    assert found.recall_at_1 == 18 / 20
    assert found.mean_average_precision is None


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    z = generator.normal(size=(101, 5))
    case = (z, z + generator.normal(size=z.shape), generator.integers(-1, 3, 101))
    whole = retrieval("i", "j", *case)
    monkeypatch.setattr(vectors, "_BLOCK_CELLS", 7 * 101)
    assert retrieval("i", "j", *case).model_dump() == pytest.approx(whole.model_dump())


def test_mean_average_precision_by_hand() -> None:
    # Query 0 (class 0) finds, in order, classes 0, 1, 0: precision 1 and 2/3. The others mirror it.
    angles = np.radians([0.0, 10.0, 20.0])
    z = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = retrieval("i", "j", z, z, np.array([0, 1, 0]))
    assert found.mean_average_precision == pytest.approx(
        np.mean([(1 + 2 / 3) / 2, 1.0, (1 + 2 / 3) / 2])
    )


def test_a_diverged_client_is_an_error_and_no_score() -> None:
    z = np.ones((4, 2))
    with pytest.raises(RunError, match=r"i -> j.*diverged"):
        retrieval("i", "j", z, np.where(np.eye(4, 2) > 0, np.nan, z), None)


@pytest.mark.parametrize(
    ("queries", "gallery"), [((4, 2), (4, 3)), ((4, 2), (5, 2)), ((0, 2), (0, 2)), ((4,), (4,))]
)
def test_shapes_that_do_not_fit_are_refused(
    queries: tuple[int, ...], gallery: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="shape"):
        retrieval("i", "j", np.ones(queries), np.ones(gallery), None)


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        retrieval("i", "j", np.ones((3, 2)), np.ones((3, 2)), np.zeros(4, dtype=np.int64))
