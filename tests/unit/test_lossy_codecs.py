"""Lossy codecs against slow ones in plain Python, and whatever bytes against all of them."""

import math
import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sheafalign_fl.codecs import codec
from sheafalign_fl.errors import ConfigError, ProtocolError
from sheafalign_fl.protocol.frame import Frame

Rows = list[list[float]]
TINY, LARGEST = 2.0**-126, (2 - 2**-7) * 2.0**127
shapes = st.tuples(st.integers(0, 5), st.integers(1, 11))
single = arrays(
    np.float32, shapes, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)
ordinary = arrays(
    np.float32,
    shapes,
    elements=st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6),
)


# ---- slow codecs: they decode what the fast ones should have encoded -----------------------------


def scale_above(value: float) -> float:
    """Return the smallest bfloat16 not below `value`, found by stepping through bit patterns."""
    pattern = struct.unpack("<I", struct.pack("<f", min(value, LARGEST)))[0] >> 16
    while bfloat(pattern) < min(value, LARGEST):
        pattern += 1
    return bfloat(pattern) if bfloat(pattern) >= TINY else 0.0


def bfloat(pattern: int) -> float:
    found: float = struct.unpack("<f", struct.pack("<I", pattern << 16))[0]
    return found


def slow_integers(row: list[float], levels: int) -> list[float]:
    row = [max(-(2.0**126), min(2.0**126, x)) for x in row]
    scale = scale_above(float(np.float32(max(map(abs, row))) / np.float32(levels)))
    steps = [
        max(-levels, min(levels, round(float(np.float32(x) / np.float32(scale))))) if scale else 0
        for x in row
    ]
    return [step * scale for step in steps]


def slow_signs(row: list[float]) -> list[float]:
    scale = scale_above(
        float(np.float32(min(sum(map(abs, row)) / len(row), 3.4028234663852886e38)))
    )
    return [scale if x >= 0 else -scale for x in row]


def slow_top(row: list[float], kept: int) -> list[float]:
    order = sorted(range(len(row)), key=lambda place: (-abs(row[place]), place))[:kept]
    return [
        float(np.float16(max(-65504.0, min(65504.0, x)))) if k in order else 0.0
        for k, x in enumerate(row)
    ]


def slow_bfloat16(row: list[float]) -> list[float]:
    clipped = [max(-LARGEST, min(LARGEST, x)) for x in row]
    return [float(x) for x in torch.tensor(clipped, dtype=torch.float32).to(torch.bfloat16).float()]


SLOW: dict[str, Callable[[list[float]], list[float]]] = {
    "bfloat16": slow_bfloat16,
    "int8": lambda row: slow_integers(row, 127),
    "int4": lambda row: slow_integers(row, 7),
    "sign": slow_signs,
    "top-1": lambda row: slow_top(row, 1),
    "top-4": lambda row: slow_top(row, 4),
}
NAMES = sorted(SLOW)
BYTES: dict[str, Callable[[int], int]] = {
    "bfloat16": lambda dim: 2 * dim,
    "int8": lambda dim: 2 + dim,
    "int4": lambda dim: 2 + (dim + 1) // 2,
    "sign": lambda dim: 2 + (dim + 7) // 8,
    "top-1": lambda dim: 3 if dim <= 256 else 4,
    "top-4": lambda dim: min(4, dim) * (3 if dim <= 256 else 4),
}
"""Of one event."""


@pytest.mark.parametrize("name", NAMES)
@given(values=single)
@example(values=np.array([[3.3961777e38, -1.0]], dtype=np.float32))
@settings(deadline=None, max_examples=80)
def test_decoding_gives_what_the_slow_codec_gives(name: str, values: NDArray[np.float32]) -> None:
    decoded = codec(name).decode(codec(name).encode(values), *values.shape)
    assert decoded.dtype == np.float32
    expected = np.array([SLOW[name](row) for row in values.tolist()]).reshape(values.shape)
    np.testing.assert_allclose(decoded, expected, rtol=1e-6 if name == "sign" else 0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("events", "dim"), [(0, 3), (1, 1), (2, 7), (3, 8), (5, 9), (128, 64), (2, 256), (2, 257)]
)
def test_bytes_are_those_of_the_formula(name: str, events: int, dim: int) -> None:
    values = np.random.default_rng(0).normal(size=(events, dim))
    expected = events * BYTES[name](dim)
    assert len(codec(name).encode(values)) == codec(name).payload_bytes(events, dim) == expected


