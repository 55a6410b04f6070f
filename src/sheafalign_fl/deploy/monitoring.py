"""What a machine of a deployment tells its monitoring: /metrics for Prometheus, and /health.

Both are answered at a loopback port of their own, never at the relay's: numbers of exchanges and
bytes are the operator's affair. Facts are read when they are asked for; nothing is kept twice.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6

from sheafalign_fl.deploy.members import is_own_host
from sheafalign_fl.errors import UserError
from sheafalign_fl.extras import require
from sheafalign_fl.flower.address import Address

PREFIX = "sheafalign_"
_CALLER_SECONDS = 10.0
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Measure:
    """One quantity, with a value for each combination of its labels."""

    name: str
    """Without `PREFIX`; a `total` counts from the start, anything else is what it is now."""
    help: str
    labels: Labels = ()
    values: Mapping[Labels, float] = field(default_factory=dict)
    total: bool = False


@dataclass(frozen=True)
class Health:
    """Whether a process does what it is there for."""

    well: bool
    facts: Mapping[str, object]


@dataclass(frozen=True)
class Watched:
    """A process that is monitored: both are called for every question, from another thread."""

    measures: Callable[[], Iterable[Measure]]
    health: Callable[[], Health]


def monitoring_address(text: str) -> Address:
    """Return where monitoring answers.

    Raises
    ------
    UserError
        It is no address, or one that other machines reach, or prometheus-client is missing.
    """
    address = Address.parse(text, "--metrics")
    if not is_own_host(address.host):
        raise UserError(
            f"--metrics {text}: it answers without asking who calls, so on this machine alone; "
            "give 127.0.0.1:PORT, and let a monitoring agent on this machine pass it on"
        )
    require("prometheus_client", "--metrics")
    return address


@contextmanager
def monitored(address: Address | None, watched: Watched) -> Iterator[None]:
    """Answer /metrics and /health at `address` while the block runs; nothing if it is None."""
    if address is None:
        yield
        return
    address.check_free()
    server = _Server(address, watched)
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="monitoring")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: Address, watched: Watched) -> None:
        self.address_family = AF_INET6 if ":" in address.host else AF_INET
        self.watched = watched
        super().__init__((address.host, address.port), _Answers)


class _Answers(BaseHTTPRequestHandler):
    """Answers two questions, and 404 to all others."""

    server: _Server
    timeout = _CALLER_SECONDS

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, *_exposed(self.server.watched.measures()))
        elif path == "/health":
            health = self.server.watched.health()
            content = json.dumps({"well": health.well, **health.facts}).encode()
            self._answer(200 if health.well else 503, content, "application/json")
        else:
            self._answer(404, b"/metrics or /health\n", "text/plain")

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing: it is asked every few seconds."""


def _exposed(measures: Iterable[Measure]) -> tuple[bytes, str]:
    """Return measures in Prometheus' text format, and its content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

    families: list[Metric] = []
    for measure in measures:
        family = CounterMetricFamily if measure.total else GaugeMetricFamily
        made = family(PREFIX + measure.name, measure.help, labels=measure.labels)
        for labels, value in sorted(measure.values.items()):
            made.add_metric(labels, value)
        families.append(made)

    class Collected:
        def collect(self) -> Iterable[Metric]:
            return families

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected())
    return generate_latest(registry), CONTENT_TYPE_LATEST


def single(name: str, text: str, value: float, *, total: bool = False) -> Measure:
    """Return a measure that has one value and no labels."""
    return Measure(name, text, (), {(): value}, total)


def age(since: float | None) -> Mapping[Labels, float]:
    """Return the seconds since a moment of `time.time`; no value if it never was."""
    return {} if since is None else {(): max(0.0, time.time() - since)}
