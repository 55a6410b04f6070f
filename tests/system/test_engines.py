"""Real runs, real command: Flower's simulation on Ray, kills, resumption, no process left over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from sheafalign_fl.config import encode, load_settings
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.ledger import read_ledger
from tests.system.command import ROOT, TAG, environment, sheafalign, start

pytestmark = pytest.mark.slow

SETTINGS = {
    "name": "engines",
    "data": {"source": "scenes", "options": {"events": 800}},
    "clients": {
        "camera": {
            "dim": 40
        },  # convolutions, layer norms and dropout: whatever could differ between two engines
        "beam": {"dim": 32},
        "gps": {"dim": 24, "encoder": "tests.toy:dropout_encoder"},
    },
    "graph": {"topology": "complete", "dim": 16},
    "training": {"exchanges": 20, "batch_size": 32},
    "evaluation": {"every": 10},
    "checkpoint": {"every": 10},
}


def write(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({**SETTINGS, **changes}), encoding="utf-8")
    return path


def flower_processes() -> list[str]:
    names = []
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            if "SHEAFALIGN_RUN_MARK" in environ and environ.get(TAG) == str(os.getpid()):
                names.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        except psutil.Error:
            continue
    return names


OPTIONS = {
    "codec": "int8",
    "objective": {"learnable_temperature": True},
    "training": {
        "exchanges": 20,
        "batch_size": 32,
        "stale": True,
        "error_feedback": True,
        "local_steps": 2,
        "replay": 3,
        "replay_batches": 2,
    },
    "evaluation": {"every": 10, "refine": "cca"},
}
"""What adds to a client's state, which in a simulation travels from worker to worker."""


