"""A configuration from the wire that names code, or a file, or more than the owner allows."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.config.policy import Limits, Policy
from sheafalign_fl.deploy.briefing import RUNS
from sheafalign_fl.errors import ConfigError, ProtocolError, SheafAlignError, UserError
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.verbs import DESCRIBE
from sheafalign_fl.runs.folder import RunFolder
from tests.attack.deployment import ALLOWED, Client, deployed, policy_of, run_on_relay
from tests.toy import source

TINY = {"exchanges": 2, "batch_size": 16, "setup_deadline": 30.0}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the relay's folder of runs."""
    folder = tmp_path / "relay" / "runs"
    monkeypatch.setenv(RUNS, str(folder))
    return folder


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Lay a module into the current folder that leaves a mark when imported; return the mark."""
    mark = tmp_path / "mark"
    (tmp_path / "laid_trap.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
        "def build(*arguments, **options):\n    raise SystemExit\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield mark
    sys.modules.pop("laid_trap", None)


def shell(folder: Path) -> Settings:
    """Return settings whose data source is a shell and whose modality is a command."""
    command = {"modality": "touch mark"}
    options = {"shell": True, "cwd": str(folder)}
    return deployed(
        clients={"m0": command, "m1": command},
        data={"source": "subprocess:Popen", "options": options},
        training=TINY,
    )


# ---- code ------------------------------------------------------------------------------------


def test_a_data_source_is_no_shell_for_whoever_submits_a_run(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(SheafAlignError, match="'subprocess:Popen' is not among the code"):
        run_on_relay(shell(tmp_path), "run", tmp_path)
    assert not (tmp_path / "mark").exists()


def test_a_node_refuses_it_from_a_relay_too(tmp_path: Path) -> None:
    told = Client(shell(tmp_path), tmp_path / "state").refusal(DESCRIBE)
    assert "--allow subprocess:Popen" in told
    assert not (tmp_path / "mark").exists()


NAMING: dict[str, dict[str, Any]] = {
    "data source": {"data": {"source": "laid_trap:build"}},
    "encoder": {"clients": {"m0": {"encoder": "laid_trap:build"}, "m1": {}}},
    "another client's encoder": {"clients": {"m0": {}, "m1": {"encoder": "laid_trap:build"}}},
    "codec": {"codec": "laid_trap:build"},
    "topology": {"graph": {"topology": "laid_trap:build"}},
    "maps": {"maps": {"family": "laid_trap:build"}},
    "optimiser": {"training": {**TINY, "optimiser": "laid_trap:build"}},
    "contrast": {
        "graph": {"topology": "complete", "dim": 10},
        "maps": {"family": "identity"},
        "objective": {"contrast": "laid_trap:build"},
    },
}


@pytest.mark.parametrize("axis", NAMING)
def test_nothing_that_a_configuration_names_is_imported(
    axis: str, tmp_path: Path, trap: Path
) -> None:
    """Whatever the setting, and although the module lies in the node's current folder."""
    before = list(sys.path)
    node = policy_of(ALLOWED)
    told = Client(deployed(**NAMING[axis]), tmp_path / "state", **node).refusal(DESCRIBE)
    assert "'laid_trap:build' is not among the code" in told
    assert not trap.exists()
    assert "laid_trap" not in sys.modules
    assert sys.path == before


@pytest.mark.parametrize("axis", ["codec", "topology"])
def test_nor_by_the_relay(axis: str, tmp_path: Path, trap: Path, runs: Path) -> None:
    with pytest.raises(ConfigError, match="'laid_trap:build' is not among the code"):
        run_on_relay(deployed(**NAMING[axis]), "run", tmp_path)
    assert not trap.exists()


def test_nor_is_what_a_frame_names(trap: Path) -> None:
    z = np.zeros((4, 3), dtype=np.float32)
    honest = Frame.of("train", 0, "m1", "m0", "float32", z)
    forged = Frame(**{**honest.__dict__, "codec": "laid_trap:build"})
    with pytest.raises(ProtocolError, match="unknown codec"):
        Frame.unpack(forged.pack())
    assert not trap.exists()


def test_what_the_owner_allows_runs(tmp_path: Path, runs: Path) -> None:
    run_on_relay(deployed(training=TINY), "run", tmp_path)
    assert RunFolder(runs / "run").load_summary().exchanges == 2
    with pytest.raises(SheafAlignError, match=r"'tests\.toy:source' is not among the code"):
        run_on_relay(deployed(training=TINY), "other", tmp_path, Policy())


# ---- files -----------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.yaml"
    path.write_text("name: hunter2 is the password\n", encoding="utf-8")
    return path


def test_a_configuration_is_no_way_to_read_a_file(secret: Path, tmp_path: Path, runs: Path) -> None:
    told = Client(str(secret), tmp_path / "state").refusal(DESCRIBE)
    with pytest.raises(ConfigError) as caught:
        run_on_relay(str(secret), "run", tmp_path)
    for text in (told, str(caught.value)):
        assert "hunter2" not in text
        assert "must be encoded" in text


