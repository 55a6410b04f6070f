"""A client that sends bad values costs its own edges and nobody else: real apps, one process."""

import html
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from rich.console import Console

from clients.client_app import app as client_app
from sheafalign_fl.config import Settings
from sheafalign_fl.deploy.status import show
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.flower.records import pack, unpack
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.verdict import Verdict, WatchRow, pack_verdicts, read_verdicts
from sheafalign_fl.report.tables import print_summary
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.reading import read_run
from sheafalign_fl.runs.summary import Summary
from tests.conftest import toy_settings
from tests.federation.runs import PowerCut, cut_at
from tests.federation.test_absence import absent_by_exchange, misbehaving

MakeFolder = Callable[[Settings], RunFolder]
Silence = Callable[[int, int], Mapping[str, str]]
Lie = Callable[[np.ndarray, list[np.ndarray], np.random.Generator], np.ndarray]
TOTAL, START = 40, 30
"""The fault lasts from exchange START to the end: the edges are aligned by then."""

ABSURD: dict[str, Lie] = {
    "not a number": lambda z, past, rng: np.full_like(z, np.nan),
    "one infinity": lambda z, past, rng: np.where(np.arange(z.size).reshape(z.shape), z, np.inf),
    "3e38": lambda z, past, rng: np.full_like(z, 3e38),
    "1e18": lambda z, past, rng: np.full_like(z, 1e18),
    "a million times": lambda z, past, rng: 1e6 * z,
}
"""What never passes, from the first exchange on."""
STRANGE: dict[str, Lie] = {
    "constant": lambda z, past, rng: np.tile(z[0], (len(z), 1)),
    "repeated": lambda z, past, rng: past[START - 1],
    "old": lambda z, past, rng: past[len(past) - 10],
    "random": lambda z, past, rng: np.std(z) * rng.normal(size=z.shape),
    "negated": lambda z, past, rng: -z,
    "other events": lambda z, past, rng: np.roll(z, 1, axis=0),
}
"""What is seen against the edge's own past."""


def settings_of(**sections: Any) -> Settings:
    training = {"exchanges": TOTAL, "batch_size": 32} | sections.pop("training", {})
    return toy_settings(training=training, checkpoint={"every": 10}, **sections)


def lying(lie: Lie, *, start: int, only_to: str | None = None) -> Any:
    """Return the app in which m1's frames say, from `start` on, what `lie` makes of them."""
    past: dict[str, list[np.ndarray]] = {}
    rng = np.random.default_rng(0)

    def behave(message: Message, context: Context, exchange: int) -> Message:
        answer = client_app(message, context)
        fields, frames = unpack(answer)
        for neighbour, packed in frames.items():
            frame = Frame.unpack(packed)
            honest = frame.values()
            history = past.setdefault(neighbour, [])
            del history[frame.exchange :]
            history.append(honest)
            if frame.exchange >= start and only_to in (None, neighbour):
                lied = lie(honest, history, rng).astype(honest.dtype)
                payload = np.ascontiguousarray(lied).tobytes()
                frames[neighbour] = replace(frame, payload=payload).pack()
        return Message(pack(fields, frames), reply_to=message)

    return misbehaving("m1", behave)


def verdicts(folder: RunFolder) -> list[WatchRow]:
    rows = (row for row in read_rows(folder.metrics) if row["kind"] == "watch")
    return [WatchRow.model_validate(row) for row in rows]


def trained(folder: RunFolder) -> dict[int, set[tuple[str, str]]]:
    """Return exchange -> (client, neighbour) of every edge that a client stepped on."""
    return {
        row["exchange"]: {(loss["source"], loss["target"]) for loss in row["losses"]}
        for row in read_rows(folder.metrics)
        if row["kind"] == "exchange"
    }


