"""Somebody who reaches a relay's port without a key: raw requests, spelled as no client does.

`python -m tests.attack.outsider HOST PORT plain|tls` prints JSON: name of the request -> statuses
of all answers that came on its connection.
"""

import json
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest, StopRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

LIST = "/v1/control/list-runs"
FLEET = "/v1/fleet/pull-messages"
_TYPE = "content-type: application/protobuf\r\n"
_AT_ONCE = 8
_SECONDS = 10.0
_MORE_SECONDS = 0.5
"""For a second answer on one connection, where the first has come."""


def request(
    target: str, body: bytes = b"", *, headers: str = "", method: str = "POST", version: str = "1.1"
) -> bytes:
    """Return a request as it goes over the wire."""
    head = f"{method} {target} HTTP/{version}\r\nhost: relay\r\n{_TYPE}{headers}"
    if "content-length" not in headers and "transfer-encoding" not in headers:
        head += f"content-length: {len(body)}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


def apis() -> Iterator[tuple[str, bytes]]:
    """Yield a request to everything that Flower serves and that is no node's affair."""
    for method, path in PROTOBUF_REQUEST_TYPES:
        if not path.startswith("/v1/fleet/"):
            yield f"{method} {path}", request(path)
    start = StartRunRequest(fab=Fab(hash_str="0", content=b"x"))
    yield "submit", request("/v1/control/start-run", start.SerializeToString())
    yield "stop", request("/v1/control/stop-run", StopRunRequest(run_id=1).SerializeToString())
    yield "list", request(LIST, ListRunsRequest(limit=5).SerializeToString())
    for path in ("/", "/health", "/docs", "/openapi.json", "/v1/fleet", "/v1/fleet/"):
        yield f"GET {path}", request(path, method="GET")


def spellings() -> Iterator[tuple[str, bytes]]:
    """Yield a request for the list of runs, spelled in every way that some server understands."""
    for target in (
        "//v1/control/list-runs", "/v1//control/list-runs", "/v1/control//list-runs",
        "/v1/fleet/../control/list-runs", "/v1/fleet/..;/control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs", "/v1/fleet/..%2fcontrol/list-runs",
        "/v1/fleet/%2e%2e%2fcontrol%2flist-runs", "/v1/./control/list-runs",
        "/v1/%63ontrol/list-runs", "/%76%31/control/list-runs", "/v1/control/list%2druns",
        "/v1/fleet/%252e%252e/control/list-runs", "/V1/CONTROL/LIST-RUNS", "/v1/Control/list-runs",
        "/v1/control/list-runs/", "/v1/control/list-runs?x=/v1/fleet/pull-messages",
        "/v1/fleet/pull-messages/../../control/list-runs", "/v1/fleet\\..\\control\\list-runs",
        "/v1/control/list-runs;/v1/fleet/pull-messages", "/v1/control/list-runs#/v1/fleet/",
        "/v1/fleet/pull-messages%00/../../control/list-runs", "/v1/control/list-runs%00",
        "http://relay/v1/control/list-runs", "https://127.0.0.1/v1/control/list-runs",
        "http://relay/v1/fleet/pull-messages/../../control/list-runs",
        "/v1/fleet/%c0%ae%c0%ae/control/list-runs", "/v1/fleet/%u002e%u002e/control/list-runs",
    ):  # fmt: skip
        yield f"target {target}", request(target)
    for header in (
        "x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "forwarded: for=127.0.0.1",
        "x-forwarded-proto: https", "x-original-url: /v1/control/list-runs",
        "x-rewrite-url: /v1/control/list-runs", "x-forwarded-prefix: /v1/control",
        "x-client-cert: operator", "ssl-client-verify: SUCCESS", "authorization: Bearer x",
        "x-http-method-override: POST", "host: localhost", "host: 127.0.0.1",
    ):  # fmt: skip
        yield f"header {header}", request(LIST, headers=f"{header}\r\n")
    for method in ("GET", "PUT", "HEAD", "OPTIONS", "PATCH", "TRACE", "FLEET"):
        yield f"method {method}", request(LIST, method=method)


def protocols() -> Iterator[tuple[str, bytes]]:
    """Yield requests that mean to be taken for something else than they are."""
    yield "HTTP/1.0", request(LIST, version="1.0")
    socket_key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
    upgrade = f"connection: upgrade\r\nupgrade: websocket\r\n{socket_key}"
    yield "web socket", request(LIST, method="GET", headers=upgrade)
    clear = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    yield "h2c", request(LIST, headers=clear)
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    inner = request(LIST)
    yield "two lengths", request(FLEET, inner, headers="content-length: 0\r\ncontent-length: 9\r\n")
    both = f"content-length: {len(inner)}\r\ntransfer-encoding: chunked\r\n"
    yield "length and chunks", request(FLEET, b"0\r\n\r\n" + inner, headers=both)
    yield "pipelined", request(FLEET) + inner
    yield "bare line feeds", request(LIST).replace(b"\r\n", b"\n")
    yield "space before colon", request(LIST).replace(b"host:", b"host :")
    yield "folded header", request(LIST, headers="x: 1\r\n /v1/fleet/\r\n")


def node_calls() -> Iterator[tuple[str, bytes]]:
    """Yield what a node may call, from a node that nobody knows."""
    for method, path in PROTOBUF_REQUEST_TYPES:
        if path.startswith("/v1/fleet/"):
            yield f"{method} {path}", request(path)
    yield "64 KiB and a byte", request("/v1/fleet/push-object", bytes(64 * 1024 + 1))
    endless = "content-length: 99999999999\r\n"
    yield "a length stated", request("/v1/fleet/push-object", headers=endless)
    chunks = b"10000\r\n" + bytes(0x10000) + b"\r\n" + b"10\r\n" + bytes(16) + b"\r\n0\r\n\r\n"
    chunked = "transfer-encoding: chunked\r\n"
    yield "chunks", request("/v1/fleet/push-object", chunks, headers=chunked)


def answers(host: str, port: int, sent: bytes, context: ssl.SSLContext | None) -> list[int]:
    """Send bytes on a connection of their own; return the statuses of what comes back."""
    received = b""
    with socket.create_connection((host, port), timeout=_SECONDS) as plain:
        link = plain if context is None else context.wrap_socket(plain)
        try:
            link.sendall(sent)
            while part := link.recv(65536):
                received += part
                link.settimeout(_MORE_SECONDS)
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass  # what has come until then counts
        finally:
            link.close()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def main() -> None:
    """Ask everything; print what was answered."""
    host, port = sys.argv[1], int(sys.argv[2])
    context = None
    if sys.argv[3] == "tls":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    groups = {
        "apis": apis, "spellings": spellings, "protocols": protocols, "node calls": node_calls,
    }  # fmt: skip
    found: dict[str, dict[str, list[int]]] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # some are never answered, and waited for
        for group, requests in groups.items():
            names, sent = zip(*requests(), strict=True)
            came = pool.map(lambda one: answers(host, port, one, context), sent)
            found[group] = dict(zip(names, came, strict=True))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
