"""Error feedback: what arrives and what is kept add up to what was meant, event by event."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sheafalign_fl.codecs import FloatCodec
from sheafalign_fl.learner.feedback import ErrorFeedback

EVENTS, DIM = 7, 3


@given(
    st.lists(st.lists(st.integers(0, EVENTS - 1), min_size=1, max_size=12), min_size=1, max_size=8)
)
def test_nothing_is_lost_and_nothing_is_counted_twice(messages: list[list[int]]) -> None:
    """For every event: all that arrived, and what is kept, is the sum of all that was to be sent.

    Events may repeat.
    """
    codec = FloatCodec("float16", "f2")
    feedback = ErrorFeedback(codec, EVENTS, {"peer": DIM, "other": DIM}, np.float64)
    meant, arrived = np.zeros((EVENTS, DIM)), np.zeros((EVENTS, DIM))
    rng = np.random.default_rng(len(messages))
    for positions in messages:
        z = rng.normal(size=(len(positions), DIM))
        original = z.copy()
        sent = feedback.correct("peer", np.array(positions, dtype=np.intp), z)
        np.testing.assert_array_equal(z, original)
        decoded = codec.decode(codec.encode(sent), len(positions), DIM)
        for row, position in enumerate(positions):
            meant[position] += z[row]
            arrived[position] += decoded[row]
    state = dict(feedback.state())
    np.testing.assert_allclose(arrived + state["peer"], meant, atol=1e-12)
    assert not state["other"].any()
    # What is kept is the rounding of the last message alone, however long the run.
    times = max(messages[-1].count(position) for position in range(EVENTS))
    assert np.abs(state["peer"]).max() <= 8 * 2.0**-11 * max(
        times, *(len(message) for message in messages)
    )


def test_a_lossless_codec_keeps_nothing() -> None:
    feedback = ErrorFeedback(FloatCodec("float64", "f8"), EVENTS, {"peer": DIM}, np.float64)
    z = np.random.default_rng(0).normal(size=(4, DIM))
    for _ in range(3):
        np.testing.assert_array_equal(feedback.correct("peer", np.arange(4), z), z)
    assert not dict(feedback.state())["peer"].any()


def test_loading_brings_back_the_residuals() -> None:
    codec = FloatCodec("float16", "f2")
    one, other = (ErrorFeedback(codec, EVENTS, {"peer": DIM}, np.float32) for _ in range(2))
    z = np.random.default_rng(1).normal(size=(4, DIM)).astype(np.float32)
    one.correct("peer", np.arange(4), z)
    for neighbour, residuals in one.state():
        other.load(neighbour, residuals)
    again = one.correct("peer", np.arange(4), z)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, other.correct("peer", np.arange(4), z))
    assert not np.array_equal(again, z)
