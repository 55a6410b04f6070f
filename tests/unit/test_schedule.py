"""Batches: epochs without repetition, a function of (count, size, seed, exchange) and no more."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.learner.schedule import BatchSchedule


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, int, int]:
    count = draw(st.integers(1, 60))
    return count, draw(st.integers(1, count)), draw(st.integers(0, 2**40))


@given(schedules(), st.integers(0, 40))
@settings(deadline=None)
def test_no_event_comes_twice_in_an_epoch(form: tuple[int, int, int], epoch: int) -> None:
    count, size, _ = form
    schedule = BatchSchedule(*form)
    assert schedule.batches_per_epoch == count // size
    first = epoch * (count // size)
    drawn = [schedule.positions(first + index).tolist() for index in range(count // size)]
    assert all(len(batch) == size for batch in drawn)
    flat = [position for batch in drawn for position in batch]
    assert len(flat) == len(set(flat)) == size * (count // size)
    assert all(0 <= position < count for position in flat)
    assert count - len(flat) < size  # only a short last batch is left out


@given(schedules(), st.lists(st.integers(0, 500), min_size=1, max_size=12))
@settings(deadline=None)
def test_what_was_asked_before_does_not_matter(
    form: tuple[int, int, int], asked: list[int]
) -> None:
    used = BatchSchedule(*form)
    for exchange in [*asked, *reversed(asked)]:
        np.testing.assert_array_equal(
            used.positions(exchange), BatchSchedule(*form).positions(exchange)
        )


def test_epochs_and_seeds_order_the_events_differently() -> None:
    orders = {
        tuple(BatchSchedule(40, 10, seed).positions(exchange).tolist())
        for seed in range(5)
        for exchange in range(20)
    }
    assert len(orders) == 100  # 10 out of 40 in order: a coincidence has probability below 1e-11


def test_every_event_is_left_out_as_often_as_any_other() -> None:
    schedule = BatchSchedule(11, 5, 0)
    seen = np.zeros(11)
    for exchange in range(2 * 2200):
        seen[schedule.positions(exchange)] += 1
    # Each event is in an epoch with probability 10/11: over 2,200 epochs a mean of 2,000 and a
    # deviation of 13.5.
    assert seen.sum() == 2200 * 10
    assert np.abs(seen - 2000).max() < 5 * 13.5


def test_an_epoch_of_one_batch_is_a_permutation() -> None:
    schedule = BatchSchedule(7, 7, 3)
    for exchange in range(5):
        assert sorted(schedule.positions(exchange).tolist()) == list(range(7))
    assert schedule.positions(0).tolist() != schedule.positions(1).tolist()


def test_many_epochs_back_is_still_the_same_batch() -> None:
    schedule = BatchSchedule(9, 2, 1)
    early = schedule.positions(2).copy()
    for exchange in range(200):
        schedule.positions(exchange)
    np.testing.assert_array_equal(schedule.positions(2), early)


@pytest.mark.parametrize(("count", "size"), [(0, 1), (3, 4), (3, 0), (3, -1), (0, 0)])
def test_a_batch_that_cannot_be_drawn_is_refused(count: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"a batch of {size} cannot be drawn from {count} events"):
        BatchSchedule(count, size, 0)


@given(schedules(), st.integers(1, 5), st.integers(0, 30), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_an_exchange_of_several_batches_takes_the_next_ones(
    form: tuple[int, int, int], batches: int, exchange: int, draw: int
) -> None:
    one, several = BatchSchedule(*form), BatchSchedule(*form, batches=batches)
    parts = [one.positions(exchange * batches + index) for index in range(batches)]
    np.testing.assert_array_equal(several.positions(exchange), np.concatenate(parts))
    has = np.random.default_rng(draw).random(form[0]) < 0.4
    shared = several.shared(has, exchange)
    for index, part in enumerate(
        parts
    ):  # a batch with one event in common sits out, whatever its neighbours have
        found = [bool(has[position]) for position in part]
        expected = found if sum(found) >= 2 else [False] * len(found)
        assert shared[index * form[1] : (index + 1) * form[1]].tolist() == expected
