"""A node's connection to something that is no relay, or not the one that it was meant for."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sheafalign_fl.deploy.issuing import init_keys
from sheafalign_fl.deploy.keys import load_client_keys
from sheafalign_fl.flower.fleet import (
    Credentials,
    FleetConnection,
    NodeRefusedError,
    RelayUnreachableError,
)


def credentials(keys: Path) -> Credentials:
    own = load_client_keys(keys, "lidar")
    return Credentials(own.ca, own.load_node_key(), own.node_key)


def read_request(line: socket.socket) -> int:
    """Read one HTTP request whole and return its bytes: closing earlier resets the connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (more := line.recv(65536)):
            return len(received)
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [row for row in head.lower().split(b"\r\n") if row.startswith(b"content-length")]
    missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
    while missing > 0 and (more := line.recv(missing)):
        received, missing = received + more, missing - len(more)
    return len(received)


@contextmanager
def answering(context: ssl.SSLContext | None, answer: bytes) -> Iterator[str]:
    """Listen on the loopback address and say the same to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    link, _ = listening.accept()
                    with (
                        suppress(OSError),
                        link if context is None else context.wrap_socket(link, True) as line,
                    ):
                        if context is None:
                            line.recv(65536)  # a greeting of TLS, which is no request
                        else:
                            read_request(line)
                        line.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def tls(keys: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "relay" / "relay.crt", keys / "relay" / "relay.key")
    return context


def http(status: str, body: bytes = b"") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        + body
    )


def test_a_relay_without_tls_is_refused_by_a_node_with_keys(keys: Path) -> None:
    with (
        answering(None, http("200 OK")) as address,
        pytest.raises(NodeRefusedError, match="does not speak TLS"),
    ):
        FleetConnection(address, credentials(keys)).activate()


def test_a_relay_of_another_authority_is_refused(keys: Path, tmp_path: Path) -> None:
    init_keys(tmp_path / "other", ["camera", "lidar"], [])
    with (
        answering(tls(tmp_path / "other"), http("200 OK")) as address,
        pytest.raises(NodeRefusedError, match="is not to be trusted"),
    ):
        FleetConnection(address, credentials(keys)).activate()


def test_an_insecure_node_is_told_of_keys(keys: Path) -> None:
    with (
        answering(tls(keys), b"") as address,
        pytest.raises(RelayUnreachableError, match="with --keys only"),
    ):
        FleetConnection(address, None).activate()


@pytest.mark.parametrize(
    "status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"]
)
def test_a_relay_that_is_busy_may_be_back_in_a_moment(keys: Path, status: str) -> None:
    with (
        answering(tls(keys), http(status)) as address,
        pytest.raises(RelayUnreachableError, match=f"answers {status[:3]}"),
    ):
        FleetConnection(address, credentials(keys)).activate()


def test_nobody_at_the_address_is_said(keys: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    with pytest.raises(RelayUnreachableError, match=f"the relay at {address} cannot be reached"):
        FleetConnection(address, credentials(keys)).activate()


def test_every_byte_of_a_request_and_its_answer_is_metered(keys: Path, tmp_path: Path) -> None:
    """Against what the server's socket has seen."""
    seen: list[int] = []
    answer = http("401 Unauthorized", b"no")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            link, _ = listening.accept()
            seen.append(read_request(link))
            link.sendall(answer)
            link.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        connection = FleetConnection(f"127.0.0.1:{listening.getsockname()[1]}", None)
        with pytest.raises(Exception, match="no"):
            connection.activate()
        thread.join(5)
    connection.meter.save(tmp_path / "traffic.json")
    counts = json.loads((tmp_path / "traffic.json").read_text())
    assert counts["setup up"] == seen[0]
    assert counts["setup down"] == len(answer)
    assert counts["connections"] == 1
