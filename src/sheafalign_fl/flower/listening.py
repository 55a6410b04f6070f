"""Listening: a Unix socket for the relay's own processes, a port for everybody else."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from sheafalign_fl.flower.gate import CERTIFICATE

_HEADER_SECONDS = 20.0
"""In which the head of a request has to arrive, the first one of a connection and every other."""
_HEADER_BYTES = 32 * 1024


@dataclass(frozen=True)
class Certificates:
    """What a port needs for TLS."""

    certificate: Path
    key: Path
    ca: Path
    """Whoever has a certificate of this authority may show it; nobody has to."""


class Caller(H11Protocol):
    """One connection: its requests know the certificate that the TLS layer has verified.

    h11 bounds the size of headers, which uvicorn's other parser does not; neither bounds the time
    that they take.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Note the certificate, and close the connection soon if no request comes."""
        super().connection_made(transport)
        link = transport.get_extra_info("ssl_object")
        certificate = link.getpeercert(binary_form=True) if link is not None else None
        self.app = partial(_with_certificate, self.app, certificate)
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Take what came; once the head of a request has begun it has to be whole soon."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_deadline()
        elif self._deadline is None:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._forget_deadline()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        self._deadline = self.loop.call_later(_HEADER_SECONDS, self._late)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


async def _with_certificate(
    application: ASGIApp, certificate: bytes | None, scope: Scope, receive: Receive, send: Send
) -> None:
    await application({**scope, CERTIFICATE: certificate}, receive, send)


class _PlainServer(Server):
    """A server that leaves signals to whoever runs it, because there are two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change no handler."""
        yield


@dataclass(frozen=True)
class Port:
    """Where everybody else calls."""

    host: str
    port: int
    application: ASGIApp
    certificates: Certificates | None

    def server(self, log_config: dict[str, Any]) -> _PlainServer:
        """Return a server for it, not started yet."""
        config = Config(
            self.application, host=self.host, port=self.port, http=Caller, ws="none",
            lifespan="off", interface="asgi3", proxy_headers=False, server_header=False,
            log_config=log_config, h11_max_incomplete_event_size=_HEADER_BYTES,
        )  # fmt: skip
        if (given := self.certificates) is not None:
            config.ssl_certfile, config.ssl_keyfile = given.certificate, str(given.key)
            config.ssl_ca_certs, config.ssl_cert_reqs = str(given.ca), ssl.CERT_OPTIONAL
        return _PlainServer(config)


async def listen(
    application: ASGIApp,
    socket: Path,
    port: Port | None,
    before_port: Callable[[ssl.SSLContext | None], Awaitable[None]],
    log_config: dict[str, Any],
) -> None:
    """Serve `application` at a Unix socket, and at `port` what is there, until told to end.

    Parameters
    ----------
    socket
        In a folder that its owner alone can enter: whoever reaches the socket may do everything.
    before_port
        Awaited before the port is opened, with the port's TLS settings.
    log_config
        Of uvicorn.
    """
    config = Config(
        application, uds=str(socket), http="h11", ws="none", proxy_headers=False,
        log_config=log_config,
    )  # fmt: skip
    inner = _PlainServer(config)
    servers = [inner]
    tasks = [asyncio.create_task(inner.serve())]
    while not inner.started and not tasks[0].done():
        await asyncio.sleep(0.01)
    if inner.started:
        socket.chmod(0o600)
        if port is not None:
            outer = port.server(log_config)
            outer.config.load()
            await before_port(outer.config.ssl)
            servers.append(outer)
            tasks.append(asyncio.create_task(outer.serve()))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _end, servers)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        _end(servers)
        await asyncio.gather(*tasks)


def _end(servers: list[_PlainServer]) -> None:
    for server in servers:
        server.should_exit = True
