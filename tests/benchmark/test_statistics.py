"""Paired tests against scipy's own, Holm's rule against its definition."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from sheafalign_fl.benchmark.statistics import ENOUGH_SEEDS, Paired, holm, seeds_to_settle

PROBABILITIES = st.lists(st.floats(0, 1), max_size=12)
SCORES = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=2, max_size=12
)


def slow_holm(values: list[float], level: float) -> list[bool]:
    """Reject from the smallest on while p <= level / (what is left), as the paper has it."""
    order = np.argsort(values, kind="stable")
    rejected = [False] * len(values)
    for step, index in enumerate(order):
        if values[index] > level / (len(values) - step):
            break
        rejected[index] = True
    return rejected


@given(SCORES)
def test_probabilities_and_interval_are_those_of_scipy(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = np.array(pairs).T
    differences = ours - theirs
    assume(differences.std() > 1e-6)
    found = Paired.of(differences.tolist())
    for way, probability in (("greater", found.above()), ("less", found.below())):
        expected = stats.ttest_rel(ours, theirs, alternative=way)
        assert probability == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-9)
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.interval() == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@given(PROBABILITIES, st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_what_its_definition_rejects(values: list[float], level: float) -> None:
    near = [(len(values) - rank) * p for rank, p in enumerate(sorted(values))]
    assume(not any(math.isclose(value, level, rel_tol=1e-9) for value in near))
    assert [p <= level for p in holm(values)] == slow_holm(values, level)


@given(PROBABILITIES)
def test_adjusted_values_are_no_smaller_keep_their_order_and_are_at_most_one(
    values: list[float],
) -> None:
    adjusted = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=lambda index: values[index])
    assert [adjusted[index] for index in order] == sorted(adjusted)


@given(PROBABILITIES, st.randoms())
def test_the_order_of_claims_decides_nothing(values: list[float], random: object) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = holm([values[index] for index in order])
    assert sorted(shuffled) == sorted(holm(values))
    assert shuffled == [holm(values)[index] for index in order]


@pytest.mark.parametrize("value", [0.0, 0.1 + 0.2, -0.05])
def test_equal_differences_leave_nothing_to_chance(value: float) -> None:
    found = Paired.of([value + noise for noise in (0, 1e-16, -1e-16)])
    assert found.mean == pytest.approx(value)
    assert found.deviation == 0
    assert (found.above(), found.below()) == (0.0 if value > 0 else 1.0, 0.0 if value < 0 else 1.0)
    assert found.interval() == pytest.approx((value, value))


def test_one_seed_says_nothing_and_none_is_an_error() -> None:
    alone = Paired.of([0.3])
    assert (alone.above(), alone.below()) == (1.0, 1.0)
    assert alone.interval() == (-math.inf, math.inf)
    assert seeds_to_settle(alone, 0.05) is None
    with pytest.raises(ValueError, match="no seed"):
        Paired.of([])


def test_so_many_seeds_as_are_said_leave_zero_out_and_one_less_does_not() -> None:
    found = Paired.of([0.02, -0.01, 0.03, 0.01, -0.005])
    needed = seeds_to_settle(found, 0.05)
    assert needed is not None
    assert needed > ENOUGH_SEEDS
    for count, leaves_out in ((needed, True), (needed - 1, False)):
        low, _ = Paired(found.mean, found.deviation, count).interval()
        assert (low > 0) is leaves_out
    assert seeds_to_settle(Paired(0.0, 0.1, 5), 0.05) is None
    assert seeds_to_settle(Paired(1e-6, 0.1, 5), 0.05) is None
