"""The flower engine: Flower's simulation runtime on Ray, with a SuperLink of our own.

Flower's own managed SuperLink outlives the run, keeps its first environment and takes runs from
every user of the machine. So this starts a private one, which listens at a Unix socket in a
temporary folder alone, and ends every process that the run started, whichever way it went.
"""

import os
import re
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
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.flower.control import Control
from sheafalign_fl.flower.local_socket import SOCKET
from sheafalign_fl.flower.sockets import socket_folder
from sheafalign_fl.flower.superlink import (
    flower_environment,
    private_socket,
    socket_listens,
    start_superlink,
)
from sheafalign_fl.runs.folder import RunFolder

_LOG = "flower.log"
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .+$", re.MULTILINE)
"""The last line of a traceback; the first of several is what the others followed from."""


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
        The run failed; the message and the exit code are those of the first error in the
        federation.
    """
    temporary = tempfile.TemporaryDirectory(prefix="sheafalign-", ignore_cleanup_errors=True)
    with temporary as name, socket_folder() as sockets:
        home = Path(name)
        environment = _environment(home, sockets)
        mark = environment[MARK]
        with guarded(mark, home, sockets), _superlink(home, environment, folder) as control:
            run_dir = str(folder.path.resolve())
            run_id = submit(
                settings, run_dir, control, resume=resume, simulation=_options(settings)
            )
            try:
                wait(run_id, folder, control)
            except SheafAlignError as error:
                printed = control.printed(run_id)  # what Ray said went to the SuperLink alone
                with (folder.path / _LOG).open("a", encoding="utf-8") as log:
                    log.write(f"\n---- what the run printed ----\n{printed}")
                raise _with_cause(error, printed, folder) from None


def _with_cause(error: SheafAlignError, printed: str, folder: RunFolder) -> SheafAlignError:
    """Return `error`, with what raised it, if the run itself did not come to say so."""
    if folder.status()["state"] == "failed" or not (causes := _RAISED.findall(printed)):
        return error
    return RunError(f"{error}: {causes[0]}")


def _environment(home: Path, sockets: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # The user's own encoders and data sets are importable in every worker from wherever they are
    # here.
    own_code = os.pathsep.join(
        path for path in dict.fromkeys([str(Path.cwd()), *sys.path]) if path and Path(path).is_dir()
    )
    return flower_environment(environment) | {
        MARK: uuid.uuid4().hex,
        "FLWR_HOME": str(home / "flwr"),
        "RAY_TMPDIR": str(sockets),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": own_code,
    }


@contextmanager
def _superlink(home: Path, environment: dict[str, str], folder: RunFolder) -> Iterator[Control]:
    """Start a private SuperLink and yield a connection to it; its log is kept in the run folder."""
    (home / "flwr").mkdir()
    with private_socket() as socket:
        start_superlink(
            ["-m", "sheafalign_fl.flower.superlink_process"],
            environment | {SOCKET: str(socket)},
            folder.path / _LOG,
            lambda: socket_listens(socket),
            home,
        )
        control = Control.through(socket)
        yield control
        control.close()


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
