"""The flower engine: Flower's simulation runtime on Ray, through `flwr run` and a SuperLink of our own.

Flower's own managed SuperLink outlives the run and keeps its first environment, and `flwr run` exits with 0 whatever
became of the run. So this starts a private SuperLink on a free loopback port, with its home in a temporary folder,
believes the run's status and not an exit code, and ends every process that the run started, whichever way it went.
"""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.guardian import MARK, guarded
from sheafalign_fl.engines.inprocess import worker_count
from sheafalign_fl.engines.submission import submit, wait
from sheafalign_fl.flower.superlink import SuperLink, flower_environment, free_port, start_superlink
from sheafalign_fl.run.folder import RunFolder


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
        with guarded(environment[MARK]), _superlink(home, environment, folder) as address:
            link = SuperLink.at(address, home, None, environment)
            run_id = submit(settings, folder, link, resume=resume, options=_options(settings))
            wait(run_id, folder, link)


def _environment(home: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # The user's own encoders and data sets are importable in every worker from wherever they are here.
    own_code = os.pathsep.join(
        path for path in dict.fromkeys([str(Path.cwd()), *sys.path]) if path and Path(path).is_dir()
    )
    return flower_environment(environment) | {
        MARK: uuid.uuid4().hex,
        "FLWR_HOME": str(home / "flwr"),
        "RAY_TMPDIR": str(home / "ray"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": own_code,
    }


@contextmanager
def _superlink(home: Path, environment: dict[str, str], folder: RunFolder) -> Iterator[str]:
    """Start a private SuperLink and yield its address; its log is kept in the run folder."""
    port = free_port()
    (home / "flwr").mkdir()
    (home / "ray").mkdir()
    log = home / "superlink.log"
    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--disable-runtime-dependency-installation",
    ]
    try:
        start_superlink(command, "127.0.0.1", port, environment, log)
        yield f"127.0.0.1:{port}"
    finally:
        if log.exists():
            shutil.copy(log, folder.path / "flower.log")


def _options(settings: Settings) -> tuple[str, ...]:
    """Return the options of `flwr run` that say how large the simulation is and what each client may use."""
    resources, workers = settings.resources, worker_count(settings)
    federation = {
        "num-supernodes": len(settings.clients),
        "client-resources-num-cpus": resources.cpus,
        "client-resources-num-gpus": float(resources.gpus),
        "init-args-num-cpus": workers * resources.cpus,
    }
    if resources.gpus:
        federation["init-args-num-gpus"] = max(1, round(workers * resources.gpus))
    return "--federation-config", " ".join(f"{key}={value}" for key, value in federation.items())
