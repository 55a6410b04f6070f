"""Who may ask what of a relay's open port: an ASGI application before Flower's.

Flower serves its Fleet, Control and Runtime APIs on one port, without asking who calls. Here a call
is let through if its path is, byte for byte, one of a short list; nothing is normalised, so there
is no other spelling of a path to slip through. Everything else is answered with 403, unread.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CERTIFICATE = "sheafalign.certificate"
"""Key of the scope: the client's certificate (DER) that the TLS layer has verified, or None."""
FLEET = frozenset(
    f"/v1/fleet/{name}".encode()
    for name in (
        "register-node", "activate-node", "deactivate-node", "unregister-node",
        "send-node-heartbeat", "pull-messages", "push-messages", "get-run", "get-fab",
        "push-object", "pull-object", "confirm-message-received",
    )
)  # fmt: skip
"""All that a node needs; Flower itself asks for the node's signature."""
CONTROL = frozenset(
    f"/v1/control/{name}".encode() for name in ("start-run", "stop-run", "list-runs", "list-nodes")
)
"""All that an operator needs. Not: to register nodes, or to let the relay fetch code."""
PEERS = "/v1/sheafalign/peers"
"""Where a relay hands out what the authority has signed of clients."""
_KIBI = 1024
_STRANGER_BYTES = 64 * _KIBI
_STRANGER_SECONDS = 10.0


@dataclass(frozen=True)
class Allowance:
    """How much a caller may send."""

    body_bytes: int
    pause_seconds: float
    """Longest pause between two parts of a body."""
    seconds: float | None = None
    """In which all of a body has to arrive; None: a slow line may take what it takes."""


STRANGER = Allowance(_STRANGER_BYTES, _STRANGER_SECONDS, 60.0)
"""For whoever has not shown that it has a registered key: enough for every refusal of Flower's."""
KNOWN = Allowance(512 * _KIBI * _KIBI, 60.0)
"""For registered nodes and operators: a message with the evaluation frames of many edges."""


@dataclass(frozen=True)
class Doors:
    """Who is recognised, and by what."""

    is_operator: Callable[[Scope], bool]
    is_node: Callable[[Mapping[bytes, bytes]], bool]
    """Whether a request's headers are signed with a registered key."""
    operators_own: Callable[[Scope], bool]
    """Whether a request is one that operators may make, beside those to Flower's APIs."""
    nodes_own: Callable[[Scope], bool]
    """The same of nodes."""

    def allowance(self, scope: Scope) -> Allowance | None:
        """Return what the caller of an HTTP request may send; None: nothing, it is refused."""
        path = scope["raw_path"]
        if self.operators_own(scope):
            return STRANGER if self.is_operator(scope) else None
        if self.nodes_own(scope):
            return STRANGER if self.is_node(dict(scope["headers"])) else None
        if scope["method"] != "POST" or scope["path"].encode() != path:
            return None
        if path in FLEET:
            return KNOWN if self.is_node(dict(scope["headers"])) else STRANGER
        return KNOWN if path in CONTROL and self.is_operator(scope) else None


class Gate:
    """Lets through what `doors` allow, with a body of bounded size that arrives in bounded time."""

    def __init__(self, application: ASGIApp, doors: Doors) -> None:
        """Stand before `application`."""
        self._application = application
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":  # the server offers no web sockets; if one came, it is refused
            await send({"type": "websocket.close", "code": 1008})
            return
        allowance = self._doors.allowance(scope)
        if allowance is None:
            await _refuse(send, 403, b"this is not yours to ask")
            return
        try:
            body = await read_body(scope, receive, allowance)
        except TooLargeError:
            await _refuse(send, 413, b"the body is too large")
        except TimeoutError:
            await _refuse(send, 408, b"the body did not arrive")
        else:
            await self._application(scope, replayed(body, receive), send)


class TooLargeError(Exception):
    """A body exceeds its sender's allowance."""


async def read_body(scope: Scope, receive: Receive, allowance: Allowance) -> bytes:
    """Return the whole body of a request; Flower reads it whole as well.

    Raises
    ------
    TooLargeError
        It is, or says that it will be, larger than the caller may send.
    TimeoutError
        It does not come on, or not in time, or the caller has gone.
    """
    headers = dict(scope["headers"])
    stated = headers.get(b"content-length", b"0")
    if not stated.isdigit() or int(stated) > allowance.body_bytes:
        raise TooLargeError
    async with asyncio.timeout(allowance.seconds):
        return await _whole_body(receive, allowance)


async def _whole_body(receive: Receive, allowance: Allowance) -> bytes:
    parts, size = [], 0
    while True:
        message = await asyncio.wait_for(receive(), allowance.pause_seconds)
        if message["type"] != "http.request":  # the caller has gone: nobody waits for an answer
            raise TimeoutError
        part = message.get("body", b"")
        size += len(part)
        if size > allowance.body_bytes:
            raise TooLargeError
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives `body` at once, and then what still comes."""
    rest = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again


async def _refuse(send: Send, status: int, reason: bytes) -> None:
    """Answer and close the connection, so that a body that nobody reads is not waited for."""
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(reason)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason})
