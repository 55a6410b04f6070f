"""Frames and codecs: what goes in comes out, and nothing damaged does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sheafalign_fl.codecs import CODECS, codec
from sheafalign_fl.errors import ConfigError, ProtocolError
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.verbs import PURPOSES, Purpose

ITEMSIZE = {"float64": 8, "float32": 4, "float16": 2}
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
values = arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 5)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    purpose: Purpose = draw(st.sampled_from(PURPOSES))
    name = draw(st.sampled_from(sorted(CODECS)))
    return Frame.of(
        purpose, draw(st.integers(0, 2**32 - 1)), draw(names), draw(names), name, draw(values)
    )


@given(frames())
@settings(deadline=None)
def test_a_frame_comes_out_as_it_went_in(frame: Frame) -> None:
    assert Frame.unpack(frame.pack()) == frame


@given(frames())
@settings(deadline=None, max_examples=50)
def test_framing_costs_its_fixed_header_and_the_names(frame: Frame) -> None:
    text = len(frame.codec.encode() + frame.source.encode() + frame.destination.encode())
    assert len(frame.pack()) == 4 + 4 + 5 * 4 + 4 + text + len(frame.payload)


@given(frames(), st.data())
@settings(deadline=None)
def test_no_damaged_frame_is_read(frame: Frame, data: st.DataObject) -> None:
    packed = frame.pack()
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(ProtocolError):
        Frame.unpack(packed[:cut])
    with pytest.raises(ProtocolError):
        Frame.unpack(packed + b"\0")
    flipped = bytearray(packed)
    flipped[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProtocolError):
        Frame.unpack(bytes(flipped))


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_bytes_are_no_frame(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Frame.unpack(data)


@given(values)
@settings(deadline=None)
def test_payloads_have_their_exact_length_and_precision(z: np.ndarray) -> None:
    for name, size in ITEMSIZE.items():
        payload = codec(name).encode(z)
        assert len(payload) == z.size * size == codec(name).payload_bytes(*z.shape)
        decoded = codec(name).decode(payload, *z.shape)
        np.testing.assert_array_equal(decoded, z.astype(name))


def test_what_float16_cannot_hold_is_clipped() -> None:
    payload = codec("float16").encode(np.array([[1e9, -1e9, 1.0]]))
    assert codec("float16").decode(payload, 1, 3).tolist() == [[65504.0, -65504.0, 1.0]]


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_payloads_that_are_short_long_or_not_finite_are_refused(name: str) -> None:
    payload = codec(name).encode(np.ones((3, 4)))
    for wrong in (payload[:-1], payload + b"\0", b""):
        with pytest.raises(ProtocolError, match="bytes"):
            codec(name).decode(wrong, 3, 4)
    bad = np.full((3, 4), np.nan).astype(name).tobytes()
    with pytest.raises(ProtocolError, match="not finite"):
        codec(name).decode(bad, 3, 4)


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'float16'"):
        codec("flaot16")
