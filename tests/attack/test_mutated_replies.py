"""Mutated frames, records and replies: nothing foreign comes of them, and one client ends no run.

On 7bb4eeb exit codes that are no numbers, an absent digest, one flipped bit in an evaluation frame
and scores in another's name ended the run; ``top-16`` with dimension 0 asked for 32 GB.
"""

import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from clients import frames as client_frames
from clients.client_app import app as client_app
from experiments.mutants import bomb
from experiments.mutations import mutate_federations, mutate_frames, mutate_records
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import DataError, HandshakeError, ProtocolError
from sheafalign_fl.flower.records import pack, raised, undelivered, unpack
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.messages import (
    ExchangeReply,
    FinishReply,
    Refusal,
    plain,
)
from sheafalign_fl.protocol.verbs import EVALUATE_EMBED, EVALUATE_SCORE, EXCHANGE, FINISH
from sheafalign_fl.runs.folder import RunFolder, read_rows
from tests.conftest import toy_settings

Said = tuple[dict[str, Any], dict[str, bytes]]
Lie = Callable[[dict[str, Any], dict[str, bytes]], Said]
_MEBI = 2**20
FEDERATION = "recall-by-label"
"""A metric that the evaluator measures, of all clients."""


@pytest.fixture
def traced() -> Iterator[None]:
    """Trace the memory that is taken."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_mutated_frames_are_refused_and_take_no_memory() -> None:
    tally = mutate_frames(1500)
    assert tally.foreign == {}
    assert tally.counts["refused"] > 500
    assert tally.counts["sealed, refused"] > 500
    assert tally.counts["sealed, accepted, changed"] == 0
    assert 0 < tally.peak < _MEBI


@pytest.mark.usefixtures("traced")
def test_mutated_records_are_refused_and_take_little_memory() -> None:
    tally = mutate_records(250)
    assert tally.foreign == {}
    assert tally.counts["refused"] > 150
    assert 0 < tally.peak < 100 * _MEBI  # an agreement may inflate to 64 MiB


def test_federations_with_a_client_that_says_anything_go_on_without_it() -> None:
    tally = mutate_federations(3)
    assert tally.foreign == {}
    assert tally.counts["as sent"] == 3


@pytest.mark.slow
def test_many_mutants() -> None:
    for tally in (mutate_frames(10_000, 1), mutate_records(5_000, 1)):
        assert tally.foreign == {}
        assert tally.counts["sealed, accepted, changed"] == 0
    tally = mutate_federations(24, seed=1)
    assert (tally.foreign, tally.counts["as sent"]) == ({}, 24)


# ---- one lie at a time ---------------------------------------------------------------------------


def flipped(fields: dict[str, Any], frames: dict[str, bytes]) -> Said:
    return fields, {name: f[:-1] + bytes([f[-1] ^ 1]) for name, f in frames.items()}


def saying(**lies: Any) -> Lie:
    return lambda fields, frames: ({**fields, **lies}, frames)


def silent(fields: dict[str, Any], frames: dict[str, bytes]) -> Said:
    return {}, frames


def in_another_name(fields: dict[str, Any], frames: dict[str, bytes]) -> Said:
    swapped = str(fields["scores"]).replace('"source": "m1"', '"source": "m0"')
    assert swapped != fields["scores"]
    return {**fields, "scores": swapped}, frames


def too_good(fields: dict[str, Any], frames: dict[str, bytes]) -> Said:
    scores = json.loads(str(fields["scores"]))
    for row in scores["retrieval"]:
        row["recall_at_1"] = 1e300
    return {**fields, "scores": json.dumps(scores)}, frames


def vast(fields: dict[str, Any], frames: dict[str, bytes]) -> Said:
    """State a size that takes 32 GB, and send nothing."""
    lie: dict[str, Any] = {"codec": "top-16", "dim": 0, "events": 2**32 - 1, "payload": b""}
    return fields, {n: replace(Frame.unpack(f), **lie).pack() for n, f in frames.items()}


LIES: dict[str, tuple[str, Lie, str]] = {
    "an exit code in words": (
        EXCHANGE,
        lambda *_: ({"failed": "no", "exit_code": "two"}, {}),
        "a refusal that cannot be read: exit_code",
    ),
    "an exit code of success": (
        EXCHANGE,
        lambda *_: ({"failed": "no", "exit_code": 0}, {}),
        "a refusal that cannot be read: exit_code",
    ),
    "a loss that is no number": (
        EXCHANGE,
        saying(losses=b'[["total"],{"m0":[32,NaN]}]'),
        "not finite",
    ),
    "a loss of no edge": (EXCHANGE, saying(losses=b'[["total"],{"mx":[3,1]}]'), "an edge to 'mx'"),
    "a loss called events": (
        EXCHANGE,
        saying(losses=b'[["events"],{"m0":[3,1]}]'),
        "a term called 'events'",
    ),
    "deep losses": (EXCHANGE, saying(losses=b"[" * 20_000), "losses that cannot be read"),
    "a vast frame": (EXCHANGE, vast, "where ('train'"),
    "a field more": (EXCHANGE, saying(also=1), "also: Extra inputs"),
    "a flipped bit": (EVALUATE_EMBED, flipped, "checksum"),
    "a vast evaluation": (EVALUATE_EMBED, vast, "where ('evaluate'"),
    "no frames": (EVALUATE_EMBED, lambda *_: ({}, {}), "frames for []"),
    "no scores": (EVALUATE_SCORE, silent, "scores: Field required"),
    "scores that are none": (EVALUATE_SCORE, saying(scores="[]"), "scores that cannot be read"),
    "scores in another's name": (EVALUATE_SCORE, in_another_name, "a score of 'm0'"),
    "a score of 1e300": (EVALUATE_SCORE, too_good, "recall_at_1 is 1e+300"),
    "no digest": (FINISH, silent, "digest: Field required"),
    "a digest in bytes": (FINISH, saying(digest=b"0" * 64), "digest: Input should be"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_costs_its_teller_the_question(
    name: str, run_folder: Callable[[Settings], RunFolder]
) -> None:
    verb, lie, reason = LIES[name]
    app = ClientApp()

    def call(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if context.node_config["client"] != "m1" or message.metadata.message_type != verb:
            return reply
        fields, frames = unpack(reply)
        if verb == EXCHANGE and "losses" not in fields:
            return reply  # nothing has been trained yet
        return Message(pack(*lie(fields, frames)), reply_to=message)

    app._call = call
    settings = toy_settings(training={"exchanges": 3})
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    summary = folder.load_summary()
    failures = [row for row in summary.absences if row.event == "failed"]
    assert {row.client for row in failures} == {"m1"}
    assert all(reason in row.reason for row in failures)
    measured = {(row.source, row.target) for row in summary.quality.retrieval}
    assert {("m0", "m2"), ("m2", "m0")} <= measured


@pytest.mark.parametrize(
    ("value", "check", "exchanges"),
    [(np.nan, "finite", 3), (np.inf, "finite", 3), (3e38, "norm", 0), (1e18, "norm", 12)],
)
def test_a_frame_that_only_its_receiver_can_judge_costs_its_edge_in_an_evaluation(
    value: float, check: str, exchanges: int, run_folder: Callable[[Settings], RunFolder]
) -> None:
    """The relay decodes nothing: the neighbour finds what cannot be, and names its sender."""
    app = ClientApp()

    def call(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        verb, client = message.metadata.message_type, context.node_config["client"]
        if client != "m1" or verb != EVALUATE_EMBED:
            return reply
        _, frames = unpack(reply)
        frame = Frame.unpack(frames["m0"])
        odd = np.full((frame.events, frame.dim), value, dtype="<f4").tobytes()
        frames["m0"] = replace(frame, payload=odd).pack()
        return Message(pack({}, frames), reply_to=message)

    app._call = call
    metrics = ["retrieval", "consistency", "missing"]
    settings = toy_settings(training={"exchanges": exchanges}, evaluation={"metrics": metrics})
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    summary = folder.load_summary()
    assert summary.absences == ()
    assert "NaN" not in folder.summary.read_text(encoding="utf-8")
    measured = {(row.source, row.target) for row in summary.quality.retrieval}
    everybody = {(a, b) for a in settings.clients for b in settings.clients if a != b}
    assert everybody - measured == {("m0", "m1")}
    told = [row for row in read_rows(folder.metrics) if row["kind"] == "watch"]
    assert [(row["sender"], row["receiver"], row["check"]) for row in told] == [("m1", "m0", check)]


def test_embeddings_for_the_evaluator_that_would_overflow_cost_their_sender_its_scores(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    app = ClientApp()

    def call(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        verb, client = message.metadata.message_type, context.node_config["client"]
        if client != "m1" or verb != EVALUATE_SCORE:
            return reply
        fields, frames = unpack(reply)
        frame = Frame.unpack(frames["test"])
        odd = np.full((frame.events, frame.dim), 3e38, dtype="<f4").tobytes()
        frames["test"] = replace(frame, payload=odd).pack()
        return Message(pack(fields, frames), reply_to=message)

    app._call = call
    settings = toy_settings(training={"exchanges": 2}, evaluation={"metrics": ["missing"]})
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    summary = folder.load_summary()
    assert [(row.client, row.reason) for row in summary.absences if row.event == "failed"] == [
        ("m1", "embeddings with a value of 3e+38")
    ]
    assert "NaN" not in folder.summary.read_text(encoding="utf-8")


@pytest.mark.parametrize("absent", [(), ("m2",)], ids=["all there", "one absent"])
def test_what_clients_file_under_a_metric_of_the_federation_never_stands_as_its_rows(
    absent: tuple[str, ...], run_folder: Callable[[Settings], RunFolder]
) -> None:
    """Of a federation that lacked a client, whose rows the relay could not measure, it had."""
    app = ClientApp()
    forged = {"source": "m1", "target": "m0", "events": 9, "recall_at_1": 1.0}

    def call(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        verb, client = message.metadata.message_type, context.node_config["client"]
        if client in absent and verb == EVALUATE_SCORE:
            return Message(Error(1), reply_to=message)
        if client != "m1" or verb != EVALUATE_SCORE:
            return reply
        fields, frames = unpack(reply)
        scores = {**json.loads(str(fields["scores"])), FEDERATION: [forged]}
        return Message(pack({**fields, "scores": json.dumps(scores)}, frames), reply_to=message)

    app._call = call
    settings = toy_settings(
        clients={name: {"dim": 8} for name in ("m0", "m1", "m2")},
        training={"exchanges": 2},
        evaluation={"metrics": ["retrieval", FEDERATION]},
    )
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    summary = folder.load_summary()
    assert summary.quality.rows(FEDERATION) == ()
    failed = {row.client: row.reason for row in summary.absences if row.event == "failed"}
    assert failed["m1"] == f"scores of {FEDERATION}, which only the evaluator measures"
    assert {row.source for row in summary.quality.retrieval} == {"m0", "m2"} - {*absent}


# ---- the nouns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"failed": "x"},
        {"failed": 1, "exit_code": 1},
        {"failed": "x", "exit_code": True},
        {"failed": "x", "exit_code": 256},
        {"failed": "x", "exit_code": 1.0},
        {"failed": "x", "exit_code": 1, "also": b""},
    ],
    ids=str,
)
def test_a_refusal_takes_no_type_for_another(fields: Mapping[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="a refusal that cannot be read"):
        Refusal.read(fields)


def test_what_a_peer_says_is_one_line_that_controls_nothing() -> None:
    refusal = Refusal.read({"failed": "\x1b[31mno\r\n\0room" + "!" * 9000, "exit_code": 2})
    assert refusal.failed.startswith("[31mno room!")
    assert len(refusal.failed) == 500
    assert plain("a\tb") == "a b"


def test_nouns_come_out_as_they_went_in_and_say_nothing_of_what_they_lack() -> None:
    assert ExchangeReply().fields() == {}
    digest = FinishReply(digest="0123456789abcdef")
    assert FinishReply.read(digest.fields()) == digest


@pytest.mark.usefixtures("traced")
def test_a_bomb_for_a_manifest_takes_no_more_than_a_manifest_may() -> None:
    data = bomb()
    tracemalloc.reset_peak()
    with pytest.raises(HandshakeError, match="no readable manifest"):
        Manifest.from_bytes(data)
    assert tracemalloc.get_traced_memory()[1] < 80 * _MEBI


_HEX = {split: b"i".hex() for split in ("validation", "test")}
_WIDE = b"U" + json.dumps(["x" * 256, *["y"] * 600_000]).encode()
_MANY = b"U[" + b'"a",' * 2**21 + b'"b"]'
LARGE: dict[str, bytes] = {
    "empty lists": b"[" + b"[]," * (2**23) + b"[]]",
    "nested objects": b'{"a":' * 2**20 + b"1" + b"}" * 2**20,
    "many names": b"{" + b",".join(b'"%d":1' % n for n in range(2**20)) + b"}",
    "one long id among many": json.dumps({"events": {"train": _WIDE.hex(), **_HEX}}).encode(),
    "many short ids": json.dumps({"events": {"train": _MANY.hex(), **_HEX}}).encode(),
}
"""JSON of at most 32 MiB that would take from 200 MB to 2 GB as objects and arrays."""


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", LARGE)
def test_what_is_small_as_json_takes_no_more_as_a_manifest(name: str) -> None:
    content = LARGE[name]
    if content.startswith(b'{"events"'):
        facts = json.loads(zlib.decompress(_manifests()[0].to_bytes()))
        content = json.dumps(facts | json.loads(content)).encode()
    assert len(content) < 2**25
    data = zlib.compress(content, 1)
    del content
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    with pytest.raises(HandshakeError, match=r"more than|256 characters"):
        Manifest.from_bytes(data)
    assert tracemalloc.get_traced_memory()[1] - before < 128 * _MEBI


def _manifests() -> list[Manifest]:
    return list(check(toy_settings()).manifests.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_shape": [3, "x"]}, "input_shape.1"),
        ({"input_shape": [-1]}, "input_shape.0"),
        ({"input_shape": [1] * 99}, "input_shape"),
        ({"notes": [["x"]]}, "notes.0"),
        ({"labels": [1]}, "labels.0"),
        ({"classes": {"side": [1]}}, "classes.side.0"),
        ({"classes": {"side": "ab"}}, "classes.side"),
        ({"dim": True}, "dim"),
        ({"dim": 0}, "dim"),
        ({"parameters": -1}, "parameters"),
        ({"parameters": 1e3}, "parameters"),
        ({"protocol": 2**40}, "protocol"),
        ({"span": 0}, "span"),
        ({"nonce": "xyz"}, "nonce"),
        ({"name": "x" * 100}, "name"),
        ({"device": None}, "device"),
    ],
    ids=str,
)
def test_every_element_of_a_manifest_has_its_type(changes: dict[str, Any], reason: str) -> None:
    facts = json.loads(zlib.decompress(_manifests()[0].to_bytes())) | changes
    data = zlib.compress(json.dumps(facts).encode())
    with pytest.raises(HandshakeError, match=f"no readable manifest: {reason}"):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([3, 1, 2], "not sorted"),
        ([1, 1, 2], "there twice"),
        (["b", "a"], "not sorted"),
    ],
    ids=str,
)
def test_events_of_a_manifest_are_sorted_and_there_once(ids: list[Any], reason: str) -> None:
    first = _manifests()[0]
    events = {**dict.fromkeys(first.events, np.array(ids[:0])), "train": np.array(ids)}
    with pytest.raises(HandshakeError, match=reason):
        Manifest.from_bytes(replace(first, events=events).to_bytes())


def test_more_events_than_a_manifest_holds_are_said_where_they_are() -> None:
    many = np.arange(2**21 + 1, dtype=np.int64)
    sent = replace(
        _manifests()[0], events={"train": many, "validation": many[:0], "test": many[:0]}
    )
    with pytest.raises(DataError, match="client 'm0' cannot tell of its events: their ids take"):
        sent.to_bytes()


@pytest.mark.usefixtures("traced")
def test_nothing_is_allocated_by_a_size_that_a_peer_states() -> None:
    frame = Frame("train", 3, "m0", "m1", "top-16", 2**32 - 1, 0, b"").pack()
    due = client_frames.Due("train", 3, "m0", "m1", "top-16", 8, 20)
    with pytest.raises(ProtocolError):
        client_frames.read(frame, due, None)
    assert tracemalloc.get_traced_memory()[1] < _MEBI


def test_a_client_that_raised_was_reached() -> None:
    """Taken for unreachable, it would be asked again and again for ever."""
    asked = Message(pack(), 7, EXCHANGE)
    assert not undelivered(raised(OSError(28, "No space left on device"), asked))
    for code, lost in ((2, False), (3, True), (4, True), (5, True), (8, False)):
        assert undelivered(Message(Error(code, "x"), reply_to=asked)) == lost
