"""What stands before a service of a share: who may ask, and how much memory all of them may take.

JSON grows by a factor of twenty when it is parsed, so bodies wait as they came and are parsed one
at a time, when their turn has come. What waits, and answers that their callers have not taken yet,
are counted in bytes; whoever would exceed what all may have together is told to come again.
"""

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sheafalign_fl.flower.gate import Allowance, TooLargeError, read_body, replayed
from sheafalign_fl.flower.listening import Caller

OPEN = ("/health", "/docs", "/openapi.json", "/assets/")
"""What is answered without a token: nothing of the share."""
ABORT = "sheafalign.abort"
"""Key of the scope: ends the connection at once, with what is still to be sent on it."""
_MEBI = 1024 * 1024
_PAUSE_SECONDS = 30.0
"""Longest pause between two parts of a body; while a large one is parsed, none is read."""
_MORE = {401: (b"www-authenticate", b"Bearer"), 503: (b"retry-after", b"1")}
_DEEPEST = 16
_OPENING, _CLOSING = np.frombuffer(b"[{", np.uint8), np.frombuffer(b"]}", np.uint8)


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and all of them together."""

    body_bytes: int = 16 * _MEBI
    events: int = 100_000
    neighbours: int = 1000
    """Most nearest events of a search."""
    numbers: int = 2_000_000
    """Most numbers of an answer."""
    waiting: int = 64
    """Most requests at a time, the one that is computed among them."""
    in_flight_bytes: int = 64 * _MEBI
    """Of bodies that wait, and of answers that are not taken yet."""
    body_seconds: float = 60.0
    """In which a body has to arrive."""
    answer_seconds: float = 60.0
    """In which a caller has to take its answer."""

    @property
    def padded(self) -> int:
        """Most numbers of events of unequal length, once all are padded to one.

        As many as a body of equal ones can hold, two bytes each.
        """
        return self.body_bytes // 2


class Visitor(Caller):
    """One connection, which what stands before the service can end at once."""

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Tell requests how their connection is ended."""
        super().connection_made(transport)
        self.app = partial(_with_abort, self.app, transport.abort)


async def _with_abort(
    application: ASGIApp, abort: Callable[[], None], scope: Scope, receive: Receive, send: Send
) -> None:
    await application({**scope, ABORT: abort}, receive, send)


class _BusyError(Exception):
    """All that may be in flight is."""


class _LateError(Exception):
    """A body did not come on, or its caller has gone."""


class _InFlight:
    """Counts requests and the bytes that they hold; lets one at a time compute."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._changed = limits, asyncio.Condition()
        self._requests, self._bytes, self._answers, self._computing = 0, 0, 0, False

    @contextlib.asynccontextmanager
    async def admitted(self, size: int) -> AsyncIterator["_Visit"]:
        """Hold a place and `size` bytes inside the block, or raise `_BusyError` at once."""
        limits = self._limits
        full = self._bytes + self._answers + size > limits.in_flight_bytes
        if self._requests >= limits.waiting or (full and self._requests > 0):
            raise _BusyError
        visit = _Visit(self, size)
        self._requests += 1
        self._bytes += size
        try:
            yield visit
        finally:
            self._requests -= 1
            await self.settle(visit, 0)

    async def turn(self, visit: "_Visit") -> None:
        """Wait until nobody computes, and answers leave room for another."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._computing and self._answers < self._limits.in_flight_bytes
            )
            self._computing = visit.computing = True

    async def settle(self, visit: "_Visit", answer: int) -> None:
        """End a visit's turn; it holds an answer now, and what it was made of no longer."""
        self._bytes -= visit.size
        self._answers += answer - visit.answer
        visit.size, visit.answer = 0, answer
        async with self._changed:
            if visit.computing:
                self._computing = visit.computing = False
            self._changed.notify_all()


@dataclass
class _Visit:
    """One request that was let in."""

    place: _InFlight
    size: int
    answer: int = 0
    computing: bool = False


