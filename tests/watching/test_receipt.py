"""Checks on receipt: what never passes, what always does, from the first exchange on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.codecs import codec
from sheafalign_fl.watching.receipt import FIRST, Receipt
from tests.watching.edges import learning

EVENTS, DIM = 32, 8


def positions(exchange: int, count: int = EVENTS) -> np.ndarray:
    return np.random.default_rng(exchange).permutation(1000)[:count]


def after(exchanges: int, seed: int = 0, scale: float = 1.0) -> tuple[Receipt, list[np.ndarray]]:
    """Return a receipt that has passed so many exchanges, and those and the next one."""
    receipt, batches = Receipt(), []
    for exchange, (_, z) in enumerate(learning(seed, exchanges + 1, events=EVENTS, dim=DIM)):
        batches.append((scale * z).astype(np.float32))
        if exchange < exchanges:
            assert receipt.check(batches[-1], positions(exchange), exchange) is None
    return receipt, batches


AGES = st.sampled_from([0, 1, FIRST - 1, FIRST, FIRST + 1, 40])


@settings(deadline=None, max_examples=40)
@given(
    age=AGES,
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0.02, 1.0, 20.0]),
    factor=st.sampled_from([1e6, 1e9, 1e18, 1e30]),
)
def test_a_million_times_too_large_never_passes(
    age: int, seed: int, size: float, factor: float
) -> None:
    receipt, batches = after(age, seed, size)
    refusal = receipt.check((factor * batches[-1]).astype(np.float32), positions(age), age)
    assert refusal is not None
    assert refusal.fault == "norm"
    assert refusal.value > refusal.bound


@settings(deadline=None, max_examples=40)
@given(
    age=AGES,
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    row=st.integers(0, EVENTS - 1),
    column=st.integers(0, DIM - 1),
)
def test_one_value_that_is_not_finite_is_enough(
    age: int, bad: float, row: int, column: int
) -> None:
    receipt, batches = after(age)
    batches[-1][row, column] = bad
    refusal = receipt.check(batches[-1], positions(age), age)
    assert refusal is not None
    assert (refusal.fault, refusal.value) == ("finite", 1)


@settings(deadline=None)
@given(
    name=st.sampled_from(["float32", "float16", "bfloat16", "int8", "int4", "sign", "top-4"]),
    age=AGES,
)
def test_the_largest_that_a_codec_can_carry_never_passes(name: str, age: int) -> None:
    receipt, batches = after(age)
    chosen = codec(name)
    sent = chosen.encode(np.full_like(batches[-1], 3e38))
    refusal = receipt.check(chosen.decode(sent, EVENTS, DIM), positions(age), age)
    assert refusal is not None
    assert refusal.fault == "norm"


@settings(deadline=None, max_examples=30)
@given(
    age=st.integers(1, 60),
    back=st.integers(1, 60),
    seed=st.integers(0, 10**6),
)
def test_an_earlier_exchange_is_not_taken_for_other_events(age: int, back: int, seed: int) -> None:
    receipt, batches = after(age, seed)
    repeated = max(0, age - back)
    refusal = receipt.check(batches[repeated], positions(age), age)
    assert refusal is not None
    assert (refusal.fault, refusal.value) == ("repetition", repeated)


def test_the_same_events_may_come_again_with_the_same_embeddings() -> None:
    """A client whose neighbours were all absent has not moved: it sends the same again."""
    receipt, batches = after(20)
    assert receipt.check(batches[5], positions(5), 20) is None


def test_sensors_with_few_different_readings_repeat_nothing() -> None:
    receipt = Receipt()
    rng = np.random.default_rng(0)
    readings = rng.normal(size=(2, DIM)).astype(np.float32)
    for exchange in range(40):
        z = readings[rng.integers(2, size=EVENTS)]
        assert receipt.check(z, positions(exchange), exchange) is None


def test_one_embedding_for_all_is_refused_where_it_is_not_usual() -> None:
    receipt, batches = after(FIRST)
    same = np.broadcast_to(batches[0][0], batches[0].shape)
    refusal = receipt.check(same, positions(FIRST), FIRST)
    assert refusal is not None
    assert refusal.fault == "constant"
    usual = Receipt()
    for exchange in range(20):
        assert usual.check((1 + exchange / 100) * same, positions(exchange), exchange) is None


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), tempo=st.floats(3, 100), scale=st.floats(0.01, 100))
def test_ordinary_training_always_passes(seed: int, tempo: float, scale: float) -> None:
    receipt = Receipt()
    batches = learning(seed, 60, events=EVENTS, dim=DIM, tempo=tempo)
    for exchange, (_, z) in enumerate(batches):
        assert receipt.check((scale * z).astype(np.float32), positions(exchange), exchange) is None


def test_one_odd_event_is_no_reason_to_leave_out_an_edge() -> None:
    receipt, batches = after(30)
    batches[-1][3] *= 10
    assert receipt.check(batches[-1], positions(30), 30) is None


def test_what_was_refused_teaches_nothing() -> None:
    receipt, batches = after(30)
    before = receipt.state()
    for exchange in range(30, 90):
        assert receipt.check(1e6 * batches[-1], positions(exchange), exchange) is not None
    for name, array in receipt.state().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("age", [0, 3, 40, 600])
def test_a_restored_receipt_says_what_the_first_one_would(age: int) -> None:
    receipt, _ = after(age)
    restored = Receipt()
    restored.load({name: array.copy() for name, array in receipt.state().items()})
    for exchange, (_, z) in enumerate(learning(7, 30, events=EVENTS, dim=DIM)):
        values = z if exchange % 3 else 1e6 * z
        said = [r.check(values, positions(exchange), exchange) for r in (receipt, restored)]
        assert said[0] == said[1]
    for name, array in receipt.state().items():
        np.testing.assert_array_equal(array, restored.state()[name])
