"""What a deployed federation puts on the wire and the relay's disk: all counted? readable?"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.config import parse_settings
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import read_ledger
from sheafalign_fl.runs.summary import Summary
from tests.system.command import ROOT
from tests.system.deployment import Deployment, deployment
from tests.system.namespaces import HEADERS, Machine, machines, permitted
from tests.system.poor_link import PoorLink
from tests.system.sniffer import Sniffer
from tests.toy import CANARY

pytestmark = pytest.mark.slow
CLIENTS = ["m0", "m1", "m2"]
CONTENT: dict[str, Any] = {
    "name": "wire",
    "data": {"source": "tests.toy:source"},
    "clients": {client: {"dim": 64} for client in CLIENTS},
    "graph": {"dim": 64},
    "training": {"exchanges": 40, "batch_size": 100, "setup_deadline": 60},
    "evaluation": {"every": 0, "metrics": ["retrieval"]},
    "checkpoint": {"every": 1},
    "security": {"sealed": True},
}

# ---- can the relay read it? ----------------------------------------------------------------------


def canary_content(*, sealed: bool) -> dict[str, Any]:
    """Two clients whose embeddings are a text that can be searched for."""
    client = {"encoder": "tests.toy:canary_encoder", "dim": 8}
    return {
        **CONTENT,
        "clients": {"m0": client, "m1": client},
        "graph": {"dim": 8},
        "maps": {"family": "identity"},
        "training": {"exchanges": 2, "batch_size": 16, "setup_deadline": 60},
        "security": {"sealed": sealed},
    }


def found_in(made: Deployment, captured: bytes) -> set[str]:
    """Return where the canary was found.

    Of the relay's database, all its logs and files, and the captured traffic.
    """
    here = made.folder
    places = {
        "database": here / "relay.db",
        "logs": here / "relay-state",
        "run folder": here / "run",
    }
    found = {"traffic"} if CANARY in captured else set()
    for place, path in places.items():
        files = (
            [path.parent / f"{path.name}{end}" for end in ("", "-wal", "-shm")]
            if path.suffix
            else path.rglob("*")
        )
        if any(CANARY in file.read_bytes() for file in files if file.is_file()):
            found.add(place)
    return found


@pytest.mark.parametrize(("secure", "expected"), [(False, {"database", "traffic"}), (True, set())])
def test_the_relay_and_the_wire_hold_no_embedding_that_can_be_read(
    secure: bool, expected: set[str], tmp_path: Path
) -> None:
    """The same search finds the canary where edges are not sealed, so it would where they are."""
    assert np.isfinite(np.frombuffer(CANARY, dtype="<f4")).all()
    with deployment(tmp_path / "here", ["m0", "m1"], secure=secure) as made:
        made.database = made.folder / "relay.db"
        try:
            sniffer = Sniffer(made.port)
        except OSError as error:
            pytest.skip(f"packets cannot be captured here: {error}")
        with sniffer:
            made.relay()
            made.nodes()
            made.run(canary_content(sealed=secure))
            assert made.wait("run") == 0, made.printed("run")
        assert len(sniffer.captured) > 20_000
        assert found_in(made, bytes(sniffer.captured)) == expected


# ---- is everything counted? ----------------------------------------------------------------------


class Apart(Deployment):
    """A deployment whose relay and nodes are in network namespaces."""

    def __init__(self, folder: Path, relay: Machine, nodes: dict[str, Machine]) -> None:
        super().__init__(folder, list(nodes))
        self._relay, self._nodes = relay, nodes
        addresses = [
            word for machine in nodes.values() for word in ("--host", machine.relay_address)
        ]
        done = self.command("keys", "init", "apart", "--clients", ",".join(nodes), *addresses)
        assert done.returncode == 0, done.stderr

    @property
    def trust(self) -> list[str]:
        return ["--keys", "apart"]

    def start(self, name: str, *words: str) -> Any:
        machine = self._nodes.get(name, self._relay)
        if name in self._nodes:
            words = tuple(word.replace("127.0.0.1", machine.relay_address) for word in words)
        if name == "relay":
            words = (*words, "--host", "0.0.0.0")
        return self.start_with(machine.prefix(), name, *words)

    def handshake_bytes(self) -> dict[str, int]:
        """Return what one TLS handshake with the relay takes, measured."""
        command = [sys.executable, "-m", "tests.system.tls_handshake", "127.0.0.1", str(self.port)]
        done = subprocess.run(
            [*self._relay.prefix(), *command, str(self.folder / "apart" / "relay" / "ca.crt")],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        counts: dict[str, int] = json.loads(done.stdout)
        return counts


@contextmanager
def apart(folder: Path) -> Iterator[tuple[Apart, dict[str, Machine]]]:
    """Yield a deployment in network namespaces; skip the test where there can be none."""
    if (reason := permitted()) is not None:
        pytest.skip(reason)
    with machines(CLIENTS) as (relay, nodes):
        made = Apart(folder, relay, nodes)
        try:
            yield made, nodes
        finally:
            made.close()


def ledger_bytes(folder: RunFolder, client: str) -> dict[str, int]:
    """Return the ledger's relay bytes that cross the link of `client`, up and down."""
    up = down = 0
    for row in read_ledger(folder.ledger):
        if row.source == client:
            up += row.message_bytes
        if row.destination == client:
            down += (
                row.relay_bytes - row.message_bytes if row.source in CLIENTS else row.message_bytes
            )
    return {"up": up, "down": down}