@pytest.fixture(scope="module")
def without_m1(tmp_path_factory: pytest.TempPathFactory) -> Silence:
    """Return the weights' digests of runs in which m1 is silent from `start` on: the oracle."""

    @cache
    def digests(start: int, exchanges: int) -> Mapping[str, str]:
        def silent(message: Message, context: Context, exchange: int) -> None:
            if exchange >= start - 1:
                raise OSError("m1 says nothing")

        settings = settings_of(training={"exchanges": exchanges})
        folder = RunFolder(tmp_path_factory.mktemp("silent") / "run")
        folder.create(settings)
        run_inprocess(settings, folder, client_app=misbehaving("m1", silent))
        return folder.load_summary().weights_digest

    return digests


@pytest.mark.parametrize("start", [1, START])
@pytest.mark.parametrize("name", ABSURD)
def test_absurd_values_cost_the_edges_of_who_sends_them_alone(
    name: str, start: int, run_folder: MakeFolder, without_m1: Silence
) -> None:
    settings = settings_of(training={"exchanges": start + 6})
    app = lying(ABSURD[name], start=start)
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    summary = folder.load_summary()
    check_that_m1_alone_is_named(summary, verdicts(folder), start)
    for exchange, edges in trained(folder).items():
        victims = {("m0", "m1"), ("m2", "m1")} if exchange >= start else set()
        everything = {(a, b) for a in settings.clients for b in settings.clients if a != b}
        assert edges == everything - victims
    assert set(map(tuple, absent_by_exchange(folder).values())) == {()}
    silence = without_m1(start, start + 6)
    assert [summary.weights_digest[c] == silence[c] for c in ("m0", "m2")] == [True, True]


def check_that_m1_alone_is_named(
    summary: Summary, rows: list[WatchRow], start: int, refused: bool = True
) -> None:
    assert {row.sender for row in rows if row.event == "refused"} <= {"m1"}
    (fault,) = summary.faults
    assert fault.clients == ("m1",)
    assert fault.found == start
    assert abs(fault.since - start) <= 3
    assert summary.absences == ()
    assert fault.refused == sum(row.event == "refused" for row in rows)
    assert (fault.refused > 0) == refused


@pytest.mark.parametrize("name", STRANGE)
def test_strange_values_are_seen_against_the_past_and_left_out(
    name: str, run_folder: MakeFolder, without_m1: Silence
) -> None:
    settings = settings_of()
    app = lying(STRANGE[name], start=START)
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    summary = folder.load_summary()
    check_that_m1_alone_is_named(summary, verdicts(folder), START)
    silence = without_m1(START, TOTAL)
    assert [summary.weights_digest[c] == silence[c] for c in ("m0", "m2")] == [True, True]


def test_bad_values_on_one_edge_name_that_edge(run_folder: MakeFolder) -> None:
    settings = settings_of()
    app = lying(STRANGE["random"], start=START, only_to="m0")
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    (fault,) = folder.load_summary().faults
    assert fault.clients == ("m1", "m0")
    assert fault.edges == (("m1", "m0"),)
    assert fault.where == "edge 'm1' -> 'm0'"
    edges = trained(folder)
    assert all(("m2", "m1") in edges[exchange] for exchange in range(TOTAL))
    assert all(("m0", "m1") not in edges[exchange] for exchange in range(START, TOTAL))


@pytest.mark.draws_report
def test_the_report_the_log_and_the_status_name_the_suspect(run_folder: MakeFolder) -> None:
    settings = settings_of(training={"exchanges": 8})
    app = lying(ABSURD["3e38"], start=3)
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    page = html.unescape(folder.report.read_text(encoding="utf-8"))
    assert "client 'm1'" in page.split("Faults", 1)[-1]
    assert "sent embeddings of norm" in page
    log = (folder.path / "run.log").read_text(encoding="utf-8")
    assert log.count("exchange 3: client 'm0': 'm1' sent embeddings of norm") == 1
    assert "exchange 4: client 'm0'" not in log
    console = Console(width=200, record=True, file=io.StringIO())
    show(folder.path, None, folder.path, console)
    assert "client 'm1', since exchange 3" in console.export_text()
    print_summary(folder.load_summary(), console)
    assert "Faults" in console.export_text()
    run = read_run(folder.path)
    assert [fault.clients for fault in run.faults] == [("m1",)]
    folder.summary.unlink()
    assert read_run(folder.path).faults == run.faults


