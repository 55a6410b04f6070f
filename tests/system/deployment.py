"""A deployment on this machine: relay and nodes as processes, as the command line starts them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from sheafalign_fl.flower.address import Address
from sheafalign_fl.runs.folder import RunFolder, read_rows
from tests.system.command import ROOT, environment, free_port

Process = subprocess.Popen[bytes]
ALLOWED = (
    "--allow",
    "tests.toy:source",
    "--allow",
    "tests.toy:canary_encoder",
    "--allow",
    "tests.toy:dropout_encoder",
    "--allow",
    "tests.toy:Dawdling",
    "--allow",
    "tests.toy:Spoiling",
)
"""What the nodes' owner lets a configuration name."""
SECONDS = float(os.environ.get("SHEAFALIGN_TEST_PATIENCE", "150"))
"""Patience with everything; nothing here is a measurement."""


class Deployment:
    """Keys, a relay, nodes and runs under one folder."""

    def __init__(
        self, folder: Path, clients: Sequence[str], *, secure: bool = True, host: str = "127.0.0.1"
    ) -> None:
        """Make keys for `clients` in `folder`; the relay is to listen on `host`."""
        self.host = host
        self.folder, self.clients, self.secure = folder, list(clients), secure
        self.port = free_port()
        self.address = str(Address(host, self.port))
        self.processes: dict[str, Process] = {}
        self.prefixes: dict[str, list[str]] = {}
        """Process -> words before its command."""
        self.runs = "."
        """Where the relay keeps its runs."""
        self.database: Path | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if secure:
            self.command("keys", "init", "keys", "--clients", ",".join(clients))

    @property
    def trust(self) -> list[str]:
        """The options that say how the relay is trusted."""
        return ["--keys", "keys"] if self.secure else ["--insecure"]

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end in the deployment's folder."""
        return subprocess.run(
            [program(), *words],
            cwd=self.folder, env=quiet(), capture_output=True, text=True, timeout=SECONDS,
            check=False,
        )  # fmt: skip

    def start(self, name: str, *words: str) -> Process:
        """Start a command; what it prints goes to NAME.out."""
        return self.start_with(self.prefixes.get(name, []), name, *words)

    def start_with(self, prefix: Sequence[str], name: str, *words: str) -> Process:
        """Start a command with `prefix` before it."""
        with (self.folder / f"{name}.out").open("ab") as output:
            process = subprocess.Popen(
                [*prefix, program(), *words],
                cwd=self.folder, env=quiet(), stdin=subprocess.DEVNULL, stdout=output,
                stderr=output,
            )  # fmt: skip
        self.processes[name] = process
        return process

    def printed(self, name: str) -> str:
        """Return what process `name` printed."""
        path = self.folder / f"{name}.out"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def relay(self) -> None:
        """Start the relay and wait until it is ready."""
        (self.folder / "relay.out").unlink(missing_ok=True)
        more = [] if self.database is None else ["--database", str(self.database)]
        self.start(
            "relay",
            "relay",
            *self.trust,
            "--host",
            self.host,
            "--port",
            str(self.port),
            "--state",
            "relay-state",
            "--runs",
            self.runs,
            *more,
        )
        self.until(lambda: "is ready" in self.printed("relay"), "relay")

    def node(self, client: str, *more: str) -> None:
        """Start the node of `client` and wait until it is connected."""
        self._start_node(client, *more)
        self._connected(client)

    def nodes(self, *more: str) -> None:
        """Start all nodes."""
        for client in self.clients:
            self._start_node(client, *more)
        for client in self.clients:
            self._connected(client)

    def _start_node(self, client: str, *more: str) -> None:
        (self.folder / f"{client}.out").unlink(missing_ok=True)
        words = ["node", client, "--relay", self.address, *self.trust, "--state", f"state/{client}"]
        self.start(client, *words, *ALLOWED, *more)

    def _connected(self, client: str) -> None:
        self.until(lambda: "connected to" in self.printed(client), client)

    def run(self, content: dict[str, object], name: str = "run", *more: str) -> RunFolder:
        """Start a run; its command is the process `name`."""
        config = self.folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        self.start(
            name, "run", str(config), "--relay", self.address, *self.trust, "--out", name, *more
        )
        return RunFolder(self.folder / name)

    def resume(self, name: str) -> None:
        """Go on with the run `name`."""
        self.start(name, "run", "--resume", name, "--relay", self.address, *self.trust)

    def wait(self, name: str) -> int:
        """Wait for a process to end and return its exit code."""
        return self.processes.pop(name).wait(timeout=SECONDS)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal; a process that it ends is forgotten."""
        process = self.processes[name]
        process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.wait(timeout=SECONDS)
            del self.processes[name]

    def until(self, true: Callable[[], bool], name: str) -> None:
        """Wait until something is so; fail if process `name` ends before."""
        limit = time.monotonic() + SECONDS
        while not true():
            ended = name in self.processes and self.processes[name].poll() is not None
            assert not ended or true(), f"{name} has ended:\n{self.printed(name)[-2000:]}"
            assert time.monotonic() < limit, (
                f"waited too long for {name}:\n{self.printed(name)[-2000:]}"
            )
            time.sleep(0.05)

    def until_exchange(self, folder: RunFolder, exchange: int, name: str = "run") -> None:
        """Wait until the run has recorded `exchange`."""
        self.until(lambda: last_exchange(folder) >= exchange, name)

    def close(self) -> None:
        """End every process that was started."""
        for process in reversed(list(self.processes.values())):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()


@contextmanager
def deployment(
    folder: Path, clients: Sequence[str], *, secure: bool = True, host: str = "127.0.0.1"
) -> Iterator[Deployment]:
    """Yield a deployment, and end all of its processes."""
    deployed = Deployment(folder, clients, secure=secure, host=host)
    try:
        yield deployed
    finally:
        deployed.close()


def last_exchange(folder: RunFolder) -> int:
    """Return the last exchange that the run has recorded, -1 before the first."""
    if not folder.metrics.is_file():
        return -1
    return max(
        (row["exchange"] for row in read_rows(folder.metrics) if row["kind"] == "exchange"),
        default=-1,
    )


def program() -> str:
    """Return the path of the command line's program."""
    return str(Path(sys.executable).parent / "sheafalign")


def quiet() -> dict[str, str]:
    """Return an environment for processes: one thread each, the tests' own sources importable."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