TLS_RECORD = 22
"""Header 5, type 1, tag 16 (RFC 8446)."""


def reconciled(
    machine: Machine,
    traffic: dict[str, int],
    ledger: dict[str, int],
    handshake: dict[str, int],
    way: str,
) -> dict[str, float]:
    """Return one line of the table: every part, their sum, and what the kernel counted."""
    counters = machine.counters()[("up", "down").index(way)]
    parts = {
        "ledger": ledger[way],
        "HTTP and protobuf of messages": traffic[f"messages {way}"] - ledger[way],
        "polling": traffic.get(f"polling {way}", 0),
        "heartbeats": traffic.get(f"heartbeats {way}", 0),
        "connecting": traffic.get(f"setup {way}", 0),
        "TLS records": TLS_RECORD * traffic[f"records {way}"],
        "TLS handshakes": handshake[way] * traffic["connections"],
        "TCP, IP, Ethernet": HEADERS * counters.packets,
    }
    return {**parts, "sum": sum(parts.values()), "kernel": counters.bytes}


def test_the_ledger_s_bytes_are_those_of_the_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each node's interface has carried what the ledger and named extras say, within 1 %."""
    with apart(tmp_path / "here") as (made, nodes):
        made.relay()
        made.nodes()
        folder = made.run(CONTENT)
        assert made.wait("run") == 0, made.printed("run")
        handshake = made.handshake_bytes()
        for client in CLIENTS:
            made.kill(client, 15)
        table = {}
        for client, machine in nodes.items():
            traffic = json.loads((made.folder / "state" / client / "traffic.json").read_text())
            ledger = ledger_bytes(folder, client)
            for way in ("up", "down"):
                table[f"{client} {way}"] = line = reconciled(
                    machine, traffic, ledger, handshake, way
                )
                assert line["HTTP and protobuf of messages"] > 0
        with capsys.disabled():
            _print(table)
        for name, line in table.items():
            assert abs(line["sum"] - line["kernel"]) <= 0.01 * line["kernel"], (name, line)


def _print(table: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(table.values())))
    print()
    for column in columns:
        print(f"{column:32}", *(f"{line[column]:>12,.0f}" for line in table.values()))
    print(
        f"{'difference, %':32}",
        *(f"{100 * (line['sum'] / line['kernel'] - 1):>12.2f}" for line in table.values()),
    )
    print(f"{'':32}", *(f"{name:>12}" for name in table))


def test_a_slow_and_lossy_link_costs_time_and_nothing_else(tmp_path: Path) -> None:
    content = {**CONTENT, "training": {**CONTENT["training"], "exchanges": 8}}
    with apart(tmp_path / "here") as (made, nodes):
        if (
            reason := nodes["m1"].shape("delay", "20ms", "loss", "2%", "rate", "4mbit")
        ) is not None:
            pytest.skip(f"tc netem is not there: {reason}")
        made.relay()
        made.nodes()
        made.run(content, "poor")
        assert made.wait("poor") == 0, made.printed("poor")
        poor = RunFolder(made.folder / "poor").load_summary()
        assert poor.weights_digest == undisturbed(content, tmp_path).weights_digest
        assert not poor.absences


def test_a_slow_line_that_breaks_off_all_the_time_costs_time_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Requests, answers and parts of messages are lost half-way; they are asked for again.

    No bit differs.
    """
    # The relay waits a minute for the rest of an answer that was cut off, before it asks again.
    training = {**CONTENT["training"], "exchanges": 12, "setup_deadline": 300}
    content = {**CONTENT, "training": training}
    with deployment(tmp_path / "here", CLIENTS) as made:
        made.relay()
        with PoorLink(made.port, delay=0.002, rate=4e6, cut_after=150_000) as line:
            made.node("m0")
            made.node("m2")
            good, made.address = made.address, f"127.0.0.1:{line.port}"
            made.node("m1")
            made.address = good
            made.run(content, "poor")
            assert made.wait("poor") == 0, made.printed("poor")
            assert line.cuts >= 5
    poor = RunFolder(made.folder / "poor").load_summary()
    assert poor.weights_digest == undisturbed(content, tmp_path).weights_digest


def undisturbed(content: dict[str, Any], folder: Path) -> Summary:
    """Return the result of the same federation in one process, without seals."""
    settings = parse_settings({**content, "engine": "inprocess", "security": {"sealed": False}})
    there = RunFolder(folder / "undisturbed")
    there.create(settings)
    run_inprocess(settings, there)
    return there.load_summary()
