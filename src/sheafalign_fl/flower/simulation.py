"""The flower engine: Flower's simulation runtime on Ray, through `flwr run` and a SuperLink of our own.

Flower's own managed SuperLink outlives the run and keeps its first environment, and `flwr run` exits with 0 whatever
became of the run. So this starts a private SuperLink on a free loopback port, with its home in a temporary folder,
believes the run's status and not an exit code, and ends every process that the run started, whichever way it went.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sheafalign_fl.config import Settings, encode
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.flower.app_folder import make_app_folder
from sheafalign_fl.flower.guardian import MARK, guarded
from sheafalign_fl.flower.inprocess import worker_count
from sheafalign_fl.run.folder import RunFolder

_STARTUP_SECONDS = 60.0
_STATUS_SECONDS = {"new": 5.0, "running": 30.0}
"""Pauses between two questions to Flower, each of which costs a process; an end in the run folder is seen at once."""
_POLL_SECONDS = 0.2
_CONNECTION = "simulation"


def run_simulation(settings: Settings, folder: RunFolder, *, resume: bool = False) -> None:
    """Run a federation to its end in Flower's simulation runtime.

    Parameters
    ----------
    settings
        What to run.
    folder
        A created run folder; Flower's own log is kept in it as ``flower.log``.
    resume
        Go on from the folder's last checkpoint.

    Raises
    ------
    SheafAlignError
        The run failed; the message and the exit code are those of the first error in the federation.
    """
    with tempfile.TemporaryDirectory(prefix="sheafalign-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        environment = _environment(home)
        with guarded(environment[MARK]), _superlink(home, environment, folder):
            run_id = _submit(settings, folder, home, environment, resume=resume)
            _wait(run_id, folder, environment)


def _environment(home: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # The user's own encoders and data sets are importable in every worker from wherever they are here.
    own_code = os.pathsep.join(
        path for path in dict.fromkeys([str(Path.cwd()), *sys.path]) if path and Path(path).is_dir()
    )
    return environment | {
        MARK: uuid.uuid4().hex,
        "FLWR_HOME": str(home / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_TMPDIR": str(home / "ray"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": own_code,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")]),
    }


@contextmanager
def _superlink(home: Path, environment: dict[str, str], folder: RunFolder) -> Iterator[None]:
    """Start a private SuperLink; its log is kept in the run folder."""
    port = _free_port()
    (home / "flwr").mkdir()
    (home / "ray").mkdir()
    (home / "flwr" / "config.toml").write_text(
        f'[superlink]\ndefault = "{_CONNECTION}"\n\n'
        f'[superlink.{_CONNECTION}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n',
        encoding="ascii",
    )
    log = home / "superlink.log"
    command = [_program("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        _wait_for_port(port, process, log)
        yield
    finally:
        if log.exists():
            shutil.copy(log, folder.path / "flower.log")


def _submit(settings: Settings, folder: RunFolder, home: Path, environment: dict[str, str], *, resume: bool) -> str:
    """Submit the run and return its id."""
    app = make_app_folder(home / "app")
    run_config = home / "run.toml"
    run_config.write_text(
        f"config = {json.dumps(encode(settings))}\n"
        f"run-dir = {json.dumps(str(folder.path.resolve()))}\n"
        f"resume = {'true' if resume else 'false'}\n",
        encoding="utf-8",
    )
    resources, workers = settings.resources, worker_count(settings)
    federation = {
        "num-supernodes": len(settings.clients),
        "client-resources-num-cpus": resources.cpus,
        "client-resources-num-gpus": float(resources.gpus),
        "init-args-num-cpus": workers * resources.cpus,
    }
    if resources.gpus:
        federation["init-args-num-gpus"] = max(1, round(workers * resources.gpus))
    command = [_program("flwr"), "run", str(app), _CONNECTION, "--format", "json", "--run-config", str(run_config)]
    command += ["--federation-config", " ".join(f"{key}={value}" for key, value in federation.items())]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    answer = _json_in(done.stdout)
    if not answer.get("success"):
        raise RunError(f"flwr run failed: {' '.join((done.stdout + done.stderr).split())[-500:]}")
    return str(answer["run-id"])


def _wait(run_id: str, folder: RunFolder, environment: dict[str, str]) -> None:
    """Wait until the run has ended; raise if it did not end well, by its own account and by Flower's."""
    checked = time.monotonic()
    flower = ""
    while not flower.startswith("finished"):
        time.sleep(_POLL_SECONDS)
        pause = _STATUS_SECONDS.get(folder.status()["state"], 0.0)
        if time.monotonic() - checked >= pause:
            flower, details = _flower_status(run_id, environment)
            checked = time.monotonic()
    status = folder.status()
    if status["state"] == "failed":
        error = SheafAlignError(status["reason"])
        error.exit_code = int(status.get("exit_code", 1))
        raise error
    if flower != "finished:completed" or status["state"] != "completed":
        raise RunError(f"Flower says that the run is {flower} ({details or 'no reason given'}); see flower.log")


def _flower_status(run_id: str, environment: dict[str, str]) -> tuple[str, str]:
    """Return Flower's status of the run, such as "finished:failed", and its reason."""
    command = [_program("flwr"), "list", _CONNECTION, "--run-id", run_id, "--format", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    runs = _json_in(done.stdout).get("runs", [])
    if not runs:
        raise RunError(f"the SuperLink is gone: {' '.join((done.stdout + done.stderr).split())[-300:]}")
    return str(runs[0]["status"]), str(runs[0].get("details", ""))


def _json_in(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`, which Flower may have put notes before; empty if there is none."""
    start = text.find("{")
    try:
        found: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else {}
    except json.JSONDecodeError:
        return {}
    return found


def _program(name: str) -> str:
    """Return the path of a program that was installed with this interpreter."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    if (found := shutil.which(name)) is None:
        raise RunError(f"the program '{name}' is not installed; install flwr[simulation]")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    limit = time.monotonic() + _STARTUP_SECONDS
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(_POLL_SECONDS)
    tail = " ".join(log.read_text(errors="replace").split())[-500:]
    raise RunError(f"flower-superlink did not start: {tail}")
