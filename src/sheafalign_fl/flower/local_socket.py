"""How the relay's own processes reach their SuperLink: a Unix socket that nobody else can open."""

import os
from pathlib import Path

import httpx
from flwr.supercore.protobuf.client import ProtobufClient

SOCKET = "SHEAFALIGN_SUPERLINK_SOCKET"
"""Environment variable of the relay's processes: path of the socket."""
ADDRESS = "superlink"
"""What stands for host and port where Flower wants some."""


def speak_through_socket() -> None:
    """Let Flower's clients in this process speak through the socket that the environment names.

    Flower's clients know addresses of hosts only.
    """
    path = os.environ[SOCKET]
    original = ProtobufClient.__init__

    def initialised(self: ProtobufClient, *words: object, **named: object) -> None:
        original(self, *words, **named)  # type: ignore[arg-type]
        timeout = self._client.timeout
        self._client.close()
        self._client = socket_client(Path(path), timeout)

    ProtobufClient.__init__ = initialised  # type: ignore[method-assign]


def socket_client(path: Path, timeout: httpx.Timeout) -> httpx.Client:
    """Return an HTTP client whose every request goes through the socket at `path`."""
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(transport=transport, timeout=timeout, trust_env=False)
