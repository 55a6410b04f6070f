"""What stands before a service: how many wait, with how many bytes, and for how long."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send
from uvicorn import Config, Server

from sheafalign_fl.deploy.bounded import Bounded, Limits, Visitor
from sheafalign_fl.flower import listening
from tests.system.command import free_port

LIMITS = Limits(body_bytes=1000, in_flight_bytes=2000, waiting=3)


class Application:
    """Answers when it is let, and knows how many of its calls were under way at a time."""

    def __init__(self, answer: bytes = b"done") -> None:
        self.go, self.answer = asyncio.Event(), answer
        self.begun, self.most, self._under_way = 0, 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        if scope["path"] != "/health":
            await self.go.wait()
        self._under_way -= 1
        length = str(len(self.answer)).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})


class Call:
    """One request to an ASGI application, and what came of it."""

    def __init__(self, size: int, path: str = "/embed", *, whole: bool = True) -> None:
        headers = [(b"content-length", str(size).encode())]
        self.scope: dict[str, Any] = {
            "type": "http",
            "path": path,
            "method": "POST",
            "headers": headers,
        }
        self.status, self.headers = 0, dict[bytes, bytes]()
        self._body = {"type": "http.request", "body": b" " * size, "more_body": not whole}
        self._inbound: asyncio.Queue[Message] = asyncio.Queue()
        self._inbound.put_nowait(self._body)
        self.taken = asyncio.Event()
        self.taken.set()

    def go_on(self, *, whole: bool) -> None:
        """Send another part of the body."""
        self._inbound.put_nowait({"type": "http.request", "body": b" ", "more_body": not whole})

    def leave(self) -> None:
        """Hang up."""
        self._inbound.put_nowait({"type": "http.disconnect"})

    async def send(self, message: Message) -> None:
        """Take a part of the answer, once the caller is willing to."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            await self.taken.wait()

    def to(self, application: Bounded) -> "asyncio.Task[None]":
        """Start the call."""
        call: Any = application(self.scope, self._inbound.get, self.send)
        return asyncio.ensure_future(call)


async def settled() -> None:
    """Let all that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test within a time in which nothing may hang."""
    asyncio.run(asyncio.wait_for(test(), 60))


def test_one_computes_at_a_time_and_no_more_bytes_wait_than_may() -> None:
    async def test() -> None:
        application = Application()
        bounded = Bounded(application, LIMITS, None)
        calls = [Call(900), Call(900), Call(300), Call(200)]
        tasks = [call.to(bounded) for call in calls]
        await settled()
        # 1,800 bytes are in flight, so 300 more are too many, and 200 are not.
        assert [call.status for call in calls] == [0, 0, 503, 0]
        assert calls[2].headers[b"retry-after"] == b"1"
        assert application.begun == 1
        application.go.set()
        await asyncio.gather(*tasks)
        assert [call.status for call in calls] == [200, 200, 503, 200]
        assert application.most == 1
        last = Call(1000)
        await last.to(bounded)  # all that was held is free again
        assert last.status == 200

    run(test)


def test_what_a_refused_caller_still_sends_is_read_and_thrown_away() -> None:
    async def test() -> None:
        bounded = Bounded(Application(), LIMITS, "a token")
        refused = Call(900, whole=False)
        task = refused.to(bounded)
        await settled()
        assert refused.status == 401  # at once, but a connection closed now would be reset
        assert not task.done()
        refused.go_on(whole=False)
        await settled()
        assert not task.done()
        refused.go_on(whole=True)
        await task

    run(test)


@pytest.mark.parametrize("status", [401, 413, 503])
def test_a_refused_caller_who_sends_a_byte_now_and_then_is_let_go(status: int) -> None:
    async def test() -> None:
        limits = Limits(body_bytes=1000, waiting=1 if status == 503 else 9, body_seconds=0.2)
        bounded = Bounded(Application(), limits, "a token" if status == 401 else None)
        held = Call(1).to(bounded)  # its turn lasts
        await settled()
        refused = Call(1, whole=False)
        refused.scope["headers"][0] = (b"content-length", b"5000" if status == 413 else b"900")
        task, sent = refused.to(bounded), 0
        while not task.done() and sent < 200:
            refused.go_on(whole=False)
            sent += 1
            await asyncio.sleep(0.01)
        held.cancel()
        assert refused.status == status
        assert task.done(), f"still read after {sent} bytes"

    run(test)


