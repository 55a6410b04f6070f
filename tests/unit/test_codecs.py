"""Codecs against Python's packing of floats: same bytes and rounding, nothing malformed decoded."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sheafalign_fl.codecs import CODECS, FloatCodec, codec
from sheafalign_fl.errors import ConfigError, ProtocolError

LETTER = {"float64": "d", "float32": "f", "float16": "e"}
LARGEST = {
    "float64": 1.7976931348623157e308,
    "float32": (2 - 2**-23) * 2.0**127,
    "float16": 65504.0,
}
NAMES = sorted(LETTER)
shapes = st.tuples(st.integers(0, 5), st.integers(1, 4))
finite = arrays(np.float64, shapes, elements=st.floats(allow_nan=False, allow_infinity=False))
moderate = arrays(np.float64, shapes, elements=st.floats(-60000, 60000))


def slow(name: str, values: NDArray[np.floating]) -> bytes:
    """Pack row by row with `struct`, which rounds half to even and does so on its own."""
    limit = LARGEST[name]
    clipped = [min(max(float(value), -limit), limit) for row in values for value in row]
    return struct.pack(f"<{len(clipped)}{LETTER[name]}", *clipped)


def test_there_are_exactly_the_codecs_that_an_oracle_knows() -> None:
    """Those below, and those of test_lossy_codecs."""
    assert set(CODECS) == {*LETTER, "bfloat16", "int8", "int4", "sign"}
    assert all(found.name == name for name, found in CODECS.items())
    assert all(isinstance(CODECS[name], FloatCodec) for name in LETTER)


@pytest.mark.parametrize("name", NAMES)
@given(values=finite)
@settings(deadline=None, max_examples=60)
def test_payloads_are_little_endian_rows_rounded_and_clipped(
    name: str, values: NDArray[np.float64]
) -> None:
    payload = codec(name).encode(values)
    assert payload == slow(name, values)
    assert len(payload) == values.shape[0] * values.shape[1] * struct.calcsize(LETTER[name])


@pytest.mark.parametrize("name", NAMES)
@given(values=finite)
@settings(deadline=None, max_examples=40)
def test_decoding_gives_what_was_packed_in_native_order(
    name: str, values: NDArray[np.float64]
) -> None:
    payload = codec(name).encode(values)
    decoded = codec(name).decode(payload, *values.shape)
    assert decoded.shape == values.shape
    assert decoded.dtype == np.dtype(name)
    assert decoded.dtype.isnative
    assert decoded.ravel().tolist() == list(struct.unpack(f"<{values.size}{LETTER[name]}", payload))


@given(values=moderate)
@settings(deadline=None)
def test_float16_rounds_as_numpy_does(values: NDArray[np.float64]) -> None:
    narrow = values.astype(np.float32)
    decoded = codec("float16").decode(codec("float16").encode(narrow), *values.shape)
    np.testing.assert_array_equal(decoded, narrow.astype(np.float16))
    # Half a unit in the last place: 11 significant bits, and the fixed step of subnormal numbers.
    assert (
        np.abs(decoded.astype(np.float64) - narrow)
        <= np.maximum(np.abs(narrow) * 2.0**-11, 2.0**-25)
    ).all()


@given(
    arrays(np.float32, shapes, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    finite,
)
@settings(deadline=None)
def test_each_precision_is_lossless_for_its_own_values(
    single: NDArray[np.float32], double: NDArray[np.float64]
) -> None:
    for name, values in (("float32", single), ("float64", single), ("float64", double)):
        decoded = codec(name).decode(codec(name).encode(values), *values.shape)
        np.testing.assert_array_equal(decoded, values)
        np.testing.assert_array_equal(np.signbit(decoded), np.signbit(values))  # -0.0 too


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (65504.0, 65504.0),
        (65519.0, 65504.0),
        (65520.0, 65504.0),
        (-1e30, -65504.0),
        (math.inf, 65504.0),
    ],
)
def test_float16_clips_what_is_out_of_range(value: float, kept: float) -> None:
    payload = codec("float16").encode(np.array([[value, 0.5]]))
    assert codec("float16").decode(payload, 1, 2).tolist() == [[kept, 0.5]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["fortran", "strided", "reversed", "big-endian", "float16 input"])
def test_how_an_array_lies_in_memory_does_not_matter(name: str, form: str) -> None:
    plain = np.arange(12, dtype=np.float64).reshape(3, 4) / 8
    forms: dict[str, NDArray[np.floating]] = {
        "fortran": np.asfortranarray(plain),
        "strided": np.repeat(plain, 2, axis=1)[:, ::2],
        "reversed": plain[::-1].copy()[::-1],
        "big-endian": plain.astype(">f8"),
        "float16 input": plain.astype(np.float16),
    }
    assert codec(name).encode(forms[form]) == slow(name, plain)


@pytest.mark.parametrize("name", NAMES)
@given(events=st.integers(0, 9), dim=st.integers(1, 9), length=st.integers(0, 700))
@settings(deadline=None, max_examples=60)
def test_a_payload_is_taken_only_at_its_exact_length(
    name: str, events: int, dim: int, length: int
) -> None:
    exact = events * dim * struct.calcsize(LETTER[name])
    assert codec(name).payload_bytes(events, dim) == exact
    assert codec(name).decode(bytes(exact), events, dim).tolist() == [[0.0] * dim] * events
    if length != exact:
        with pytest.raises(ProtocolError, match=f"has {exact} bytes; this one has {length}"):
            codec(name).decode(bytes(length), events, dim)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@given(data=st.data())
@settings(deadline=None, max_examples=15)
def test_one_value_that_is_not_finite_spoils_a_payload(
    name: str, bad: float, data: st.DataObject
) -> None:
    events, dim = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    numbers = [0.25] * (events * dim)
    numbers[data.draw(st.integers(0, len(numbers) - 1))] = bad
    payload = struct.pack(f"<{len(numbers)}{LETTER[name]}", *numbers)
    with pytest.raises(ProtocolError, match="not finite"):
        codec(name).decode(payload, events, dim)


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_is_not_hidden_by_encoding(name: str) -> None:
    payload = codec(name).encode(np.array([[1.0, np.nan]]))
    with pytest.raises(ProtocolError, match="not finite"):
        codec(name).decode(payload, 1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_decoded_array_can_be_written_to(name: str) -> None:
    decoded = codec(name).decode(codec(name).encode(np.ones((2, 2))), 2, 2)
    decoded[0, 0] = 3
    assert decoded.tolist() == [[3.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("float23", "did you mean 'float"),
        ("zstd", "known: float64, float32, float16, bfloat16"),
    ],
)
def test_an_unknown_codec_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        codec(name)
    assert f"unknown codec '{name}'" in str(caught.value)
    assert hint in str(caught.value)