class Bounded:
    """Asks for the token; reads, parses and answers no more than `limits` say."""

    def __init__(self, application: ASGIApp, limits: Limits, token: str | None) -> None:
        """Stand before `application`."""
        self._application, self._token, self._limits = application, token, limits
        self._allowance = Allowance(limits.body_bytes, _PAUSE_SECONDS, limits.body_seconds)
        self._in_flight = _InFlight(limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        inbound, outbound = _Inbound(receive), partial(self._sent, scope, send)
        refuse = partial(_refuse, inbound=inbound, limits=self._limits, send=outbound)
        try:
            if not self._may(scope):
                await refuse(401, "show the service's token")
            else:
                await self._serve(scope, inbound.receive, outbound)
        except _BusyError:
            await refuse(503, "too much is asked at a time; come again")
        except TooLargeError:
            told = f"a request has at most {self._limits.body_bytes} bytes, and {_DEEPEST} levels"
            await refuse(413, told)
        except _LateError:
            await refuse(408, "the body did not arrive")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._in_flight.admitted(_stated(scope, self._allowance)) as visit:
            try:
                body = [await read_body(scope, receive, self._allowance)]
            except TimeoutError:
                raise _LateError from None
            if not body[0]:  # nothing to parse: health and facts do not wait behind others' events
                await self._application(scope, replayed(b"", receive), send)
                return
            if _depth(body[0]) > _DEEPEST:
                raise TooLargeError
            gone = asyncio.create_task(_ended(receive))
            try:
                await self._in_flight.turn(visit)
                if gone.done():  # nobody waits for an answer
                    return
                again = replayed(body.pop(), lambda: asyncio.shield(gone))
                await self._application(scope, again, partial(self._answered, visit, send))
            finally:
                gone.cancel()

    async def _answered(self, visit: _Visit, send: Send, message: Message) -> None:
        """Let the next one compute as soon as this answer is made: it may be taken slowly."""
        if message["type"] == "http.response.start":
            length = dict(message["headers"]).get(b"content-length", b"0")
            await self._in_flight.settle(visit, int(length))
        await send(message)

    async def _sent(self, scope: Scope, send: Send, message: Message) -> None:
        """Send; end the connection of a caller who does not take its answer."""
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                await send(message)
        except TimeoutError:
            if (abort := scope.get(ABORT)) is not None:
                abort()

    def _may(self, scope: Scope) -> bool:
        path = scope["path"]
        if self._token is None or path in OPEN or path.startswith(OPEN[-1]):
            return True
        shown = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(shown, f"Bearer {self._token}".encode())


def _stated(scope: Scope, allowance: Allowance) -> int:
    """Return how many bytes a request says that its body has; what it may have if it is silent.

    Raises
    ------
    TooLargeError
        It may not have as many.
    """
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return allowance.body_bytes
    stated = headers.get(b"content-length", b"0")
    if not stated.isdigit() or int(stated) > allowance.body_bytes:
        raise TooLargeError
    return int(stated)


async def _ended(receive: Receive) -> Message:
    """Return what follows a body that was read whole: that the caller has gone."""
    return await receive()


def _depth(body: bytes) -> int:
    """Return how deep brackets are nested at most: a parser descends into each of them."""
    depth, deepest = 0, 0
    for start in range(0, len(body), _MEBI):
        codes = np.frombuffer(body, np.uint8, min(_MEBI, len(body) - start), start)
        steps = np.isin(codes, _OPENING).astype(np.int8) - np.isin(codes, _CLOSING).astype(np.int8)
        levels = depth + np.cumsum(steps, dtype=np.int32)
        depth, deepest = int(levels[-1]), max(deepest, int(levels.max()))
    return deepest


class _Inbound:
    """What comes of one request, and whether all of it has come."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self.whole, self.size = receive, False, 0

    async def receive(self) -> Message:
        """Return the next part."""
        message = await self._receive()
        self.whole = self.whole or not message.get("more_body", False)
        self.size += len(message.get("body", b""))
        return message


async def _refuse(status: int, detail: str, inbound: _Inbound, limits: Limits, send: Send) -> None:
    """Answer, and read on, up to twice what a body may have, without keeping anything.

    A connection that is closed while its caller still sends is reset, and the answer with it. But
    nobody is read for longer than a body may take: one byte now and then would do for ever.
    """
    content = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(content)).encode()))
    if status in _MORE:
        headers.append(_MORE[status])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limits.body_seconds):
            while not inbound.whole and inbound.size < 2 * limits.body_bytes:
                await asyncio.wait_for(inbound.receive(), _PAUSE_SECONDS)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
