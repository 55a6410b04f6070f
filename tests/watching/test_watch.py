"""The watch of an edge that learns: quiet while it does, and awake to each thing that can go
wrong."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.watching.watch import ALIKE_LOOKS, MIN_EVENTS, EdgeWatch, Look
from tests.watching.edges import learning

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
AT = 80
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "random": (
        lambda z, rng: (z.std() * rng.normal(size=z.shape)).astype(z.dtype),
        {"rank", "disagreement"},
    ),
    "negated": (lambda z, rng: -z, {"rank", "disagreement"}),
    "shifted": (lambda z, rng: np.roll(z, 3, axis=0), {"rank", "disagreement"}),
    "larger": (lambda z, rng: 2 * z, {"size"}),
    "smaller": (lambda z, rng: z / 2, {"size"}),
    "constant": (lambda z, rng: np.tile(z[0], (len(z), 1)), {"alike", "rank", "spread"}),
    "turned": (lambda z, rng: z[:, ::-1].copy(), {"rank", "disagreement"}),
    "offset": (lambda z, rng: z + 3 * z.std(), {"size", "profile", "spread"}),
}


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    events=st.integers(16, 96),
    dim=st.integers(4, 24),
    tempo=st.floats(10, 100),
)
def test_an_edge_that_learns_raises_no_alarm(
    seed: int, events: int, dim: int, tempo: float
) -> None:
    watch = EdgeWatch()
    for own, theirs in learning(seed, 200, events=events, dim=dim, tempo=tempo):
        assert watch.look(own, theirs) == Look()


@pytest.mark.parametrize("seed", range(5))
def test_ends_that_shrink_each_at_its_own_pace_raise_no_alarm(seed: int) -> None:
    """As weight decay does where the loss is of angles: here by a third, and by 80 %."""
    watch = EdgeWatch()
    for look, (own, theirs) in enumerate(learning(seed, 150)):
        paces = (np.float32(np.exp(-0.0027 * look)), np.float32(np.exp(-0.0107 * look)))
        assert watch.look(own * paces[0], theirs * paces[1]) == Look()


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("seed", range(3))
def test_what_goes_wrong_is_found_within_five_looks_and_dated(name: str, seed: int) -> None:
    change, expected = CHANGES[name]
    watch, rng = EdgeWatch(), np.random.default_rng(seed)
    found = {}
    for look, (own, theirs) in enumerate(learning(seed, AT + 20)):
        values = change(theirs, rng) if look >= AT else theirs
        for alarm in watch.look(own, values).alarms:
            found[alarm.statistic] = look, look - alarm.looks + 1
    assert expected <= set(found)
    assert all(look >= AT and AT - 3 <= since <= AT + 15 for look, since in found.values())
    assert min(look for look, _ in found.values()) < AT + 5
    if name in ("random", "negated", "shifted", "turned"):
        assert "size" not in found


UNRELATED = ["random", "negated", "shifted", "turned", "constant"]


@pytest.mark.parametrize("name", UNRELATED)
def test_what_is_about_other_events_is_refused_at_once_until_it_is_over(name: str) -> None:
    watch, rng = EdgeWatch(), np.random.default_rng(0)
    refused = []
    for look, (own, theirs) in enumerate(learning(0, AT + 60)):
        values = CHANGES[name][0](theirs, rng) if AT <= look < AT + 40 else theirs
        if (refusal := watch.look(own, values).refusal) is not None:
            assert refusal.fault == "unrelated"
            assert refusal.value > refusal.bound
            refused.append(look)
    assert refused == list(range(AT, AT + 40))


def test_an_edge_that_was_never_aligned_is_never_refused() -> None:
    watch, rng = EdgeWatch(), np.random.default_rng(0)
    for _ in range(100):
        assert watch.look(*rng.normal(size=(2, 32, 6))).refusal is None


def test_a_slow_drift_is_found() -> None:
    watch, found = EdgeWatch(), []
    rng = np.random.default_rng(0)
    for look, (own, theirs) in enumerate(learning(1, 400)):
        share = max(0.0, min(1.0, (look - AT) / 200))
        drifted = (1 - share) * theirs + share * theirs.std() * rng.normal(size=theirs.shape)
        found += [look] * bool(watch.look(own, drifted.astype(np.float32)).alarms)
    assert found
    assert AT < found[0] < AT + 100


def test_an_edge_that_is_alike_from_the_start_is_told_once() -> None:
    watch = EdgeWatch()
    same = np.ones((32, 4), dtype=np.float32)
    own = np.random.default_rng(0).normal(size=(50, 32, 4))
    said = [[a.statistic for a in watch.look(z, same).alarms] for z in own]
    assert said == [["alike"] if look == ALIKE_LOOKS - 1 else [] for look in range(50)]


def test_it_works_on_new_data_after_training() -> None:
    """Nothing but arrays of both ends: a new watch learns what is usual there and finds what is
    not."""
    trained = list(learning(3, 1000, tempo=1.0))[900:]
    watch = EdgeWatch()
    assert {watch.look(own, theirs) for own, theirs in trained[:60]} == {Look()}
    woken = [bool(watch.look(own, np.roll(z, 1, axis=0)).alarms) for own, z in trained[60:]]
    assert any(woken[:5])


def test_a_batch_of_few_events_is_not_looked_at() -> None:
    watch = EdgeWatch()
    before = watch.state()
    z = np.ones((MIN_EVENTS - 1, 3))
    assert watch.look(z, z) == Look()
    np.testing.assert_array_equal(watch.state(), before)


@settings(deadline=None, max_examples=10)
@given(cut=st.integers(0, 99), seed=st.integers(0, 10**6))
def test_a_restored_watch_goes_on_to_the_same_bits(cut: int, seed: int) -> None:
    batches = [(own, -z if look >= AT else z) for look, (own, z) in enumerate(learning(seed, 100))]
    whole, restored = EdgeWatch(), EdgeWatch()
    for own, theirs in batches[:cut]:
        whole.look(own, theirs)
    restored.load(whole.state().copy())
    for own, theirs in batches[cut:]:
        assert whole.look(own, theirs) == restored.look(own, theirs)
    np.testing.assert_array_equal(whole.state(), restored.state())
