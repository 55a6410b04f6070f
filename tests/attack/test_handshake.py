"""One bad client at the start: named where a run needs all, left out where fewer will do."""

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.client_app import app as client_app
from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import ConfigError, HandshakeError, ProtocolError, SheafAlignError
from sheafalign_fl.flower.records import pack, unpack
from sheafalign_fl.protocol.acceptance import accept
from sheafalign_fl.protocol.agreement import ClientAgreement
from sheafalign_fl.protocol.verbs import AGREE, DESCRIBE, EXCHANGE
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings
from tests.federation.runs import PowerCut, cut_at

pytestmark = pytest.mark.usefixtures("no_reports")
MakeFolder = Callable[[Settings], RunFolder]
Answer = Callable[[Message, Message], Message]
"""Of the question and the honest answer."""


def app_of(answer: Answer, verb: str, client: str = "m1") -> ClientApp:
    """Return the ClientApp in which one client answers one question with `answer`."""
    app = ClientApp()

    def call(message: Message, context: Context) -> Message:
        honest = client_app(message, context)
        asked = message.metadata.message_type == verb and context.node_config["client"] == client
        return answer(message, honest) if asked else honest

    app._call = call
    return app


def raising(question: Message, honest: Message) -> Message:
    raise OSError(28, "No space left on device")


def saying(**fields: Any) -> Answer:
    return lambda question, honest: Message(pack(fields, {}), reply_to=question)


def manifest_with(**changes: Any) -> Answer:
    """Return an answer whose manifest has some facts changed."""

    def answer(question: Message, honest: Message) -> Message:
        raw = unpack(honest)[0]["manifest"]
        assert isinstance(raw, bytes)
        facts = json.loads(zlib.decompress(raw)) | changes
        return saying(manifest=zlib.compress(json.dumps(facts).encode()))(question, honest)

    return answer


NO_EVENTS = {split: b"i".hex() for split in ("train", "validation", "test")}
ODD: dict[str, tuple[str, Answer, str]] = {
    "an exception": (DESCRIBE, raising, "No space left on device"),
    "no manifest": (DESCRIBE, saying(manifest=b"x"), "no readable manifest"),
    "a field more": (DESCRIBE, saying(also=1), "also: Extra inputs"),
    "deep JSON": (DESCRIBE, saying(manifest=zlib.compress(b"[" * 99_999)), "no readable manifest"),
    "many parts": (DESCRIBE, saying(manifest=zlib.compress(b"[]," * 2**20)), "more than"),
    "a dimension in words": (DESCRIBE, manifest_with(dim="ten"), "dim: Input should be"),
    "a label of a list": (DESCRIBE, manifest_with(labels=[["x"]]), "labels.0: Input should be"),
    "an exception at the agreement": (AGREE, raising, "No space left on device"),
    "an agreement with fields": (AGREE, saying(also=1), "also: Extra inputs"),
}
"""Answers that no honest client gives: question, answer, what the reason says."""
STATED: dict[str, tuple[str, Answer, str]] = {
    "a refusal": (DESCRIBE, saying(failed="modality: no such thing", exit_code=2), "no such thing"),
    "a late refusal": (AGREE, saying(failed="it has no room", exit_code=1), "it has no room"),
    "another configuration": (DESCRIBE, manifest_with(digest="0" * 64), "configuration digest"),
    "another dimension": (DESCRIBE, manifest_with(dim=99), "its stalk dimension is 99"),
    "another's name": (DESCRIBE, manifest_with(name="m0", dim=10, modality="m0"), "its key is"),
    "no events": (DESCRIBE, manifest_with(events=NO_EVENTS), "no shared training events"),
}
"""What a client says of itself that does not fit."""


@pytest.mark.parametrize("name", ODD | STATED)
def test_a_run_that_needs_all_ends_with_one_line(name: str, run_folder: MakeFolder) -> None:
    verb, answer, reason = (ODD | STATED)[name]
    settings = toy_settings()
    with pytest.raises(SheafAlignError) as caught:
        run_inprocess(settings, run_folder(settings), client_app=app_of(answer, verb))
    told = str(caught.value)
    assert reason in told
    assert "\n" not in told
    if name in ODD:  # its own words do not say whose they are
        assert told.startswith("client 'm1' did not answer as a client does: ")
        assert "training.min_clients" in told
    if name == "a refusal":
        assert told == "modality: no such thing"
        assert getattr(caught.value, "exit_code", None) == 2


