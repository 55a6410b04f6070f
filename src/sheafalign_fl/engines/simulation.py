"""The flower engine: Flower's simulation runtime on Ray, through `flwr run` and a SuperLink of our own.

Flower's own managed SuperLink outlives the run and keeps its first environment, and `flwr run` exits with 0 whatever
became of the run. So this starts a private SuperLink on a free loopback port, with its home in a temporary folder,
believes the run's status and not an exit code, and ends every process that the run started, whichever way it went.
"""

import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.guardian import MARK, commands, guarded
from sheafalign_fl.engines.inprocess import worker_count
from sheafalign_fl.engines.sockets import socket_folder
from sheafalign_fl.engines.submission import submit, wait
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.superlink import SuperLink, flower_environment, free_port, start_superlink
from sheafalign_fl.runs.folder import RunFolder

_LOG = "flower.log"
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .+$", re.MULTILINE)
"""The last line of a traceback; the first of several is what the others followed from."""
_PROGRAM = "flwr-simulation"
_LOOK_SECONDS = 2.0
"""Looking at all processes takes some hundredths of a second."""


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
    temporary = tempfile.TemporaryDirectory(prefix="sheafalign-", ignore_cleanup_errors=True)
    with temporary as name, socket_folder() as sockets:
        home = Path(name)
        environment = _environment(home, sockets)
        mark = environment[MARK]
        with guarded(mark, home, sockets), _superlink(home, environment, folder) as address:
            link = SuperLink.at(address, home, None, environment)
            run_id = submit(settings, folder, link, resume=resume, options=_options(settings))
            try:
                wait(run_id, folder, link, ended=_Ended(mark))
            except SheafAlignError as error:
                printed = link.printed(run_id)  # what Ray said went to the SuperLink alone
                with (folder.path / _LOG).open("a", encoding="utf-8") as log:
                    log.write(f"\n---- what the run printed ----\n{printed}")
                raise _with_cause(error, printed, folder) from None


def _with_cause(error: SheafAlignError, printed: str, folder: RunFolder) -> SheafAlignError:
    """Return `error`, with what raised it, if the run itself did not come to say so."""
    if folder.status()["state"] == "failed" or not (causes := _RAISED.findall(printed)):
        return error
    return RunError(f"{error}: {causes[0]}")


class _Ended:
    """Says when the process that simulates has ended: Flower is asked for what became of it then."""

    def __init__(self, mark: str) -> None:
        self._mark, self._seen, self._looked = mark, False, 0.0

    def __call__(self) -> bool:
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        there = any(_PROGRAM in words for words in commands(self._mark))
        self._seen |= there
        return self._seen and not there


def _environment(home: Path, sockets: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # The user's own encoders and data sets are importable in every worker from wherever they are here.
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
def _superlink(home: Path, environment: dict[str, str], folder: RunFolder) -> Iterator[str]:
    """Start a private SuperLink and yield its address; its log is kept in the run folder."""
    address = Address("127.0.0.1", free_port())
    (home / "flwr").mkdir()
    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += [
        "--host",
        address.host,
        "--port",
        str(address.port),
        "--disable-runtime-dependency-installation",
    ]
    start_superlink(command, address, environment, folder.path / _LOG, home)
    yield str(address)


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
