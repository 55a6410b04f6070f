"""The flower engine: Flower's simulation runtime on Ray, with a SuperLink of our own.

Flower's own managed SuperLink outlives the run, keeps its first environment and takes runs from every
user of the machine. So this starts a private one, which listens at a Unix socket in a temporary folder
alone, and ends every process that the run started, whichever way it went.
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
from sheafalign_fl.flower.control import Control
from sheafalign_fl.flower.local_socket import SOCKET
from sheafalign_fl.flower.superlink import (
    flower_environment,
    private_socket,
    socket_listens,
    start_superlink,
)
from sheafalign_fl.runs.folder import RunFolder


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
        with guarded(environment[MARK]), _superlink(home, environment, folder) as control:
            run_dir = str(folder.path.resolve())
            run_id = submit(
                settings, run_dir, control, resume=resume, simulation=_options(settings)
            )
            wait(run_id, folder, control)


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
def _superlink(home: Path, environment: dict[str, str], folder: RunFolder) -> Iterator[Control]:
    """Start a private SuperLink and yield a connection to it; its log is kept in the run folder."""
    (home / "flwr").mkdir()
    (home / "ray").mkdir()
    log = home / "superlink.log"
    with private_socket() as socket:
        try:
            start_superlink(
                ["-m", "sheafalign_fl.flower.superlink_process"],
                environment | {SOCKET: str(socket)},
                log,
                lambda: socket_listens(socket),
            )
            control = Control.through(socket)
            yield control
            control.close()
        finally:
            if log.exists():
                shutil.copy(log, folder.path / "flower.log")


def _options(settings: Settings) -> dict[str, float]:
    """Return Flower's settings of how large the simulation is and what each client may use."""
    resources, workers = settings.resources, worker_count(settings)
    federation: dict[str, float] = {
        "num_supernodes": len(settings.clients),
        "client_resources_num_cpus": resources.cpus,
        "client_resources_num_gpus": float(resources.gpus),
        "init_args_num_cpus": workers * resources.cpus,
    }
    if resources.gpus:
        federation["init_args_num_gpus"] = max(1, round(workers * resources.gpus))
    return federation