def test_an_edge_is_trained_again_once_its_values_are_good(run_folder: MakeFolder) -> None:
    def for_a_while(z: np.ndarray, past: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return -z if len(past) - 1 < START + 4 else z

    settings = settings_of()
    app = lying(for_a_while, start=START)
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    out = [t for t, edges in trained(folder).items() if ("m0", "m1") not in edges]
    assert out == list(range(START, START + 4))


def test_a_clean_run_says_nothing_and_costs_no_byte(run_folder: MakeFolder) -> None:
    settings = settings_of()
    run_inprocess(settings, folder := run_folder(settings))
    assert verdicts(folder) == []
    assert folder.load_summary().faults == ()


def test_with_one_edge_the_sender_is_named_and_the_run_goes_on(run_folder: MakeFolder) -> None:
    settings = settings_of(
        clients={"m0": {"dim": 10}, "m1": {"dim": 12}}, training={"exchanges": 8}
    )
    app = lying(ABSURD["3e38"], start=2)
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    (fault,) = folder.load_summary().faults
    assert (fault.where, fault.refused) == ("edge 'm1' -> 'm0'", 6)
    assert trained(folder)[5] == {("m1", "m0")}


@pytest.mark.slow
def test_a_resumed_run_judges_as_the_whole_one(
    run_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What receipts and watches have learnt is part of the state: same verdicts, same bits."""
    settings = settings_of()
    run_inprocess(
        settings, whole := run_folder(settings), client_app=lying(STRANGE["random"], start=START)
    )
    broken = run_folder(settings)
    app = lying(STRANGE["random"], start=START)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_at(28, patch)
        run_inprocess(settings, broken, client_app=app)
    run_inprocess(settings, broken, resume=True, client_app=app)
    one, other = whole.load_summary(), broken.load_summary()
    for client in ("m0", "m2"):
        assert one.weights_digest[client] == other.weights_digest[client]
    assert {(r.exchange, r.sender, r.check) for r in verdicts(whole) if r.event == "refused"} == {
        (r.exchange, r.sender, r.check) for r in verdicts(broken) if r.event == "refused"
    }


_SAID = pack_verdicts(
    [Verdict(sender="m0", event="refused", check="norm", value=0.5, bound=0, since=0)]
)
SLANDERS: dict[str, object] = {
    "no bytes": "m0 is bad",
    "no list": b"{}",
    "not text": b"\xff\xfe",
    "a stranger": pack_verdicts(
        [Verdict(sender="m9", event="refused", check="norm", value=1, bound=0, since=0)]
    ),
    "no number": _SAID.replace(b"0.5", b"NaN"),
    "far too many": b"[" + b"0," * 600_000 + b"0]",
    "deep": b"[" * 100_000,
    "an unknown word": _SAID.replace(b"refused", b"hanged"),
}


@pytest.mark.parametrize("name", SLANDERS)
def test_verdicts_that_are_none_do_not_end_the_run(name: str, run_folder: MakeFolder) -> None:
    def slander(message: Message, context: Context, exchange: int) -> Message:
        fields, frames = unpack(client_app(message, context))
        if exchange == 3:
            fields["verdicts"] = SLANDERS[name]  # type: ignore[assignment]
        return Message(pack(fields, frames), reply_to=message)

    settings = settings_of(training={"exchanges": 8})
    run_inprocess(settings, folder := run_folder(settings), client_app=misbehaving("m1", slander))
    absences = [(row.exchange, row.client, row.event) for row in folder.load_summary().absences]
    assert absences[0] == (3, "m1", "failed")
    assert {client for _, client, _ in absences} == {"m1"}
    assert verdicts(folder) == []


def test_verdicts_survive_the_wire() -> None:
    said = [
        Verdict(sender="ü", event="changed", check="rank", value=0.5, bound=0.1, since=7),
        Verdict(sender="m0", event="not stepped", check="loss", value=0, bound=0, since=9),
    ]
    assert list(read_verdicts(pack_verdicts(said))) == said
    assert json.loads(pack_verdicts([])) == []
    assert read_verdicts(None) == ()
