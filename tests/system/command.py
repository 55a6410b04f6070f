"""Running the real command line as a user does: a process, an exit code, what it prints."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TAG = "SHEAFALIGN_TEST_PROCESS"
"""Environment variable of every process that this test process started, directly or not."""


def sheafalign(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run `sheafalign` with `arguments` and return what came of it."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "sheafalign"), *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def start(*arguments: str, cwd: Path = ROOT) -> "subprocess.Popen[str]":
    """Start `sheafalign` with `arguments`.

    Ctrl-C reaches it even where the tests themselves run in the background.
    """
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "sheafalign"), *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # No threads here; background jobs ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def environment() -> dict[str, str]:
    """Return an environment in which Flower keeps quiet and terminals are wide.

    Children are known by it.
    """
    return {
        **os.environ,
        TAG: str(os.getpid()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "COLUMNS": "120",
    }


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
