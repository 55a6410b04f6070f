"""The statistics of an edge against slow loops written from their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sheafalign_fl.watching.statistics import measure, row_hashes

SIDES = st.tuples(st.integers(2, 12), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(
        *(
            arrays.arrays(np.float32, shape, elements=st.floats(-100, 100, width=32))
            for _ in range(2)
        )
    )
)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths > 0 else 0.0


@given(SIDES)
def test_disagreement_and_spread_are_their_definitions(sides: tuple[np.ndarray, ...]) -> None:
    own, theirs = (side.astype(np.float64) for side in sides)
    seen = measure(own, theirs)
    apart = []
    scales = [max(np.sqrt(np.mean(side**2)), 1e-9) for side in (own, theirs)]
    for a, b in zip(own / scales[0], theirs / scales[1], strict=True):
        both = a @ a + b @ b
        apart.append((a - b) @ (a - b) / both if both > 0 else 0.0)
    assert seen.disagreement == pytest.approx(np.mean(apart), abs=1e-9)
    square = np.mean([b @ b for b in theirs])
    if square > 1e-6:
        variance = np.mean([(b - theirs.mean(axis=0)) @ (b - theirs.mean(axis=0)) for b in theirs])
        assert np.exp(seen.spread) == pytest.approx(max(variance / square, 1e-9), abs=1e-8)
        assert np.linalg.norm(seen.profile) == pytest.approx(1, abs=1e-6)
    assert seen.distinct == len({tuple(row + 0.0) for row in theirs}) / len(theirs)


@given(st.integers(0, 10**6), st.integers(2, 20), st.integers(2, 6))
def test_rank_counts_who_is_more_alike_than_the_true_event(
    seed: int, events: int, dim: int
) -> None:
    rng = np.random.default_rng(seed)
    own, theirs = rng.normal(size=(2, events, dim))
    above = 0
    for k in range(events):
        true = cosine(own[k], theirs[k])
        above += sum(cosine(own[k], theirs[m]) > true for m in range(events) if m != k)
        above += sum(cosine(own[m], theirs[k]) > true for m in range(events) if m != k)
    assert measure(own, theirs).rank == pytest.approx(above / (2 * events * (events - 1)))


@given(st.integers(0, 10**6))
def test_rank_is_0_for_equal_ends_1_for_opposite_ones_and_half_by_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(64, 16))
    assert measure(z, z).rank == 0
    assert measure(z, -z).rank == 1
    assert measure(z, rng.normal(size=z.shape)).rank == pytest.approx(0.5, abs=0.15)
    assert measure(z, np.zeros_like(z)).rank == pytest.approx(0.5)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_only_size_depends_on_the_unit_of_either_end(
    own_factor: float, factor: float, seed: int
) -> None:
    own, theirs = np.random.default_rng(seed).normal(size=(2, 16, 4))
    one, scaled = measure(own, theirs), measure(own_factor * own, factor * theirs)
    assert scaled.size == pytest.approx(one.size + np.log(factor))
    for name in ("spread", "disagreement", "rank", "distinct"):
        assert getattr(scaled, name) == pytest.approx(getattr(one, name), abs=1e-9)
    np.testing.assert_allclose(scaled.profile, one.profile, atol=1e-9)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 30), st.integers(1, 4)),
        elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3e38]),
    )
)
def test_rows_have_equal_hashes_if_and_only_if_they_are_equal(rows: np.ndarray) -> None:
    hashes = row_hashes(rows)
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            assert (hashes[i] == hashes[j]) == bool((one == other).all())


def test_batches_that_cannot_be_compared_are_refused() -> None:
    for one, other in (((3, 2), (3, 4)), ((1, 2), (1, 2)), ((4,), (4,))):
        with pytest.raises(ValueError, match="cannot be compared"):
            measure(np.zeros(one), np.zeros(other))
