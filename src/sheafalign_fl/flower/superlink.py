"""Flower's own programs: starting a SuperLink as a process, and what they need around them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sheafalign_fl.errors import RunError
from sheafalign_fl.flower.proxies import direct_environment
from sheafalign_fl.flower.sockets import socket_folder

_STARTUP_SECONDS = 60.0
_POLL_SECONDS = 0.05
_SOCKET = "superlink"


@contextmanager
def private_socket() -> Iterator[Path]:
    """Yield a path for a SuperLink's socket, in a folder that its owner alone can enter.

    The path is short, wherever temporary files lie: a Unix socket's may have 107 bytes.
    """
    with socket_folder(_SOCKET, "the SuperLink") as folder:
        yield folder / _SOCKET


def start_superlink(
    words: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    ready: Callable[[], bool],
    home: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a SuperLink and wait until it is ready.

    Parameters
    ----------
    words
        Python's arguments: the module that it is, and that one's arguments.
    environment
        Its whole environment.
    log
        File for all that it prints, appended.
    ready
        Whether it is.
    home
        The folder that it works in; default: that of `log`.

    Raises
    ------
    RunError
        It ends before it is ready, or is not in a minute; the message holds the end of its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *words], env=dict(environment), cwd=home or log.parent,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    limit = time.monotonic() + _STARTUP_SECONDS
    while process.poll() is None and time.monotonic() < limit:
        if ready():
            return process
        time.sleep(_POLL_SECONDS)
    tail = " ".join(log.read_text(errors="replace").split())[-500:]
    raise RunError(f"the SuperLink did not start: {tail}")


def socket_listens(path: Path) -> bool:
    """Return whether somebody listens at the Unix socket `path`."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(str(path)) == 0


def flower_environment(environment: Mapping[str, str] | None = None, *hosts: str) -> dict[str, str]:
    """Return an environment for Flower's programs: quiet, without downloads.

    Programs are this interpreter's. This machine and `hosts` are reached without a proxy.
    """
    base = direct_environment(os.environ if environment is None else environment, *hosts)
    return base | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", "")]),
    }
