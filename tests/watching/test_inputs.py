"""The watch on a client's own inputs: quiet while they are what they were, awake to drift."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sheafalign_fl.watching.inputs import FEATURES, InputWatch

AT = 100


def batches(
    seed: int, looks: int, *, events: int = 48, shape: tuple[int, ...] = (12,), tails: int = 100
) -> Iterator[NDArray[np.float32]]:
    """Yield shuffled batches of one made recording, as training draws them.

    `tails` are the degrees of freedom of what it shows: 3 has odd events, 100 is about normal.
    """
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    mixed = rng.standard_t(tails, size=(400, 5)) @ rng.normal(size=(5, size))
    recording = (3 + mixed + 0.2 * rng.normal(size=(400, size))).reshape(400, *shape)
    for _ in range(looks):
        yield recording[rng.choice(400, size=events, replace=False)].astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    events=st.integers(8, 96),
    shape=st.sampled_from([(1,), (12,), (3, 50), (2, 20, 20)]),
    tails=st.sampled_from([3, 100]),
)
def test_inputs_that_stay_as_they_are_raise_no_alarm(
    seed: int, events: int, shape: tuple[int, ...], tails: int
) -> None:
    watch, given = InputWatch(), batches(seed, 300, events=events, shape=shape, tails=tails)
    assert [watch.look(x) for x in given] == [None] * 300
    assert watch.nearness < 1


def found(watch: InputWatch, given: Iterator[NDArray[np.float32]]) -> tuple[int, int] | None:
    """Return the look at which a change was found and the one at which it is said to have begun."""
    for look, x in enumerate(given):
        if (change := watch.look(x)) is not None:
            return look, look - change.looks + 1
    return None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("fault", "within"), [("offset", 60), ("noise", 110), ("gain", 8), ("stuck", 3), ("another", 8)]
)
def test_what_goes_wrong_with_a_sensor_is_found_and_dated(
    fault: str, within: int, seed: int
) -> None:
    """An offset and noise grow by 1 % of the inputs' scatter a look, as a drifting sensor's."""
    rng = np.random.default_rng(seed)
    way = rng.normal(size=12)

    def faulty() -> Iterator[NDArray[np.float32]]:
        for look, x in enumerate(batches(seed, AT + 120)):
            grown = 0.01 * max(0, look - AT + 1) * x.std()
            changed = {
                "offset": x + grown * way,
                "noise": x + grown * rng.normal(size=x.shape),
                "gain": 1.5 * x,
                "stuck": np.broadcast_to(x[0], x.shape),
                "another": x[:, ::-1] ** 2,
            }[fault]
            yield (changed if look >= AT else x).astype(np.float32)

    assert (seen := found(InputWatch(), faulty())) is not None
    assert AT <= seen[0] < AT + within
    assert AT - 5 <= seen[1] <= seen[0]


def test_a_watch_that_was_saved_goes_on_as_it_was() -> None:
    given = list(batches(4, 120))
    whole, first, second = InputWatch(), InputWatch(), InputWatch()
    for look, x in enumerate(given):
        whole.look(x)
        if look == 60:
            second.load(first.state())
        (first if look < 60 else second).look(x)
        if look in (0, 59):
            fresh = InputWatch()
            fresh.load(first.state())
            np.testing.assert_array_equal(fresh.state(), first.state())
    np.testing.assert_array_equal(whole.state(), second.state())


def test_few_rows_say_nothing_and_values_that_are_none_do_no_harm() -> None:
    watch = InputWatch()
    assert watch.look(np.zeros((7, 3))) is None
    before = watch.state()
    np.testing.assert_array_equal(before, InputWatch().state())
    for _ in range(60):
        watch.look(np.full((32, 3), np.nan))
        watch.look(np.full((32, 3), 7, dtype=np.uint8))
    assert np.isfinite(watch.state()).all()


def test_of_large_inputs_a_few_values_are_watched() -> None:
    watch = InputWatch()
    watch.look(np.zeros((16, 3, 100, 100), dtype=np.float32))
    assert len(watch.state()) < 5 * FEATURES
