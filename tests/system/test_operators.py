"""Runs on a relay whose run folders are elsewhere: submitted, left, attended, fetched, stopped.

They are not the submitter's own folders.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheafalign_fl.runs.folder import RunFolder
from tests.system.deployment import Deployment, deployment

pytestmark = pytest.mark.slow
CLIENTS = ["m0", "m1"]
CONTENT: dict[str, Any] = {
    "name": "toy",
    "data": {"source": "tests.toy:source"},
    "clients": {client: {"dim": 8} for client in CLIENTS},
    "graph": {"dim": 4},
    "training": {"exchanges": 12, "batch_size": 32, "setup_deadline": 60},
    "evaluation": {"every": 0, "metrics": ["retrieval"]},
    "security": {"sealed": True},
}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A relay that keeps its runs in another folder than those who submit them."""
    with deployment(tmp_path_factory.mktemp("operators") / "here", CLIENTS) as made:
        made.relay()
        made.nodes()
        yield made


def submit(made: Deployment, name: str, content: dict[str, Any] = CONTENT) -> RunFolder:
    """Start a run as from another machine; return the submitter's folder of it."""
    made.run(content, name, "--out", f"far/{name}")
    return RunFolder(made.folder / "far" / name)


def at_relay(made: Deployment, *words: str) -> Any:
    return made.command(*words, "--relay", made.address, *made.trust)


def test_a_killed_submitter_leaves_the_run_alone_and_can_attach_again(deployed: Deployment) -> None:
    far = submit(deployed, "left")
    there = RunFolder(deployed.folder / "left")
    deployed.until_exchange(there, 2, "left")
    deployed.kill("m0", signal.SIGSTOP)  # so that it does not end meanwhile
    deployed.kill("left")
    assert there.status()["state"] == "running"
    again = at_relay(deployed, "run", "--resume", "far/left")
    assert again.returncode == 2
    assert "is at work in 'left'" in " ".join(again.stderr.split())
    assert far.status()["state"] != "failed"
    deployed.kill("m0", signal.SIGCONT)
    done = at_relay(deployed, "run", "--attach", "far/left")
    assert done.returncode == 0, done.stderr
    for name in ("summary.json", "report.html", "metrics.jsonl", "ledger.csv", "run.log"):
        assert (far.path / name).read_bytes() == (there.path / name).read_bytes()
    assert far.load_summary().exchanges == 12
    assert not (far.path / "checkpoints").exists()


def test_a_failure_elsewhere_has_its_reason_and_exit_code(deployed: Deployment) -> None:
    content = {**CONTENT, "clients": {**CONTENT["clients"], "m9": {"dim": 8}}}
    content["training"] = {**CONTENT["training"], "setup_deadline": 3}
    far = submit(deployed, "failed", content)
    assert deployed.wait("failed") == 2
    assert "nobody runs m9" in deployed.printed("failed")
    assert "nobody runs m9" in far.status()["reason"]


def test_runs_are_listed_fetched_and_stopped(deployed: Deployment) -> None:
    submit(deployed, "stopped", {**CONTENT, "training": {**CONTENT["training"], "exchanges": 5000}})
    deployed.until_exchange(RunFolder(deployed.folder / "stopped"), 1, "stopped")
    listed = at_relay(deployed, "runs", "list").stdout
    assert "stopped" in listed
    assert "running" in listed
    done = at_relay(deployed, "runs", "fetch", "stopped", "--out", "fetched")
    assert done.returncode == 0, done.stderr
    assert (deployed.folder / "fetched" / "metrics.jsonl").stat().st_size > 0
    assert at_relay(deployed, "runs", "stop", "stopped").returncode == 0
    assert deployed.wait("stopped") == 1
    assert "finished:stopped" in deployed.printed("stopped")
    assert at_relay(deployed, "runs", "fetch", "nobody").returncode == 2


def test_a_client_joins_a_running_relay_and_is_sealed_with_the_others(
    deployed: Deployment,
) -> None:
    done = deployed.command("keys", "add-client", "keys", "m2")
    assert done.returncode == 0, done.stderr
    registered = deployed.folder / "relay-state" / "registered.json"
    deployed.until(lambda: "m2" in json.loads(registered.read_text()), "relay")
    deployed.node("m2")
    content = {**CONTENT, "clients": {name: {"dim": 8} for name in (*CLIENTS, "m2")}}
    content["training"] = {**CONTENT["training"], "exchanges": 2}
    far = submit(deployed, "three", content)
    assert deployed.wait("three") == 0, deployed.printed("three")
    assert {client.name for client in far.load_summary().clients} == {"m0", "m1", "m2"}
    done = deployed.command("keys", "revoke", "keys", "m2")
    assert done.returncode == 0, done.stderr
    deployed.until(lambda: "m2" not in json.loads(registered.read_text()), "relay")
    deployed.until(lambda: "does not know this connection" in deployed.printed("m2"), "m2")
    deployed.kill("m2", signal.SIGTERM)


def test_another_machine_s_folder_is_no_path_on_the_relay(
    deployed: Deployment, tmp_path: Path
) -> None:
    done = deployed.command(
        "run",
        "left.yaml",
        "--relay",
        deployed.address,
        *deployed.trust,
        "--out",
        str(tmp_path / "a b"),
    )
    assert done.returncode == 2
    assert "cannot name a run on a relay" in " ".join(done.stderr.split())