@pytest.mark.parametrize("changes", [{}, OPTIONS], ids=["default", "options"])
def test_flower_and_inprocess_end_in_the_same_bits_and_bytes(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    config = write(tmp_path / "experiment.yaml", **changes)
    for engine in ("flower", "inprocess"):
        done = sheafalign("run", str(config), "--engine", engine, "--out", str(tmp_path / engine))
        assert done.returncode == 0, done.stderr
        assert "report:" in done.stdout
    flower, inprocess = (RunFolder(tmp_path / engine) for engine in ("flower", "inprocess"))
    one, other = flower.load_summary(), inprocess.load_summary()
    assert one.engine == "flower"
    assert one.weights_digest == other.weights_digest
    assert set(one.weights_digest) == {"camera", "beam", "gps"}
    assert one.quality == other.quality
    rows = [
        sorted(
            (r.exchange, r.source, r.destination, r.payload_bytes)
            for r in read_ledger(f.ledger)
            if r.purpose == "train" and r.payload_bytes
        )
        for f in (flower, inprocess)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 20 * 6
    assert flower.report.is_file()
    assert flower_processes() == []


def test_a_failure_in_flower_is_told_in_one_line(tmp_path: Path) -> None:
    """`flwr run` exits with 0 when its ServerApp raised; this command does not."""
    exploding = {"beam": {"encoder": "tests.toy:Exploding"}, "gps": {}}
    config = write(tmp_path / "experiment.yaml", clients=exploding)
    done = sheafalign("run", str(config), "--out", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "no edge could be trained" in done.stderr
    assert "Traceback" not in done.stderr
    assert RunFolder(tmp_path / "run").status()["state"] == "failed"
    assert flower_processes() == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_killed_run_is_resumed_to_the_same_bits(how: signal.Signals, tmp_path: Path) -> None:
    config = write(tmp_path / "experiment.yaml", training={"exchanges": 300, "batch_size": 32})
    whole = sheafalign(
        "run", str(config), "--engine", "inprocess", "--out", str(tmp_path / "whole")
    )
    assert whole.returncode == 0, whole.stderr
    folder = RunFolder(tmp_path / "broken")
    process = start("run", str(config), "--engine", "inprocess", "--out", str(folder.path))
    wait_for_exchange(folder, 60, process)
    process.send_signal(how)
    process.wait(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -9)
    assert not folder.summary.exists()
    assert folder.status()["state"] == ("interrupted" if how == signal.SIGINT else "running")
    resumed = sheafalign("run", "--resume", str(folder.path))
    assert resumed.returncode == 0, resumed.stderr
    one, other = RunFolder(tmp_path / "whole").load_summary(), folder.load_summary()
    assert one.weights_digest == other.weights_digest
    assert one.quality == other.quality


def test_ctrl_c_ends_flower_and_every_process_of_it(tmp_path: Path) -> None:
    config = write(tmp_path / "experiment.yaml", training={"exchanges": 5000, "batch_size": 32})
    folder = RunFolder(tmp_path / "run")
    process = start("run", str(config), "--out", str(folder.path))
    wait_for_exchange(folder, 12, process)
    assert flower_processes()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 130
    assert (
        f"sheafalign run --resume {folder.path}" in errors.replace("\n", " ").replace("  ", " ")
        or "--resume" in errors
    )
    assert flower_processes() == []
    assert folder.report.is_file()
    assert folder.last_checkpoint() is not None


def test_a_late_client_in_flower_is_left_out_and_comes_back(tmp_path: Path) -> None:
    dawdling = {"count": str(tmp_path / "count"), "nth": 12, "seconds": 6.0}
    config = write(
        tmp_path / "experiment.yaml",
        clients={
            "camera": {"dim": 40}, "beam": {"dim": 32},
            "gps": {"dim": 24, "encoder": "tests.toy:Dawdling", "encoder_options": dawdling},
        },
        training={"exchanges": 150, "batch_size": 32, "deadline": 2.0, "replay": 1},
        evaluation={"every": 0, "metrics": ["retrieval"]},
    )  # fmt: skip
    done = sheafalign("run", str(config), "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    folder = RunFolder(tmp_path / "run")
    rows = [row for row in read_rows(folder.metrics) if row["kind"] == "exchange"]
    assert [row["exchange"] for row in rows] == list(range(150))  # the others never stopped
    gone = [row["exchange"] for row in rows if "gps" in row["absent"]]
    assert gone
    assert gone == list(range(gone[0], gone[-1] + 1))
    assert gone[-1] < 149
    events = [row.event for row in folder.load_summary().absences if row.client == "gps"]
    assert events == ["late", "stale", "returned"]
    assert "late" in folder.report.read_text(encoding="utf-8")


def test_flwr_run_in_the_repository_root_works(tmp_path: Path) -> None:
    """`flwr run .` with Flower's own managed SuperLink, in its own home; ended by process id."""
    home = tmp_path / "home"
    home.mkdir()
    mark = {"SHEAFALIGN_RUN_MARK": "flwr-run", "HOME": str(home), "FLWR_HOME": str(home / "flwr")}
    scripts = str(
        Path(sys.executable).parent
    )  # flwr looks for flower-superlink on PATH, as an activated venv has it
    mark["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    ports = {"FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": "39191", "FLWR_LOCAL_CONTROL_API_PORT": "39193"}
    env = {**environment(), **mark, **ports, "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1"}
    config = write(tmp_path / "experiment.yaml", engine="flower")
    sent = encode(load_settings(config))  # a path would have to lie in the app's folder
    command = [str(Path(sys.executable).parent / "flwr"), "run", ".", "--stream"]
    command += ["--federation-config", "num-supernodes=3", "--run-config", f'config="{sent}"']
    try:
        for _ in range(
            3
        ):  # Flower gives its own SuperLink 15 s to start, which a busy machine may not keep
            done = subprocess.run(
                command, cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT)},
                capture_output=True, text=True, timeout=240, check=False,
            )  # fmt: skip
            if "Failed to start local SuperLink" not in done.stdout + done.stderr:
                break
        assert (home / ".local/state/sheafalign/runs").is_dir(), (
            done.stdout[-2000:] + done.stderr[-2000:]
        )
        runs = list((home / ".local/state/sheafalign/runs").iterdir())
        assert len(runs) == 1, done.stdout[-2000:] + done.stderr[-2000:]
        assert RunFolder(runs[0]).load_summary().exchanges == 20
    finally:
        for process in psutil.process_iter():
            try:
                if process.environ().get("SHEAFALIGN_RUN_MARK") == "flwr-run":
                    process.kill()
            except psutil.Error:
                continue


def wait_for_exchange(folder: RunFolder, exchange: int, process: "subprocess.Popen[str]") -> None:
    """Wait until the run has recorded `exchange`; fail if it ends before."""
    while process.poll() is None:
        if folder.metrics.exists():
            lines = folder.metrics.read_text(encoding="utf-8").splitlines()
            if any(json.loads(line).get("exchange", -1) >= exchange for line in lines[:-1]):
                return
        time.sleep(0.02)
    raise AssertionError(f"the run ended before exchange {exchange}: {process.communicate()}")


def test_no_process_is_left_when_the_launcher_itself_is_killed(tmp_path: Path) -> None:
    """kill -9 of the launcher cannot be caught; what it started is found by its mark and ended."""
    config = write(tmp_path / "experiment.yaml", training={"exchanges": 5000, "batch_size": 32})
    folder = RunFolder(tmp_path / "run")
    process = start("run", str(config), "--out", str(folder.path))
    wait_for_exchange(folder, 3, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    deadline = time.monotonic() + 60
    while flower_processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert flower_processes() == []