def test_no_more_wait_than_may_and_health_waits_for_nobody() -> None:
    async def test() -> None:
        application = Application()
        bounded = Bounded(application, LIMITS, None)
        calls = [Call(1) for _ in range(4)]
        tasks = [call.to(bounded) for call in calls[:2]]
        health = Call(0, "/health")
        await health.to(bounded)
        assert health.status == 200
        tasks += [call.to(bounded) for call in calls[2:]]
        await settled()
        assert [call.status for call in calls] == [0, 0, 0, 503]
        application.go.set()
        await asyncio.gather(*tasks)

    run(test)


def test_a_caller_who_has_gone_is_not_computed_for() -> None:
    async def test() -> None:
        application = Application()
        bounded = Bounded(application, LIMITS, None)
        first, second = Call(10), Call(10)
        tasks = [first.to(bounded), second.to(bounded)]
        await settled()
        second.leave()
        await settled()
        application.go.set()
        await asyncio.gather(*tasks)
        assert application.begun == 1
        assert (first.status, second.status) == (200, 0)

    run(test)


def test_answers_that_nobody_takes_hold_the_next_ones_until_they_are_thrown_away() -> None:
    async def test() -> None:
        limits = Limits(body_bytes=1000, in_flight_bytes=2000, answer_seconds=0.2)
        application = Application(b"x" * 3000)
        application.go.set()
        bounded = Bounded(application, limits, None)
        slow, next_one = Call(10), Call(10)
        aborted = asyncio.Event()
        slow.scope["sheafalign.abort"] = aborted.set
        slow.taken.clear()
        tasks = [slow.to(bounded)]
        await settled()
        assert slow.status == 200
        refused = Call(10)
        await refused.to(bounded)
        assert refused.status == 503  # 3,000 bytes lie there
        await asyncio.gather(*tasks)
        assert aborted.is_set()
        await next_one.to(bounded)
        assert next_one.status == 200

    run(test)


def test_a_body_that_does_not_come_on_is_given_up() -> None:
    async def test() -> None:
        limits = Limits(body_bytes=1000, in_flight_bytes=1000, body_seconds=0.1)
        application = Application()
        application.go.set()
        bounded = Bounded(application, limits, None)
        slow = Call(1000, whole=False)
        await slow.to(bounded)
        assert slow.status == 408
        assert application.begun == 0
        whole = Call(1000)
        await whole.to(bounded)
        assert whole.status == 200

    run(test)


# ---- heads of requests, on a real port -----------------------------------------------------------


@contextmanager
def listening_server() -> Iterator[int]:
    """Serve an application that always answers."""
    application, port = Application(), free_port()
    application.go.set()
    bounded = Bounded(application, LIMITS, None)
    config = Config(bounded, port=port, http=Visitor, ws="none", lifespan="off", log_level="error")
    server = Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    limit = time.monotonic() + 60
    while not server.started and time.monotonic() < limit:
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_a_head_that_never_ends_is_cut_off(before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_HEADER_SECONDS", 0.3)
    with listening_server() as port, socket.create_connection(("127.0.0.1", port), 60) as slow:
        slow.sendall(before)
        if before:
            assert slow.recv(4096).startswith(b"HTTP/1.1 200")
        slow.sendall(b"GET /health HTTP/1.1\r\nx-slow: ")
        rest = b""
        while part := slow.recv(4096):  # times out, and fails, if nobody closes
            rest += part
        assert not rest.startswith(b"HTTP/1.1 200")
        with httpx.Client(trust_env=False) as client:  # and others are served
            assert client.get(f"http://127.0.0.1:{port}/health").status_code == 200


def test_a_request_that_takes_its_time_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_HEADER_SECONDS", 0.3)
    with listening_server() as port, httpx.Client(trust_env=False, timeout=60) as client:

        def slowly() -> Iterator[bytes]:
            yield b" "
            time.sleep(0.8)
            yield b" "

        answer = client.post(f"http://127.0.0.1:{port}/embed", content=slowly())
        assert answer.status_code == 200
