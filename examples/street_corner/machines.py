"""The sensors' machines: each has its own share, head, key and token, and serves them."""

import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from numpy.typing import NDArray

import sheafalign_fl as sf
from sheafalign_fl.data.base import SPLITS, Split
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.deploy.certificates import Authority

CLIENTS = ("camera", "lidar", "radar", "beam")
LABEL = "blockage"
_DAYS = 7
_START_SECONDS = 180.0


@dataclass(frozen=True)
class Recordings:
    """What all four sensors saw, row k of all the same event."""

    x: Mapping[str, NDArray[np.float32]]
    label: NDArray[np.int64]
    split: NDArray[np.uint8]

    @classmethod
    def of(cls, events: int) -> "Recordings":
        """Return the events of the built-in scenes that no sensor has missed."""
        data = {
            name: load_modality("scenes", name, 0, {"events": events}, name) for name in CLIENTS
        }
        first, *others = data.values()
        common = first.event_ids
        for other in others:
            common = np.intersect1d(common, other.event_ids)
        rows = {name: np.searchsorted(own.event_ids, common) for name, own in data.items()}
        x = {name: own.x[rows[name]] for name, own in data.items()}
        chosen = rows[CLIENTS[0]]
        return cls(x, first.labels[LABEL][chosen], first.split[chosen])

    def rows(self, split: Split) -> NDArray[np.intp]:
        """Return the rows of a split."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def of_split(self, client: str, split: Split) -> NDArray[np.float32]:
        """Return a client's events of a split."""
        return self.x[client][self.rows(split)]


@dataclass(frozen=True)
class Address:
    """What a caller has to know of a service."""

    url: str
    token: str


@dataclass(frozen=True)
class Service:
    """A service that runs."""

    address: Address
    process: "subprocess.Popen[bytes]"
    start_seconds: float


def train(out: Path, events: int, exchanges: int) -> Path:
    """Train the four sensors on the built-in scenes; return the run folder."""
    settings = {
        "name": "corner",
        "engine": "inprocess",
        "data": {"source": "scenes", "options": {"events": events}},
        "clients": list(CLIENTS),
        "training": {"exchanges": exchanges, "batch_size": 128},
        "evaluation": {"label": LABEL, "every": 0, "metrics": ["retrieval"]},
    }
    return sf.run(settings, out / "run").path


def equip(out: Path, run: Path, recordings: Recordings) -> dict[str, Path]:
    """Give every sensor a machine, that is a folder, with what is its own; return all of them.

    Each head is fitted where the share is, on the sensor's own events: no share meets another one.
    """
    authority = Authority.new()
    (out / "ca.crt").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    machines = {}
    for name in CLIENTS:
        machine = machines[name] = out / "machines" / name
        machine.mkdir(parents=True)
        shutil.copytree(run / "shares" / name, machine / "share")
        own = sf.load_model(machine / "share")
        labels = recordings.label[recordings.rows("train")]
        own.fit_head(labels, {name: recordings.of_split(name, "train")}).save(machine / "head")
        np.savez(machine / "gallery.npz", x=recordings.of_split(name, "test"))
        _secret(machine / "token", secrets.token_urlsafe(24).encode())
        key = ec.generate_private_key(ec.SECP256R1())
        _secret(
            machine / "service.key",
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )
        signed = authority.sign_relay(key.public_key(), [], _DAYS)
        (machine / "service.crt").write_bytes(signed.public_bytes(Encoding.PEM))
    return machines


def _secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def trusting(out: Path) -> ssl.SSLContext:
    """Return what recognises the services' certificates."""
    return ssl.create_default_context(cafile=str(out / "ca.crt"))


@contextmanager
def serving(out: Path, machines: Sequence[tuple[str, Path]]) -> Iterator[dict[str, Service]]:
    """Run one service for each (its name, a machine's folder), each in a process of its own."""
    begun = time.monotonic()
    with ExitStack() as stack:
        started = {}
        for name, machine in machines:
            port = _free_port()
            address = Address(f"https://localhost:{port}", (machine / "token").read_text())
            log = stack.enter_context((out / f"{name}.log").open("wb"))
            process = subprocess.Popen(_command(machine, port), stdout=log, stderr=log)
            stack.callback(_end, process)
            started[name] = address, process
        yield {
            name: Service(address, process, _ready(address, process, trusting(out), begun))
            for name, (address, process) in started.items()
        }


def _command(machine: Path, port: int) -> list[str]:
    program = str(Path(sys.executable).parent / "sheafalign")
    words: dict[str, Any] = {
        "client": machine.name, "host": "localhost", "port": port,
        "head": machine / "head", "gallery": machine / "gallery.npz",
        "token-file": machine / "token", "certificate": machine / "service.crt",
        "key": machine / "service.key",
    }  # fmt: skip
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    return [program, "serve", str(machine / "share"), *options]


def _ready(
    address: Address, process: "subprocess.Popen[bytes]", trust: ssl.SSLContext, begun: float
) -> float:
    """Wait until a service answers; return how long that took since `begun`."""
    with httpx.Client(verify=trust, trust_env=False) as client:
        while time.monotonic() < begun + _START_SECONDS and process.poll() is None:
            try:
                client.get(f"{address.url}/health").raise_for_status()
                return time.monotonic() - begun
            except httpx.TransportError:
                time.sleep(0.1)
    raise RuntimeError(f"the service at {address.url} does not answer; see its log")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
