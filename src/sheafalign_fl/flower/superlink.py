"""Flower's own programs: starting a SuperLink as a process, and what they need around them."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sheafalign_fl.errors import RunError

_STARTUP_SECONDS = 60.0
_POLL_SECONDS = 0.05
_LONGEST_FOLDER = 80


@contextmanager
def private_socket() -> Iterator[Path]:
    """Yield a path for a SuperLink's socket, in a folder that its owner alone can enter.

    The path is short, wherever temporary files lie: a Unix socket's may have 107 bytes.
    """
    with tempfile.TemporaryDirectory(prefix="sheafalign-", ignore_cleanup_errors=True) as name:
        if len(os.fsencode(name)) < _LONGEST_FOLDER:
            yield Path(name) / "superlink"
            return
    with tempfile.TemporaryDirectory(prefix="sheafalign-", dir="/tmp") as name:
        yield Path(name) / "superlink"


def start_superlink(
    words: Sequence[str], environment: Mapping[str, str], log: Path, ready: Callable[[], bool]
) -> "subprocess.Popen[bytes]":
    """Start a SuperLink and wait until it is ready.

    Parameters
    ----------
    words
        Python's arguments: the module that it is, and that one's arguments.
    environment
        Its whole environment.
    log
        File for all that it prints, appended; it works in that file's folder.
    ready
        Whether it is.

    Raises
    ------
    RunError
        It ends before it is ready, or is not in a minute; the message holds the end of its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *words], env=dict(environment), cwd=log.parent, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    limit = time.monotonic() + _STARTUP_SECONDS
    while process.poll() is None and time.monotonic() < limit:
        if ready():
            return process
        time.sleep(_POLL_SECONDS)
    tail = " ".join(log.read_text(errors="replace").split())[-500:]
    raise RunError(f"the SuperLink did not start: {tail}")


def listens(host: str, port: int) -> bool:
    """Return whether somebody listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def socket_listens(path: Path) -> bool:
    """Return whether somebody listens at the Unix socket `path`."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(str(path)) == 0


def flower_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment for Flower's programs: quiet, without downloads, and with this interpreter's programs."""
    base = dict(os.environ if environment is None else environment)
    return base | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", "")]),
    }


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
