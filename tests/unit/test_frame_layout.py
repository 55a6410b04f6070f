"""Frames against a writer made from the module's description; damage of every kind is refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import parse_settings
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.verbs import PURPOSES, Purpose
from sheafalign_fl.runs.ledger import Ledger, LedgerRow, read_ledger

ITEMSIZE = {"float64": 8, "float32": 4, "float16": 2}


def forge(
    purpose: int = 1,
    exchange: int = 3,
    source: bytes = b"a",
    destination: bytes = b"b",
    codec: bytes = b"float32",
    shape: tuple[int, int] = (1, 1),
    payload: bytes = bytes(4),
    first: int = 0,
    magic: bytes = b"SAF1",
) -> bytes:
    """Write a frame with a true checksum, field by field, as the module's description says."""
    head = magic + bytes([purpose, len(codec), len(source), len(destination)])
    for number in (exchange, first, *shape, len(payload)):
        head += number.to_bytes(4, "little")
    names = codec + source + destination
    return head + zlib.crc32(head + names + payload).to_bytes(4, "little") + names + payload


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(
    lambda name: len(name.encode()) <= 255
)
u32 = st.integers(0, 2**32 - 1)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    purpose: Purpose = draw(st.sampled_from(PURPOSES))
    codec = draw(st.sampled_from(sorted(ITEMSIZE)))
    events, dim = draw(st.integers(0, 5)), draw(st.integers(1, 5))
    size = events * dim * ITEMSIZE[codec]
    payload = draw(st.binary(min_size=size, max_size=size))
    return Frame(
        purpose, draw(u32), draw(names), draw(names), codec, events, dim, payload, draw(u32)
    )


@given(frames())
@settings(deadline=None)
def test_frames_have_the_layout_that_is_described(frame: Frame) -> None:
    expected = forge(
        PURPOSES.index(frame.purpose),
        frame.exchange,
        frame.source.encode(),
        frame.destination.encode(),
        frame.codec.encode(),
        (frame.events, frame.dim),
        frame.payload,
        frame.first,
    )
    assert frame.pack() == expected
    assert Frame.unpack(expected) == frame


def small() -> bytes:
    return Frame.of("train", 7, "lidar", "ü", "float32", np.ones((2, 3), np.float32)).pack()


def test_every_truncation_is_refused() -> None:
    packed = small()
    for length in range(len(packed)):
        with pytest.raises(ProtocolError):
            Frame.unpack(packed[:length])
        with pytest.raises(ProtocolError):
            Frame.unpack(packed[length + 1 :])


def test_every_change_of_a_single_byte_is_refused() -> None:
    packed = small()
    for position in range(len(packed)):
        for mask in range(1, 256):
            changed = packed[:position] + bytes([packed[position] ^ mask]) + packed[position + 1 :]
            with pytest.raises(ProtocolError):
                Frame.unpack(changed)


@given(frames(), st.data())
@settings(deadline=None)
def test_bytes_that_are_put_in_taken_out_or_exchanged_are_noticed(
    frame: Frame, data: st.DataObject
) -> None:
    packed = frame.pack()
    position = data.draw(st.integers(0, len(packed)))
    inserted = data.draw(st.binary(min_size=1, max_size=5))
    other = data.draw(st.integers(0, len(packed) - 1))
    swapped = bytearray(packed)
    swapped[other], swapped[position - 1] = swapped[position - 1], swapped[other]
    for damaged in (
        packed[:position] + inserted + packed[position:],
        packed[:other] + packed[other + 1 :],
        swapped,
    ):
        if bytes(damaged) != packed:
            with pytest.raises(ProtocolError):
                Frame.unpack(bytes(damaged))


@given(frames(), frames())
@settings(deadline=None, max_examples=30)
def test_two_frames_are_not_one(one: Frame, other: Frame) -> None:
    with pytest.raises(ProtocolError):
        Frame.unpack(one.pack() + other.pack())


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (forge(magic=b"SAF2"), "no frame"),
        (forge(purpose=3), "unknown purpose 3"),
        (forge(purpose=127), "unknown purpose 127"),
        (forge(purpose=255), "should have"),
        (forge(codec=b"zstd"), "unknown codec 'zstd'"),
        (forge(codec=b""), "unknown codec ''"),
        (forge(shape=(2, 1)), "has 4 bytes, not 8"),
        (forge(shape=(2**32 - 1, 2**32 - 1)), "has 4 bytes, not"),
        (forge(shape=(0, 0)), "has 4 bytes, not 0"),
        (forge(payload=b""), "has 0 bytes, not 4"),
    ],
)
def test_a_frame_with_a_true_checksum_but_impossible_content_is_refused(
    frame: bytes, message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        Frame.unpack(frame)


@pytest.mark.parametrize("field", ["source", "destination", "codec"])
def test_names_that_are_no_text_are_refused(field: str) -> None:
    names_ = {"source": b"a", "destination": b"b", "codec": b"float32", field: b"\xff\xfe"}
    with pytest.raises(ProtocolError):
        Frame.unpack(forge(**names_))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_when_they_are_read(bad: float) -> None:
    frame = Frame.unpack(forge(payload=struct.pack("<f", bad)))
    with pytest.raises(ProtocolError, match="not finite"):
        frame.values()


@pytest.mark.parametrize("name", ["x" * 99, "ü" * 49, " a ", "a,b", 'say "a"', "-", "𝔞", "a;b|c*?"])
def test_every_name_that_settings_allow_travels_and_can_be_written_down(
    name: str, tmp_path: Path
) -> None:
    assert name in parse_settings({"clients": {name: {}, "b": {}}}).clients
    frame = Frame.of("train", 0, name, "b", "float32", np.ones((1, 1), np.float32))
    assert Frame.unpack(frame.pack()) == frame
    row = LedgerRow(0, name, "b", "train", "float32", 1, 1, 4, 5, 6)
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.record([row])
    ledger.close()
    assert list(read_ledger(tmp_path / "ledger.csv")) == [row]
    (tmp_path / f"{name}.safetensors").touch()
    assert (tmp_path / f"{name}.safetensors").is_file()
