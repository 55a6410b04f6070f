"""Deployed federations: real relay, real nodes, TLS, sealed edges, killed and cut off at will."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.config import load_settings, parse_settings
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.protocol.frame import SEAL_BYTES
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import read_ledger
from sheafalign_fl.runs.summary import Summary
from sheafalign_fl.shares.model import load_model
from sheafalign_fl.shares.share import load_share
from tests.system.command import ROOT, free_port
from tests.system.deployment import ALLOWED, Deployment, deployment, last_exchange, quiet
from tests.toy import source

pytestmark = pytest.mark.slow
CLIENTS = ["m0", "m1", "m2"]
EXCHANGES = 24
CONTENT: dict[str, Any] = {
    "name": "toy",
    "data": {"source": "tests.toy:source"},
    "clients": {client: {"dim": 8} for client in CLIENTS},
    "graph": {"dim": 4},
    "training": {"exchanges": EXCHANGES, "batch_size": 32, "setup_deadline": 60},
    "evaluation": {"every": 12, "metrics": ["retrieval", "transfer"]},
    "checkpoint": {"every": 1},
    "security": {"sealed": True},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same federation in one process, without seals."""
    settings = parse_settings({**CONTENT, "engine": "inprocess", "security": {"sealed": False}})
    folder = RunFolder(tmp_path_factory.mktemp("inprocess") / "run")
    folder.create(settings)
    run_inprocess(settings, folder)
    return folder


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A relay with three nodes, which the tests below share."""
    with deployment(tmp_path_factory.mktemp("deployed") / "here", CLIENTS) as made:
        made.relay()
        made.nodes()
        yield made


def finished(made: Deployment, name: str) -> Summary:
    """Wait for a run to end well and return its result."""
    assert made.wait(name) == 0, made.printed(name)[-2000:]
    return RunFolder(made.folder / name).load_summary()


def same_weights(one: Summary, folder: RunFolder) -> bool:
    return one.weights_digest == folder.load_summary().weights_digest


def test_it_ends_in_the_simulation_s_bits_quality_and_payload(
    deployed: Deployment, undisturbed: RunFolder
) -> None:
    folder = deployed.run(CONTENT, "whole")
    got, expected = finished(deployed, "whole"), undisturbed.load_summary()
    assert same_weights(got, undisturbed)
    assert got.quality == expected.quality
    ours, theirs = (
        [row for row in read_ledger(path.ledger) if row.payload_bytes]
        for path in (folder, undisturbed)
    )
    key = [
        (row.exchange, row.source, row.destination, row.purpose, row.payload_bytes) for row in ours
    ]
    assert sorted(key) == sorted(
        (row.exchange, row.source, row.destination, row.purpose, row.payload_bytes)
        for row in theirs
    )
    # A seal is framing of 28 bytes. The rest of the difference is Flower's envelope, divided over a
    # message's frames: ids of runs and nodes with 19 digits instead of one, and the field with the
    # times.
    for row, plain in zip(sorted(ours, key=str), sorted(theirs, key=str), strict=True):
        assert SEAL_BYTES <= row.message_bytes - plain.message_bytes <= SEAL_BYTES + 120
    assert (folder.path / "report.html").is_file()


def test_a_run_starts_from_what_each_node_has_kept(
    deployed: Deployment, undisturbed: RunFolder
) -> None:
    """The run named `whole`, by that name alone: no weight comes from the relay."""
    clients = {**CONTENT["clients"], "m1": {"dim": 8, "freeze": True}}
    content = {
        **CONTENT,
        "clients": clients,
        "training": {**CONTENT["training"], "exchanges": 6},
        "evaluation": {**CONTENT["evaluation"], "every": 2},
        "checkpoint": {"every": 1, "keep": 1, "best": "R@10"},
    }
    deployed.run(content, "more", "--init-from", "elsewhere/whole")
    got = finished(deployed, "more")
    local = {
        **content, "engine": "inprocess", "security": {"sealed": False},
        "init_from": str(undisturbed.path),
    }  # fmt: skip
    folder = RunFolder(deployed.folder / "local")
    folder.create(parse_settings(local))
    run_inprocess(folder.settings(), folder)
    assert same_weights(got, folder)
    assert got.weights_digest["m1"] == undisturbed.load_summary().weights_digest["m1"]
    assert [client.start for client in got.clients] == ["whole, 24 exchanges"] * 3
    assert got.best == folder.load_summary().best
    assert got.best is not None
    states = deployed.folder / "state"
    for client in CLIENTS:
        assert list(states.glob(f"{client}/*/checkpoints/{got.best.exchange:06d}/{client}.*"))


def test_every_exchange_says_where_its_time_went(deployed: Deployment) -> None:
    folder = RunFolder(deployed.folder / "whole")
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    exchanges = [row for row in rows if row["kind"] == "exchange"]
    assert len(exchanges) == EXCHANGES
    for row in exchanges:
        assert sorted(part["client"] for part in row["timing"]) == CLIENTS
        for part in row["timing"]:
            spent = sum(part[name] for name in ("compute", "encode", "save", "wire", "wait"))
            assert 0 < spent <= row["seconds"] + 0.05
    log = [
        json.loads(line)
        for line in (deployed.folder / "state" / "m0" / "node.log").read_text().splitlines()
    ]
    assert {"run", "client", "exchange"} <= set(log[-1])


def test_status_shows_nodes_clients_and_bytes(deployed: Deployment) -> None:
    done = deployed.command(
        "status", "whole", "--relay", deployed.address, *deployed.trust, "--state", "relay-state"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{EXCHANGES} of {EXCHANGES} exchanges" in done.stdout
    assert all(len(re.findall(rf"\b{client}\b", done.stdout)) >= 2 for client in CLIENTS)
    assert "online" in done.stdout


def test_a_node_that_is_killed_and_started_again_changes_no_bit(
    deployed: Deployment, undisturbed: RunFolder
) -> None:
    folder = deployed.run(CONTENT, "killed")
    for exchange, client in ((5, "m1"), (14, "m0"), (20, "m1")):
        deployed.until_exchange(folder, exchange, "killed")
        deployed.kill(client)
        deployed.node(client)
    assert same_weights(finished(deployed, "killed"), undisturbed)


def test_a_relay_that_is_killed_and_started_again_changes_no_bit(
    deployed: Deployment, undisturbed: RunFolder
) -> None:
    folder = deployed.run(CONTENT, "cut")
    deployed.until_exchange(folder, 8, "cut")
    deployed.kill("relay")
    assert deployed.wait("cut") == 1
    assert "SuperLink is gone" in deployed.printed("cut")
    deployed.relay()
    deployed.resume("cut")
    summary = finished(deployed, "cut")
    assert same_weights(summary, undisturbed)
    assert summary.resumed == 1


def test_a_stopped_node_is_left_out_and_comes_back(deployed: Deployment) -> None:
    content = {**CONTENT, "training": {**CONTENT["training"], "deadline": 3.0}}
    folder = deployed.run(content, "stopped")
    deployed.until_exchange(folder, 4, "stopped")
    deployed.kill("m2", signal.SIGSTOP)
    stopped_at = last_exchange(folder)
    deployed.until_exchange(folder, stopped_at + 4, "stopped")
    deployed.kill("m2", signal.SIGCONT)
    summary = finished(deployed, "stopped")
    events = [(row.client, row.event) for row in summary.absences]
    assert ("m2", "late") in events
    assert ("m2", "returned") in events
    assert {client for client, _ in events} == {"m2"}


def test_ctrl_c_ends_a_run_and_it_is_resumed(deployed: Deployment, undisturbed: RunFolder) -> None:
    folder = deployed.run(CONTENT, "interrupted")
    deployed.until_exchange(folder, 5, "interrupted")
    deployed.processes["interrupted"].send_signal(signal.SIGTERM)
    assert deployed.wait("interrupted") == 130
    assert f"--resume interrupted --relay {deployed.address}" in deployed.printed("interrupted")
    deployed.resume("interrupted")
    assert same_weights(finished(deployed, "interrupted"), undisturbed)


def test_a_node_whose_client_nobody_configured_is_left_alone(deployed: Deployment) -> None:
    content = {**CONTENT, "clients": {"m0": {"dim": 8}, "m1": {"dim": 8}}}
    deployed.run({**content, "training": {**CONTENT["training"], "exchanges": 2}}, "two")
    assert {client.name for client in finished(deployed, "two").clients} == {"m0", "m1"}


def test_a_client_that_nobody_runs_is_named_after_the_deadline(deployed: Deployment) -> None:
    content = {**CONTENT, "clients": {**CONTENT["clients"], "m3": {"dim": 8}}}
    deployed.run({**content, "training": {**CONTENT["training"], "setup_deadline": 4}}, "missing")
    assert deployed.wait("missing") == 2
    assert "nobody runs m3" in deployed.printed("missing")


def test_where_fewer_will_do_a_run_begins_without_a_node_that_nobody_starts(
    deployed: Deployment, undisturbed: RunFolder
) -> None:
    """The three that are there take the steps of a federation that never heard of the fourth."""
    content = {**CONTENT, "clients": {**CONTENT["clients"], "m3": {"dim": 8}}}
    training = {**CONTENT["training"], "setup_deadline": 15, "min_clients": 3}
    deployed.run({**content, "training": training}, "fewer")
    summary = finished(deployed, "fewer")
    assert same_weights(summary, undisturbed)
    (absence,) = summary.absences
    assert (absence.client, absence.exchange) == ("m3", 0)
    assert "no node runs it" in absence.reason


def test_an_unsealed_run_is_refused_by_nodes_with_keys(deployed: Deployment) -> None:
    deployed.run({**CONTENT, "security": {"sealed": False}}, "unsealed")
    assert deployed.wait("unsealed") == 2
    assert "takes part in sealed runs only" in deployed.printed("unsealed")


def test_wrong_keys_and_second_claims_are_refused(deployed: Deployment, tmp_path: Path) -> None:
    with deployment(tmp_path / "other", CLIENTS) as other:  # keys of another authority
        strange = ["--relay", deployed.address, "--state", "strange", "--patience", "5"]
        done = other.command("node", "m0", *strange, "--keys", "keys")
        assert done.returncode == 2
        assert "is not to be trusted" in done.stderr
        mixed = other.folder / "mixed"
        shutil.copytree(other.folder / "keys" / "clients" / "m0", mixed)
        shutil.copy(deployed.folder / "keys" / "relay" / "ca.crt", mixed / "ca.crt")
        other.start(
            "mixed", "node", "m0", *strange, "--keys", "mixed"
        )  # both are given a while to be let in
        again = ["node", "m0", "--relay", deployed.address, *deployed.trust]
        done = deployed.command(*again, "--state", "second")
        assert done.returncode == 2
        assert "another node with it is connected" in done.stderr
        assert other.wait("mixed") == 2
        assert "its key is not one that the relay was started with" in other.printed("mixed")
    done = deployed.command(*again, "--state", "state/m0")
    assert done.returncode == 2
    assert "another node is at work in" in done.stderr
    assert "Failed to activate" in done.stderr or "activate-node" in (
        deployed.folder / "relay-state" / "superlink.log"
    ).read_text(errors="replace")


def test_a_key_of_one_client_does_not_speak_for_another(deployed: Deployment) -> None:
    """Two machines whose names were exchanged, while each has its own key."""
    keys = deployed.folder / "exchanged"
    shutil.copytree(deployed.folder / "keys" / "clients" / "m0", keys)
    for name in ("node.key", "node.pub"):
        shutil.copy(deployed.folder / "keys" / "clients" / "m2" / name, keys / name)
    deployed.kill("m0", signal.SIGTERM)
    deployed.kill("m2", signal.SIGTERM)
    words = [
        "node",
        "m0",
        "--relay",
        deployed.address,
        "--keys",
        "exchanged",
        "--state",
        "state/liar",
        *ALLOWED,
    ]
    deployed.start("liar", *words)
    deployed.until(lambda: "connected to" in deployed.printed("liar"), "liar")
    deployed.node("m0")
    deployed.run(CONTENT, "lied")
    assert deployed.wait("lied") == 2
    assert "but its key is that of client 'm2'; it is refused" in deployed.printed("lied")
    deployed.until(lambda: "the relay refuses run" in deployed.printed("liar"), "liar")
    deployed.kill("liar", signal.SIGTERM)
    deployed.node("m2")


def test_flower_s_own_supernode_ends_in_the_same_bits(
    deployed: Deployment, undisturbed: RunFolder
) -> None:
    """The command that `--show` prints, for one of the clients; each message takes it seconds."""
    shown = deployed.command(
        "node",
        "m1",
        "--relay",
        deployed.address,
        *deployed.trust,
        "--state",
        "plain",
        "--show",
        *ALLOWED,
    )
    few = {"every": 0, "metrics": ["retrieval"]}
    content = {**CONTENT, "training": {**CONTENT["training"], "exchanges": 1}, "evaluation": few}
    deployed.run(content, "ours")
    expected = finished(deployed, "ours")
    deployed.kill("m1", signal.SIGTERM)
    plain = _start_plain(deployed, shown.stdout)
    try:
        deployed.run(content, "plain")
        assert finished(deployed, "plain").weights_digest == expected.weights_digest
    finally:
        os.killpg(plain, signal.SIGTERM)
        deployed.node("m1")


def test_the_deployment_that_readme_shows_works(tmp_path: Path) -> None:
    """experiments/deploy.yaml, as it stands but for its length."""
    settings = load_settings(ROOT / "experiments" / "deploy.yaml")
    with deployment(tmp_path / "here", list(settings.clients)) as made:
        made.relay()
        made.nodes()
        words = ["run", str(ROOT / "experiments" / "deploy.yaml"), "--set", "training.exchanges=4"]
        made.start("run", *words, "--relay", made.address, *made.trust, "--out", "run")
        summary = finished(made, "run")
        assert summary.engine == "deployed"
        assert {client.name for client in summary.clients} == set(settings.clients)
        assert not summary.absences


def test_every_node_reads_its_own_folder(tmp_path: Path) -> None:
    """A machine holds its own recordings only; one that lacks its modality is named."""
    folders = {client: tmp_path / client for client in ("m0", "m1")}
    for client, folder in folders.items():
        folder.mkdir()
        data = source(client, seed=0)
        np.savez(folder / f"{client}.npz", x=data.x, event_id=data.event_ids, split=data.split)
    clients = {client: {"dim": 8} for client in folders}
    content = {
        **CONTENT, "clients": clients, "data": {"source": "folder", "options": {"path": "nowhere"}},
        "training": {"exchanges": 2, "batch_size": 16, "setup_deadline": 60},
        "evaluation": {"every": 0, "metrics": ["retrieval"]},
    }  # fmt: skip
    with deployment(tmp_path / "here", list(folders)) as made:
        made.relay()
        for client, folder in folders.items():
            made.node(client, "--data", str(folder))
        made.run(content, "own")
        assert [client.events["train"] for client in finished(made, "own").clients] == [200, 200]
        _check_shares(made.folder)
        made.kill("m1", signal.SIGTERM)
        made.node("m1", "--data", str(folders["m0"]))
        made.run(content, "wrong")
        assert made.wait("wrong") == 2
        assert "client 'm1' cannot go on" in made.printed("wrong")
        own = f"{folders['m0']} has no m1.npz; it has m0"  # told to its owner, not to the relay
        made.until(lambda: own in " ".join(made.printed("m1").split()), "m1")
        done = made.command("status", "own", "--watch")
        assert done.returncode == 0
        assert "2 of 2 exchanges" in done.stdout


def _check_shares(folder: Path) -> None:
    """Every node has its own share, which works alone, and nobody has another's."""
    found = {path.parent for path in folder.rglob("share.json")}
    shares = {
        client: next((folder / "state" / client).glob(f"*/shares/{client}"))
        for client in ("m0", "m1")
    }
    assert found == set(shares.values())
    x = source("m1", seed=0).x[:50]
    z = load_share(shares["m1"]).compare("m0", x)
    assert load_model(shares["m0"]).impute("m0", {"m1": z}).values.shape == (50, 8)


def _start_plain(deployed: Deployment, command: str) -> int:
    words = shlex.split(command)
    words[0] = str(Path(sys.executable).parent / words[0])
    environment = quiet() | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    environment["FLWR_HOME"] = str(deployed.folder / "plain-home")
    environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] = "1"
    with (deployed.folder / "plain-node.out").open("wb") as output:
        process = subprocess.Popen(
            [*words, "--port", str(free_port())],
            cwd=deployed.folder, env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    deployed.until(
        lambda: "SuperNode ID" in (deployed.folder / "plain-node.out").read_text(), "plain-node"
    )
    return process.pid