@pytest.mark.parametrize("name", ["{tmp}/outside", "../../outside", "a/../../../outside", ".", "~"])
def test_a_run_lies_in_the_relay_s_own_folder(name: str, tmp_path: Path, runs: Path) -> None:
    with pytest.raises(UserError, match="cannot name a run"):
        run_on_relay(deployed(training=TINY), name.format(tmp=tmp_path), tmp_path)
    assert not list(tmp_path.rglob("outside"))
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_run_does_not_overwrite_another(tmp_path: Path, runs: Path) -> None:
    run_on_relay(deployed(training=TINY), "run", tmp_path)
    before = (runs / "run" / "ledger.csv").read_bytes()
    with pytest.raises(UserError, match="has a run 'run' already"):
        run_on_relay(deployed(training={**TINY, "exchanges": 1}), "run", tmp_path)
    assert (runs / "run" / "ledger.csv").read_bytes() == before


def recordings(folder: Path) -> Path:
    folder.mkdir()
    data = source("m0", seed=0)
    np.savez(folder / "m0.npz", x=data.x, event_id=data.event_ids, split=data.split)
    return folder


def test_a_node_reads_no_folder_that_a_configuration_names(tmp_path: Path) -> None:
    private = recordings(tmp_path / "private")
    content = deployed(data={"source": "folder", "options": {"path": str(private)}})
    assert "start it with --data" in Client(content, tmp_path / "state").refusal(DESCRIBE)
    own = recordings(tmp_path / "own")
    answer, _ = Client(content, tmp_path / "state", data=str(own)).ask(DESCRIBE)
    assert "manifest" in answer
    (private / "m0.npz").rename(private / "m9.npz")
    leaving = deployed(
        clients={"m0": {"modality": "../private/m9"}, "m1": {}}, data={"source": "folder"}
    )
    told = Client(leaving, tmp_path / "state", data=str(own)).refusal(DESCRIBE)
    assert "must not lead out of a folder" in told


def test_a_node_reads_no_features_that_a_configuration_names(tmp_path: Path) -> None:
    private = recordings(tmp_path / "private") / "m0.npz"
    content = deployed(clients={"m0": {"features": str(private)}, "m1": {}})
    node = policy_of(ALLOWED)
    told = Client(content, tmp_path / "state", **node).refusal(DESCRIBE)
    assert "clients.m0.features is set" in told


# ---- amounts ---------------------------------------------------------------------------------

ASKING: dict[str, dict[str, Any]] = {
    "training.learning_rate": {"training": {"learning_rate": 1e9}},
    "training.exchanges": {"training": {"exchanges": 2**31 - 1}},
    "training: exchanges x (batches x local_steps + replay)": {"training": {"local_steps": 10**12}},
    "training: exchanges x (batches": {"training": {"replay": 10**12}},
    "training: replay_batches x batch_size": {"training": {"replay_batches": 10**12}},
    "objective.variance": {"objective": {"variance": 1e9}},
    "objective.covariance": {"objective": {"covariance": 1e9}},
    "objective.procrustes": {"objective": {"procrustes": 1e9}},
    "training: batches x batch_size": {"training": {"batches": 10**5, "exchanges": 1}},
    "clients.m0.dim": {"clients": {"m0": {"dim": 10**9}, "m1": {}}},
    "graph.dim": {"graph": {"dim": 10**9}},
    "graph.edges": {
        "graph": {"topology": "edges", "edges": [{"between": ["m0", "m1"], "dim": 10**9}]}
    },
    "clients.m0.encoder_options": {
        "clients": {"m0": {"encoder_options": {"hidden": 10**9}}, "m1": {}}
    },
    "data.options": {"data": {"source": "scenes", "options": {"events": 10**400}}},
    "clients": {"clients": [f"c{index}" for index in range(1001)]},
    "objective.laplacian": {"objective": {"laplacian": 1e30}},
    "objective.temperature": {"objective": {"temperature": 1e-30}},
    "evaluation.events": {"evaluation": {"events": 10**12}},
    "resources.threads": {"resources": {"threads": 10**6}},
    "checkpoint.keep": {"checkpoint": {"keep": 10**9}},
}


@pytest.mark.parametrize("setting", ASKING)
def test_a_node_does_no_more_than_its_policy_allows(setting: str, tmp_path: Path) -> None:
    told = Client(deployed(**ASKING[setting]), tmp_path, **policy_of(ALLOWED)).refusal(DESCRIBE)
    assert told.startswith(setting)
    assert "policy allows" in told


def test_an_encoder_larger_than_allowed_is_not_made(tmp_path: Path) -> None:
    small = Policy(allow=ALLOWED.allow, limits=Limits(parameters=1000))
    told = Client(deployed(), tmp_path, **policy_of(small)).refusal(DESCRIBE)
    assert "this machine's policy allows 1000" in told


def test_limits_are_the_owner_s_and_not_the_simulation_s(tmp_path: Path) -> None:
    wild = deployed(training={"learning_rate": 50.0})
    wide = Policy(allow=ALLOWED.allow, limits=Limits(learning_rate=100.0))
    answer, _ = Client(wild, tmp_path, **policy_of(wide)).ask(DESCRIBE)
    assert "manifest" in answer
    assert parse_settings(json.loads(wild.model_dump_json())) == wild