@pytest.mark.parametrize(("name", "levels"), [("int8", 127), ("int4", 7)])
@given(values=ordinary)
@settings(deadline=None, max_examples=60)
def test_an_integer_is_off_by_half_a_step_at_most(
    name: str, levels: int, values: NDArray[np.float32]
) -> None:
    decoded = codec(name).decode(codec(name).encode(values), *values.shape)
    step = np.abs(values).max(axis=1, keepdims=True, initial=0) / levels * (1 + 2.0**-7)
    assert (np.abs(decoded - values) <= step / 2 * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", [*NAMES, "float16", "float32", "top-300"])
@given(data=st.data())
@settings(deadline=None, max_examples=120)
def test_any_bytes_decode_to_finite_values_or_are_refused(name: str, data: st.DataObject) -> None:
    events, dim = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 9))
    exact = codec(name).payload_bytes(events, dim)
    payload = data.draw(st.binary(min_size=exact, max_size=exact) | st.binary(max_size=60))
    try:
        decoded = codec(name).decode(payload, events, dim)
    except ProtocolError:
        return
    assert len(payload) == exact
    assert decoded.shape == (events, dim)
    assert np.isfinite(decoded).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("top", "bfloat"))])
@given(values=single)
@settings(deadline=None, max_examples=40)
def test_what_was_decoded_is_sent_as_it_is(name: str, values: NDArray[np.float32]) -> None:
    decoded = codec(name).decode(codec(name).encode(values), *values.shape)
    np.testing.assert_array_equal(
        codec(name).decode(codec(name).encode(decoded), *values.shape), decoded
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("extra", [-1, 1])
def test_a_wrong_length_is_named(name: str, extra: int) -> None:
    payload = codec(name).encode(np.ones((3, 5)))
    changed = payload + b"\0" if extra > 0 else payload[:-1]
    with pytest.raises(
        ProtocolError, match=rf"3 x 5 has {len(payload)} bytes; this one has {len(changed)}"
    ):
        codec(name).decode(changed, 3, 5)


HALF = {
    value: struct.pack("<H", pattern)
    for value, pattern in {"1": 0x3F80, "-1": 0xBF80, "inf": 0x7F80}.items()
}


@pytest.mark.parametrize(
    ("name", "dim", "payload", "reason"),
    [
        ("int8", 2, HALF["-1"] + b"\1\1", "negative or not finite"),
        ("int8", 2, HALF["inf"] + b"\1\1", "negative or not finite"),
        ("int8", 2, HALF["1"] + b"\x80\1", "-128, which is never sent"),
        ("int8", 1, struct.pack("<H", 0x7F7F) + b"\x7f", "beyond the range"),
        ("int4", 2, HALF["1"] + b"\x18", "-8, which is never sent"),
        ("int4", 1, HALF["1"] + b"\x11", "padding is not 0"),
        ("sign", 3, HALF["-1"] + b"\xe0", "negative or not finite"),
        ("sign", 3, HALF["1"] + b"\xf0", "padding is not 0"),
        ("top-2", 3, b"\1\1" + b"\0\x3c" * 2, "not ascending below 3"),
        ("top-2", 3, b"\1\3" + b"\0\x3c" * 2, "not ascending below 3"),
        ("top-1", 3, b"\1" + b"\0\x7c", "not finite"),
        ("bfloat16", 1, HALF["inf"], "not finite"),
    ],
)
def test_what_is_never_sent_is_refused(name: str, dim: int, payload: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        codec(name).decode(payload, 1, dim)


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_diverged_does_not_look_sound(name: str) -> None:
    """A value that is no number spoils the payload, so that the neighbours refuse it."""
    payload = codec(name).encode(np.array([[1.0, math.nan, 2.0, 3.0, 4.0, 5.0]]))
    with pytest.raises(ProtocolError, match="not finite"):
        codec(name).decode(payload, 1, 6)


@pytest.mark.parametrize(
    "name", ["top-0", "top-", "top-x", "top--1", "top-01", "top-99999", "top-8 "]
)
def test_no_such_number_of_values_can_be_kept(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown codec"):
        codec(name)
    packed = Frame("train", 0, "a", "b", name, 1, 2, b"\0" * 6).pack()
    with pytest.raises(ProtocolError, match="unknown codec"):
        Frame.unpack(packed)


def test_frames_carry_every_codec() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    for name in NAMES:
        frame = Frame.unpack(Frame.of("train", 1, "a", "b", name, values).pack())
        np.testing.assert_array_equal(
            frame.values(), codec(name).decode(codec(name).encode(values), 4, 6)
        )


def test_more_than_65536_places_have_no_two_byte_names() -> None:
    with pytest.raises(ProtocolError, match="65536 dimensions"):
        codec("top-1").payload_bytes(1, 65537)
