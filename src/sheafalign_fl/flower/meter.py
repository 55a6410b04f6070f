"""What a node's connection really carries, by kind.

The ledger counts messages; this counts everything around them.
"""

import json
import threading
from collections import Counter
from pathlib import Path

import httpx
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

from sheafalign_fl.files import write_atomically

_KINDS = {
    "PushMessages": "messages",
    "PushObject": "messages",
    "PullObject": "messages",
    "ConfirmMessageReceived": "messages",
    "PullMessages": "polling",
    "SendNodeHeartbeat": "heartbeats",
}
_EMPTY_PULL = 8
"""The answer to a poll is hardly longer if there is no message."""
_RECORD = 16384
"""Most bytes of plain text in one TLS record (RFC 8446)."""


class TrafficMeter:
    """Counts one client's HTTP/1.1 requests and answers in plain text, connections and TLS records.

    Kinds: messages (what moves a message or its parts), polling (asking for a message when there is
    none), heartbeats, and setup (everything else).
    """

    def __init__(self) -> None:
        """Start at 0."""
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Count one request and its answer; Flower calls this around every request."""
        context.request.extensions["trace"] = self._trace
        response = call_next(context)
        method = context.rpc_method.rpartition("/")[2]
        kind = _KINDS.get(method, "setup")
        if method == "PullMessages" and len(response.content) > _EMPTY_PULL:
            kind = "messages"
        up_head, up_body = _head(context.request), len(context.request.content)
        down_head, down_body = (
            _head(response),
            int(response.headers.get("content-length", len(response.content))),
        )
        with self._lock:
            self._counts[f"{kind} up"] += up_head + up_body
            self._counts[f"{kind} down"] += down_head + down_body
            self._counts["records up"] += 1 + -(-up_body // _RECORD)
            self._counts["records down"] += 1 + -(-down_body // _RECORD)
            self._counts["requests"] += 1
        return response

    def counts(self) -> dict[str, int]:
        """Return all counts: ``KIND up`` and ``KIND down`` in bytes, requests and connections."""
        with self._lock:
            return dict(self._counts)

    def save(self, path: Path) -> None:
        """Write all counts to the JSON file at `path`."""
        write_atomically(path, json.dumps(self.counts(), indent=1).encode())

    def _trace(self, event: str, _: object) -> None:
        if event == "connection.connect_tcp.complete":
            with self._lock:
                self._counts["connections"] += 1


def _head(message: httpx.Request | httpx.Response) -> int:
    """Return the bytes of a start line and headers."""
    if isinstance(message, httpx.Request):
        start = len(f"{message.method} {message.url.raw_path.decode('ascii')} HTTP/1.1\r\n")
    else:
        start = len(f"HTTP/1.1 {message.status_code} {message.reason_phrase}\r\n")
    return start + sum(len(name) + len(value) + 4 for name, value in message.headers.raw) + 2
