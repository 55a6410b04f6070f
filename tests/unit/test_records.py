"""Bytes of Flower messages against its own object tree: requests, replies, errors; shares' sums."""

from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.flower.records import RECORD, act_as, pack, share, unpack, wire_bytes
from sheafalign_fl.protocol.messages import Scalar


@pytest.fixture(autouse=True, scope="module")
def identity() -> None:
    """Give Flower's messages their sender."""
    act_as(1, 1)


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=">\0"), min_size=1, max_size=12
)
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.binary(max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
all_fields = st.dictionaries(names, scalars, max_size=4)
all_frames = st.dictionaries(names, st.binary(max_size=3000), max_size=4)


def request(
    fields: dict[str, Any] | None = None, frames: dict[str, bytes] | None = None
) -> Message:
    return Message(pack(fields, frames), 7, "train.exchange", group_id="3")


def tree_bytes(message: Message) -> int:
    """Return what Flower would push for `message`: every object of its tree, deflated."""
    return sum(len(part.deflate()) for part in get_all_nested_objects(message).values())


@given(fields=all_fields, frames=all_frames)
@settings(deadline=None, max_examples=50)
def test_requests_and_replies_are_counted_to_the_byte_and_come_out_as_they_went_in(
    fields: dict[str, Scalar], frames: dict[str, bytes]
) -> None:
    message = request(fields, frames)
    reply = Message(pack(fields, frames), reply_to=message)
    for sent in (message, reply):
        assert wire_bytes(sent) == tree_bytes(sent)
        got_fields, got_frames = unpack(sent)
        assert got_fields == fields
        assert {name: type(value) for name, value in got_fields.items()} == {
            name: type(value) for name, value in fields.items()
        }
        assert got_frames == frames


def test_an_error_is_counted_too_and_has_nothing_to_unpack() -> None:
    reply = Message(Error(3, "it broke"), reply_to=request())
    assert wire_bytes(reply) == tree_bytes(reply) > len("it broke")
    with pytest.raises(ProtocolError, match="without the record"):
        unpack(reply)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16384, 100_000])
def test_a_frame_costs_its_bytes_and_little_more(size: int) -> None:
    empty, full = (
        wire_bytes(request(frames={"b": b""})),
        wire_bytes(request(frames={"b": b"\x07" * size})),
    )
    assert size <= full - empty <= size + 16  # lengths are written with few bytes


def test_counting_leaves_the_message_as_it_was() -> None:
    message = request({"step": 3}, {"b": b"x" * 50})
    size, object_id = wire_bytes(message), message.object_id
    assert wire_bytes(message) == size
    assert message.object_id == object_id
    assert unpack(message) == ({"step": 3}, {"b": b"x" * 50})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RecordDict(), "without the record"),
        (RecordDict({"other": ConfigRecord()}), "without the record"),
        (RecordDict({RECORD: ConfigRecord(), "more": ConfigRecord()}), "without the record"),
        (RecordDict({RECORD: MetricRecord({"a": 1.0})}), "of the wrong kind"),
        (RecordDict({RECORD: ArrayRecord()}), "of the wrong kind"),
        (RecordDict({RECORD: ConfigRecord({">b": "text"})}), "a frame for 'b' that is not bytes"),
        (RecordDict({RECORD: ConfigRecord({">b": 3})}), "a frame for 'b' that is not bytes"),
        (RecordDict({RECORD: ConfigRecord({">b": [b"x"]})}), "a frame for 'b' that is not bytes"),
        (RecordDict({RECORD: ConfigRecord({"a": [1.0, 2.0]})}), "a field 'a' that is a list"),
    ],
)
def test_what_the_protocol_does_not_know_is_refused(content: RecordDict, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        unpack(Message(content, 7, "train.exchange"))


# ---- shares --------------------------------------------------------------------------------------


@given(
    st.dictionaries(names, st.integers(0, 10**9), min_size=1, max_size=12), st.integers(0, 10**9)
)
@settings(deadline=None)
def test_shares_add_up_exactly_and_divide_the_rest_evenly(parts: dict[str, int], rest: int) -> None:
    shares = share(sum(parts.values()) + rest, parts)
    assert list(shares) == list(parts)
    assert sum(shares.values()) == sum(parts.values()) + rest
    extras = [shares[name] - own for name, own in parts.items()]
    assert min(extras) >= 0
    assert max(extras) - min(extras) <= 1
    assert extras == sorted(
        extras, reverse=True
    )  # the first ones bear what is left over, so runs repeat


@given(
    frames=st.dictionaries(names, st.binary(max_size=500), min_size=1, max_size=5),
    fields=all_fields,
)
@settings(deadline=None, max_examples=30)
def test_the_frames_of_a_message_share_all_of_its_bytes(
    frames: dict[str, bytes], fields: dict[str, Scalar]
) -> None:
    size = wire_bytes(request(fields, frames))
    shares = share(size, {name: len(frame) for name, frame in frames.items()})
    assert sum(shares.values()) == size
    assert all(shares[name] > len(frame) for name, frame in frames.items())
