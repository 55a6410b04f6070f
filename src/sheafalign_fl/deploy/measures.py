"""The numbers that a node and a relay tell their monitoring."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sheafalign_fl.deploy.monitoring import Health, Labels, Measure, Watched, age, single
from sheafalign_fl.errors import SheafAlignError
from sheafalign_fl.files import Tail
from sheafalign_fl.flower.meter import TrafficMeter
from sheafalign_fl.flower.node_keys import LinkState, online
from sheafalign_fl.listing import listed
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import rows_in

_EXCHANGE = "train"
_LATELY_SECONDS = 24 * 3600.0
"""A run that has ended is shown for so long."""


class NodeCounts:
    """What a node has done since it was started."""

    def __init__(self) -> None:
        """Begin at 0, not connected."""
        self.connected = False
        self._lock = threading.Lock()
        self._messages: Counter[str] = Counter()
        self._failures = 0
        self._last: float | None = None

    def served(self, kind: str, *, failed: bool) -> None:
        """Count a message that was answered, by Flower's name of its kind."""
        with self._lock:
            self._messages[kind] += 1
            self._failures += failed
            if kind.partition(".")[0] == _EXCHANGE and not failed:
                self._last = time.time()

    def watched(self, meter: TrafficMeter) -> Watched:
        """Return what monitoring asks, with the bytes that `meter` counts."""
        return Watched(lambda: self._measures(meter), self._health)

    def _measures(self, meter: TrafficMeter) -> Iterator[Measure]:
        with self._lock:
            messages, failures, last = dict(self._messages), self._failures, self._last
        exchanges = sum(n for kind, n in messages.items() if kind.partition(".")[0] == _EXCHANGE)
        told = "Whether the relay answers this node."
        yield single("connected", told, float(self.connected))
        yield single("exchanges", "Exchanges that were answered.", exchanges, total=True)
        by_kind: dict[Labels, float] = {(kind,): float(count) for kind, count in messages.items()}
        yield Measure("messages", "Messages answered, by kind.", ("kind",), by_kind, total=True)
        yield single("failures", "Messages answered with an error.", failures, total=True)
        told = "Seconds since the last exchange."
        yield Measure("last_exchange_age_seconds", told, (), age(last))
        told = "Plain text sent (up) and received (down), by purpose."
        moved: dict[Labels, float] = {
            (kind, way): float(count)
            for name, count in meter.counts().items()
            for kind, _, way in [name.partition(" ")]
            if way and kind != "records"
        }
        yield Measure("traffic_bytes", told, ("purpose", "direction"), moved, total=True)

    def _health(self) -> Health:
        return Health(self.connected, {"connected": self.connected})


class RelayCounts:
    """What a relay knows of its nodes and runs."""

    def __init__(self, state: LinkState, runs: Path, registered: Path) -> None:
        """Read nodes from `state`, and the runs' folders in `runs`."""
        self._state, self._runs, self._registered = state, runs, registered
        self._read: dict[str, _RunCounts] = {}
        self._lock = threading.Lock()

    def watched(self) -> Watched:
        """Return what monitoring asks."""
        return Watched(self._measures, self._health)

    def _connected(self) -> dict[str, bool]:
        """Return which clients are connected; without keys, which nodes have been."""
        present = online(self._state)
        try:
            names: dict[str, int] = json.loads(self._registered.read_text(encoding="utf-8"))
        except OSError:
            names = {str(node): node for node in present}
        return {name: node in present for name, node in names.items()}

    def _health(self) -> Health:
        return Health(True, {"connected": sorted(k for k, on in self._connected().items() if on)})

    def _measures(self) -> Iterator[Measure]:
        told = "Whether a client's node is connected."
        here: dict[Labels, float] = {
            (client,): float(on) for client, on in self._connected().items()
        }
        yield Measure("connected", told, ("client",), here)
        with self._lock:
            runs = dict(self._refreshed())
            yield from _of_runs(runs)

    def _refreshed(self) -> Iterator[tuple[str, "_RunCounts"]]:
        for config in listed(self._runs, "*/config.yaml"):
            name = config.parent.name
            if time.time() - _changed(config.parent) > _LATELY_SECONDS:
                self._read.pop(name, None)
                continue
            counts = self._read.setdefault(name, _RunCounts(RunFolder(config.parent)))
            try:
                counts.refresh()
            except (OSError, ValueError, KeyError, SheafAlignError):
                continue  # a folder that is just being made, rewound or removed
            yield name, counts


class _RunCounts:
    """What the files of a run folder add up to; each look reads what is new in them."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._metrics, self._ledger = Tail(folder.metrics), Tail(folder.ledger)
        self.running = False
        self.last: float | None = None
        self.events: Counter[tuple[str, ...]] = Counter()
        self.refused: Counter[tuple[str, ...]] = Counter()
        self.exchanges = 0
        self.bytes: Counter[tuple[str, ...]] = Counter()

    def refresh(self) -> None:
        lines, anew = self._metrics.lines()
        if anew:
            self.exchanges = 0
            self.events.clear()
            self.refused.clear()
        for line in lines:
            self._take(json.loads(line))
        if self.exchanges:
            self.last = self.folder.metrics.stat().st_mtime
        lines, anew = self._ledger.lines()
        if anew:
            self.bytes.clear()
        for row in rows_in(lines, self.folder.ledger):
            self.bytes[(row.purpose,)] += row.relay_bytes
        self.running = self.folder.status()["state"] == "running"

    def _take(self, row: dict[str, object]) -> None:
        if row["kind"] == "exchange":
            self.exchanges += 1
        elif row["kind"] == "absence":
            self.events[(str(row["client"]), str(row["event"]))] += 1
        elif row["kind"] == "watch":
            ends = (str(row["sender"]), str(row["receiver"]), str(row["event"]))
            self.refused[ends] += 1


def _of_runs(runs: dict[str, _RunCounts]) -> Iterable[Measure]:
    def each(
        of: Callable[[_RunCounts], dict[tuple[str, ...], float]],
    ) -> dict[tuple[str, ...], float]:
        return {(name, *key): n for name, run in runs.items() for key, n in of(run).items()}

    def counted(of: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
        return {key: float(count) for key, count in of.items()}

    run, seconds = ("run",), "Seconds since the last exchange."
    yield Measure("run_running", "Whether it runs.", run, each(lambda r: {(): float(r.running)}))
    yield Measure(
        "exchanges", "Exchanges done.", run, each(lambda r: {(): float(r.exchanges)}), total=True
    )
    yield Measure("last_exchange_age_seconds", seconds, run, each(lambda r: dict(age(r.last))))
    yield Measure(
        "relay_bytes", "Bytes that crossed the network, from the ledger.", (*run, "purpose"),
        each(lambda r: counted(r.bytes)), total=True,
    )  # fmt: skip
    yield Measure(
        "absences", "Exchanges without a client, and returns.", (*run, "client", "event"),
        each(lambda r: counted(r.events)), total=True,
    )  # fmt: skip
    yield Measure(
        "edge_events", "What receivers said of edges: refused, suspected, ...",
        (*run, "sender", "receiver", "event"), each(lambda r: counted(r.refused)), total=True,
    )  # fmt: skip


def _changed(folder: Path) -> float:
    """Return when something in a run folder last changed."""
    return max(path.stat().st_mtime for path in (folder, *listed(folder, "*.*")))
