"""The relay: a flower-superlink with TLS, which knows the key of every client.

Its state is in memory: nothing that passes through it is left on its disk, and an exchange takes half as long as with
a database (measured). What a run needs to go on after the relay was killed is in the run folder and on the clients'
disks.
"""

import logging
import socket
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sheafalign_fl.deploy.keys import RelayKeys
from sheafalign_fl.deploy.registry import VARIABLE, save_registered
from sheafalign_fl.engines.guardian import MARK, guarded
from sheafalign_fl.errors import RunError, UserError
from sheafalign_fl.flower.superlink import SuperLink, flower_environment, start_superlink

_log = logging.getLogger("sheafalign.relay")
_AT_ONCE = 4
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - recognised, never chosen


@dataclass(frozen=True)
class RelaySettings:
    """What a relay is started with."""

    host: str
    port: int
    keys: RelayKeys | None
    """None: insecure."""
    state_dir: Path
    database: Path | None = None
    """Keep Flower's state in this SQLite file; None: in memory."""

    def command(self) -> list[str]:
        """Return the flower-superlink command that the relay is."""
        words = [
            "flower-superlink",
            "--host",
            self.host,
            "--port",
            str(self.port),
            "--isolation",
            "subprocess",
        ]
        words += ["--disable-runtime-dependency-installation"]
        if self.database is not None:
            words += ["--database", str(self.database)]
        if self.keys is None:
            return [*words, "--insecure"]
        keys = self.keys
        words += ["--ssl-certfile", str(keys.certificate), "--ssl-keyfile", str(keys.key)]
        return [*words, "--ssl-ca-certfile", str(keys.ca), "--enable-supernode-auth"]


@contextmanager
def relay(settings: RelaySettings) -> Iterator[subprocess.Popen[bytes]]:
    """Run a relay while the block runs; yield its SuperLink's process once all clients' keys are registered.

    Raises
    ------
    UserError
        The port is taken, or the host is not one of this machine's.
    RunError
        flower-superlink does not start, or does not take a key.
    """
    _check_port(settings.host, settings.port)
    state = settings.state_dir
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    registered, log = state / "registered.json", state / "superlink.log"
    registered.unlink(missing_ok=True)
    environment = flower_environment() | {MARK: uuid.uuid4().hex, "FLWR_HOME": str(state / "flwr")}
    if settings.keys is not None:
        environment[VARIABLE] = str(registered)
    with guarded(environment[MARK]):
        host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
        process = start_superlink(settings.command(), host, settings.port, environment, log)
        if settings.keys is not None:
            link = SuperLink.at(
                f"{host}:{settings.port}", state / "control", settings.keys.ca, environment
            )
            save_registered(registered, _register(settings.keys, link))
        yield process


def _register(keys: RelayKeys, link: SuperLink) -> dict[str, int]:
    """Make the clients' keys known to the SuperLink, a few at a time; return client -> node id."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ids = pool.map(lambda client: _register_one(client, keys, link), keys.clients)
        nodes = dict(zip(keys.clients, ids, strict=True))
    for client, node in nodes.items():
        _log.info("client '%s' may connect (node %d)", client, node)
    return nodes


def _register_one(client: str, keys: RelayKeys, link: SuperLink) -> int:
    answer = link.flwr("supernode", "register", str(keys.clients[client].resolve()))
    if not answer.get("success"):
        told = " ".join(str(answer.get("error-message")).split())[-300:]
        raise RunError(f"the key of client '{client}' was not registered: {told}")
    return int(answer["node-id"])


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"the relay cannot listen on {host}:{port}: {error.strerror}; give another --port"
            ) from None