@pytest.mark.parametrize("name", ODD | STATED)
def test_where_fewer_will_do_the_others_train_as_if_it_were_not_there(
    name: str, run_folder: MakeFolder
) -> None:
    verb, answer, reason = (ODD | STATED)[name]
    settings = toy_settings(training={"min_clients": 2})
    run_inprocess(settings, folder := run_folder(settings), client_app=app_of(answer, verb))
    summary = folder.load_summary()
    (absence,) = summary.absences
    assert (absence.client, absence.event, absence.exchange) == ("m1", "failed", 0)
    assert "left out" in absence.reason
    assert reason in absence.reason
    measured = {(row.source, row.target) for row in summary.quality.retrieval}
    assert measured == {("m0", "m2"), ("m2", "m0")}
    if verb == DESCRIBE:
        alone = toy_settings(clients={"m0": {"dim": 10}, "m2": {"dim": 14}})
        run_inprocess(alone, oracle := run_folder(alone))
    else:  # its edges were agreed on, and are never trained
        run_inprocess(
            settings, oracle := run_folder(settings), client_app=app_of(raising, EXCHANGE)
        )
    digests = oracle.load_summary().weights_digest
    assert summary.weights_digest == {client: digests[client] for client in ("m0", "m2")}


def test_a_run_is_not_begun_with_fewer_than_it_needs(run_folder: MakeFolder) -> None:
    settings = toy_settings(training={"min_clients": 3})
    with pytest.raises(HandshakeError, match=r"only 2 clients can take part .m1: its disk is full"):
        answer = saying(failed="its disk is full", exit_code=1)
        run_inprocess(settings, run_folder(settings), client_app=app_of(answer, DESCRIBE))


@pytest.mark.parametrize("verb", [DESCRIBE, AGREE])
def test_a_run_is_not_begun_with_a_graph_that_falls_apart(
    verb: str, run_folder: MakeFolder
) -> None:
    graph = {"topology": "star", "centre": "m1"}
    settings = toy_settings(graph=graph, training={"min_clients": 2})
    with pytest.raises(HandshakeError, match=r"not connected.*m1: its disk is full"):
        answer = saying(failed="its disk is full", exit_code=1)
        run_inprocess(settings, run_folder(settings), client_app=app_of(answer, verb))


def test_a_resumed_run_goes_on_without_whom_it_began_without(
    run_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings(training={"min_clients": 2}, checkpoint={"every": 2})
    answer = saying(failed="its disk is full", exit_code=1)
    run_inprocess(settings, whole := run_folder(settings), client_app=app_of(answer, DESCRIBE))
    broken = run_folder(settings)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_at(3, patch)
        run_inprocess(settings, broken, client_app=app_of(answer, DESCRIBE))
    run_inprocess(settings, broken, resume=True)  # m1 has room again, but no weights
    one, other = whole.load_summary(), broken.load_summary()
    assert one.weights_digest == other.weights_digest
    assert [row.client for row in other.absences] == ["m1"]


@pytest.mark.parametrize("least", [None, 2])
def test_a_client_that_cannot_be_resumed(
    least: int | None, run_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {} if least is None else {"min_clients": least}
    settings = toy_settings(training=training, checkpoint={"every": 2})
    folder = run_folder(settings)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_at(3, patch)
        run_inprocess(settings, folder)
    app, answered = ClientApp(), app_of(saying(failed="no checkpoint", exit_code=1), EXCHANGE)
    app._call = lambda message, context: (
        answered if "restore" in unpack(message)[0] else client_app
    )(message, context)
    if least is None:
        with pytest.raises(SheafAlignError, match="client 'm1' cannot go on from the checkpoint"):
            run_inprocess(settings, folder, resume=True, client_app=app)
        return
    run_inprocess(settings, folder, resume=True, client_app=app)
    summary = folder.load_summary()
    assert [(row.client, row.event) for row in summary.absences] == [("m1", "failed")]
    assert set(summary.weights_digest) == {"m0", "m2"}


def test_a_relay_leaves_out_no_more_neighbours_than_the_settings_allow() -> None:
    for least, refused in ((None, True), (3, True), (2, False)):
        training = {} if least is None else {"min_clients": least}
        settings = toy_settings(training=training)
        checked = check(settings)
        told = checked.agreement.for_client("m0", checked.topology)
        own: dict[str, Any] = {split: checked.data["m0"].ids_of(split) for split in SPLITS}
        labels = set(checked.data["m0"].labels)
        fewer = ClientAgreement(
            {"m2": told.neighbours["m2"]},
            told.lists,
            {"m2": told.shared["m2"]},
            labels=told.labels,
            edge_labels={p: label for p, label in told.edge_labels.items() if p == "m2"},
        )
        if not refused:
            accept(fewer, "m0", settings, own, labels)
            continue
        with pytest.raises(ProtocolError, match="leaves out the neighbour 'm1'"):
            accept(fewer, "m0", settings, own, labels)


def test_more_clients_than_there_are_cannot_be_needed() -> None:
    content = toy_settings().model_dump(mode="json")
    content["training"]["min_clients"] = 4
    with pytest.raises(ConfigError, match="min_clients is 4, but there are 3 clients"):
        parse_settings(content)
