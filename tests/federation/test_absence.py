"""A client fails, is late, or sends nonsense: the others go on, it is noted, and it comes back."""

import io
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from rich.console import Console

from clients import node_context
from clients.client_app import app as client_app
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.flower.records import pack, unpack
from sheafalign_fl.protocol.verbs import EXCHANGE
from sheafalign_fl.report import print_summary
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.ledger import read_ledger
from tests.conftest import toy_settings

Behaviour = Callable[[Message, Context, int], Message | None]


def misbehaving(client: str, behaviour: Behaviour) -> ClientApp:
    """Return the ClientApp with `behaviour` in front of one client.

    It gets the exchange of each training message.
    """
    app = ClientApp()

    def call(message: Message, context: Context) -> Message:
        if context.node_config["client"] == client and message.metadata.message_type == EXCHANGE:
            fields, _ = unpack(message)
            answer = behaviour(message, context, int(str(fields.get("embed", 10**6))) - 1)
            if answer is not None:
                return answer
        return client_app(message, context)

    app._call = call
    return app


def absent_by_exchange(folder: RunFolder) -> dict[int, list[str]]:
    return {
        row["exchange"]: row["absent"]
        for row in read_rows(folder.metrics)
        if row["kind"] == "exchange"
    }


def absences(folder: RunFolder) -> list[tuple[int, str, str]]:
    rows = (row for row in read_rows(folder.metrics) if row["kind"] == "absence")
    return [(row["exchange"], row["client"], row["event"]) for row in rows]


