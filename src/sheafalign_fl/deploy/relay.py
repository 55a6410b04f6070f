"""The relay: a SuperLink behind doors of its own, which knows the key of every client.

Its state is in memory: nothing that passes through it is left on its disk, and an exchange takes
half as long as with a database (measured). What a run needs to go on after the relay was killed is
in the run folder and on the clients' disks.
"""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sheafalign_fl.config.policy import STRICT, Policy
from sheafalign_fl.deploy.briefing import POLICY, RUNS, VARIABLE
from sheafalign_fl.deploy.keys import RelayKeys
from sheafalign_fl.deploy.logs import rotated
from sheafalign_fl.deploy.members import is_own_host
from sheafalign_fl.engines.guardian import MARK, guarded
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import private_folder
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.local_socket import SOCKET
from sheafalign_fl.flower.superlink import (
    flower_environment,
    private_socket,
    start_superlink,
)


@dataclass(frozen=True)
class RelaySettings:
    """What a relay is started with."""

    address: Address
    """Where it listens."""
    keys: RelayKeys | None
    """None: insecure."""
    state_dir: Path
    database: Path | None = None
    """Keep Flower's state in this SQLite file; None: in memory."""
    runs: Path = Path("runs")
    """The folder that all run folders lie in; a run names one in it, and no other."""
    policy: Policy = STRICT
    """What a configuration may ask of this machine."""
    monitoring: Address | None = None
    """Where /metrics and /health are answered."""

    @property
    def registered(self) -> Path:
        """Where it is written which node is which client."""
        return self.state_dir / "registered.json"

    def words(self) -> list[str]:
        """Return Python's arguments for the process that the relay is."""
        words = ["-m", "sheafalign_fl.deploy.relay_process", "--host", self.address.host]
        words += ["--port", str(self.address.port), "--registered", str(self.registered)]
        if self.keys is not None:
            words += ["--keys", str(self.keys.folder)]
        if self.database is not None:
            words += ["--database", str(self.database.resolve())]
        if self.monitoring is not None:
            words += ["--metrics", str(self.monitoring)]
        return words

    def command(self) -> list[str]:
        """Return the command that the relay is."""
        return [sys.executable, *self.words()]


@contextmanager
def relay(settings: RelaySettings) -> Iterator[subprocess.Popen[bytes]]:
    """Run a relay while the block runs; yield its SuperLink's process once it listens.

    It listens when all clients' keys are registered, so a node that comes early waits for it as
    for a relay that is not there yet.

    Raises
    ------
    UserError
        The port is taken, the host is not one of this machine's, or one that others can reach while
        the relay is insecure.
    RunError
        The SuperLink does not start.
    """
    if settings.keys is None:
        _check_loopback(settings.address.host)
    settings.address.check_free()
    state = settings.state_dir
    private_folder(state, "the relay's state folder")
    settings.registered.unlink(missing_ok=True)
    here = settings.address.reachable()
    environment = flower_environment(None, here.host) | {
        MARK: uuid.uuid4().hex,
        "FLWR_HOME": str(state / "flwr"),
    }
    environment[RUNS] = str(settings.runs.resolve())
    environment[POLICY] = settings.policy.to_text()
    if settings.keys is not None:
        environment[VARIABLE] = str(settings.registered)
    log = state / "superlink.log"
    with private_socket() as path, guarded(environment[MARK]), rotated(log):
        environment[SOCKET] = str(path)
        yield start_superlink(settings.words(), environment, log, here.answers)


def _check_loopback(host: str) -> None:
    if not is_own_host(host):
        raise UserError(
            f"--insecure is for trials on one machine, and {host} can be reached from others; make "
            "keys with `sheafalign keys init` and give --keys DIR"
        )