@pytest.mark.draws_report
def test_a_failing_client_is_left_out_and_comes_back(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(training={"exchanges": 8})

    def fail(message: Message, context: Context, exchange: int) -> None:
        if exchange in (2, 3):
            raise OSError("the sensor's disk is full")

    run_inprocess(settings, folder := run_folder(settings), client_app=misbehaving("m1", fail))
    # Its answers to exchanges 2 and 3 would have held the embeddings of exchanges 3 and 4.
    assert absent_by_exchange(folder) == {
        0: [],
        1: [],
        2: [],
        3: ["m1"],
        4: ["m1"],
        5: [],
        6: [],
        7: [],
    }
    assert absences(folder) == [(2, "m1", "failed"), (3, "m1", "failed"), (4, "m1", "returned")]
    summary = folder.load_summary()
    assert [(row.exchange, row.event) for row in summary.absences] == [
        (2, "failed"),
        (3, "failed"),
        (4, "returned"),
    ]
    assert "the sensor's disk is full" in summary.absences[0].reason
    log = (folder.path / "run.log").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(
        line.get("client") == "m1" and "exchange" in line and "run" in line for line in lines
    )
    assert "exchange 2: client 'm1' failed" in log
    assert "exchange 4: client 'm1' returned" in log
    assert "m1" in folder.report.read_text(encoding="utf-8").split("Absences", 1)[-1]
    rows = [
        row for row in read_ledger(folder.ledger) if row.purpose == "train" and row.payload_bytes
    ]
    with_m1 = {
        row.exchange
        for row in rows
        if "m1" in (row.source, row.destination) and _delivered(row.relay_bytes, row.message_bytes)
    }
    assert with_m1 == {0, 1, 2, 5, 6, 7}
    assert {row.exchange for row in rows if {row.source, row.destination} == {"m0", "m2"}} == set(
        range(8)
    )


def restarting(
    client: str, exchange: int, folder: Path, spoil: Callable[[Path], object]
) -> ClientApp:
    """Return the ClientApp with one client as deployed, whose process is restarted at `exchange`.

    Meanwhile something becomes of its folder of state.
    """
    app = ClientApp()
    now: dict[str, Context] = {}

    def started(context: Context) -> Context:
        own = {**context.node_config, "state-dir": str(folder)}
        return Context(context.run_id, context.node_id, own, RecordDict(), context.run_config)

    def call(message: Message, context: Context) -> Message:
        if context.node_config["client"] != client:
            return client_app(message, context)
        fields, _ = unpack(message)
        if message.metadata.message_type == EXCHANGE and fields.get("step") == exchange:
            node_context.leave(now.pop(client))
            spoil(folder)
        return client_app(message, now.setdefault(client, started(context)))

    app._call = call
    return app


@pytest.mark.slow
@pytest.mark.draws_report
def test_a_run_ends_without_a_client_whose_state_was_lost_and_says_so(
    run_folder: Callable[[Settings], RunFolder], tmp_path: Path
) -> None:
    settings = toy_settings(training={"exchanges": 8})
    app = restarting("m1", 4, tmp_path / "state", shutil.rmtree)
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    summary = folder.load_summary()
    assert [(gone.client, gone.since) for gone in summary.departures] == [("m1", 4)]
    assert summary.departures[0].reason.startswith("its state is lost")
    assert set(summary.weights_digest) == {"m0", "m2"}
    told = "without 'm1', gone since exchange 4: its state is lost"
    assert (folder.status()["state"], told in folder.status()["reason"]) == ("completed", True)
    assert "complete " + told.replace("without", "without client") in (
        folder.path / "run.log"
    ).read_text(encoding="utf-8")
    page = folder.report.read_text(encoding="utf-8")
    assert "completed without m1" in page
    assert "its state is lost" in page.split("Completed without", 1)[-1].split("Absences")[0]
    print_summary(summary, Console(file=(printed := io.StringIO()), width=80))
    assert "Completed without" in printed.getvalue()

    def fail(message: Message, context: Context, exchange: int) -> None:
        if exchange >= 4:
            raise OSError("gone")

    # What the others learnt is what they learn without it, whatever the reason.
    run_inprocess(settings, other := run_folder(settings), client_app=misbehaving("m1", fail))
    digests = other.load_summary().weights_digest
    assert summary.weights_digest == {client: digests[client] for client in ("m0", "m2")}


def keep_two(folder: Path) -> None:
    """Remove the state of all but the first two exchanges."""
    for checkpoint in folder.glob("*/checkpoints/*"):
        if int(checkpoint.name) > 2:
            shutil.rmtree(checkpoint)


@pytest.mark.parametrize("deadline", [None, 60.0])
def test_a_client_with_a_state_of_long_ago_works_on_only_with_a_deadline(
    deadline: float | None, run_folder: Callable[[Settings], RunFolder], tmp_path: Path
) -> None:
    settings = toy_settings(
        training={"exchanges": 8, "deadline": deadline}, checkpoint={"every": 1, "keep": 5}
    )
    app = restarting("m1", 4, tmp_path / "state", keep_two)
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    gone = folder.load_summary().departures
    if deadline is None:
        assert [(each.client, each.since) for each in gone] == [("m1", 4)]
        assert "restarted with its state after 2 exchanges, but" in gone[0].reason
        with_m1 = {
            row.exchange
            for row in read_ledger(folder.ledger)
            if row.source == "m1" and row.destination == "m0" and row.purpose == "train"
        }
        assert max(with_m1) == 4
        assert not (folder.path / "checkpoints" / "000008" / "relay.json").exists()
    else:
        assert gone == ()
        assert absences(folder) == []


def test_a_client_that_came_back_is_no_departure(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(training={"exchanges": 6})

    def fail(message: Message, context: Context, exchange: int) -> None:
        if exchange in (1, 5):  # the last exchange asks for no embeddings, so it is never named
            raise OSError("for a moment")

    run_inprocess(settings, folder := run_folder(settings), client_app=misbehaving("m1", fail))
    assert folder.load_summary().absences
    assert folder.load_summary().departures == ()
    assert folder.status()["reason"] == ""


def _delivered(relay: int, message: int) -> bool:
    return relay > message


def test_a_late_client_is_left_out_at_the_deadline_and_its_late_answer_is_thrown_away(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(
        training={"exchanges": 12, "deadline": 0.5},
        resources={"workers": 3},
        evaluation={"every": 0},
    )
    release = threading.Event()

    def dawdle(message: Message, context: Context, exchange: int) -> None:
        if exchange == 2:
            release.wait(30)
        if exchange == 6:
            release.set()

    def pace(message: Message, context: Context) -> Message:
        """m0 lets go of m1 in its seventh exchange, so no clock decides what the test sees."""
        if context.node_config["client"] == "m0" and message.metadata.message_type == EXCHANGE:
            fields, _ = unpack(message)
            if int(str(fields.get("embed", -1))) == 7:
                release.set()
        return app_with_delay(message, context)

    app_with_delay = misbehaving("m1", dawdle)
    app = ClientApp()
    app._call = pace
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    absent = absent_by_exchange(folder)
    assert absent[2] == []
    assert all(absent[exchange] == ["m1"] for exchange in (3, 4, 5, 6))
    events = [event for _, client, event in absences(folder) if client == "m1"]
    assert events[0] == "late"
    assert "stale" in events
    assert events[-1] == "returned"
    assert absent[11] == []


def test_a_client_that_sends_nonsense_is_never_trained_on(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(training={"exchanges": 6})

    def garble(message: Message, context: Context, exchange: int) -> Message | None:
        if exchange != 2:
            return None
        answer = client_app(message, context)
        fields, frames = unpack(answer)
        damaged = {name: frame[:-1] + bytes([frame[-1] ^ 1]) for name, frame in frames.items()}
        return Message(pack(fields, damaged), reply_to=message)

    run_inprocess(settings, folder := run_folder(settings), client_app=misbehaving("m2", garble))
    assert absent_by_exchange(folder)[3] == ["m2"]
    reasons = [row.reason for row in folder.load_summary().absences if row.event == "failed"]
    assert len(reasons) == 1
    assert "checksum" in reasons[0]


def test_a_run_in_which_nobody_can_train_ends_with_the_reason(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(
        clients={"m0": {"encoder": "tests.toy:Exploding", "dim": 10}, "m1": {}},
        training={"exchanges": 20},
    )
    with pytest.raises((RunError, SheafAlignError), match=r"not finite|loss of client"):
        run_inprocess(settings, run_folder(settings))


def test_clients_of_another_version_or_configuration_are_refused(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings()
    monkeypatch.setattr("sheafalign_fl.learner.manifest.__version__", "0.0.1")
    with pytest.raises(SheafAlignError, match=r"'m0' is refused: its software version is 0\.0\.1"):
        run_inprocess(settings, run_folder(settings))
