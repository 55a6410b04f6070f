"""What `sheafalign status` shows: nodes, and how far a run is."""

import json
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live

from sheafalign_fl.engines.deployed import Deployment
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import Tail
from sheafalign_fl.numbers import human_bytes
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.protocol.verdict import WatchRow
from sheafalign_fl.report.content import Cells, Table
from sheafalign_fl.report.tables import plain, rich_table
from sheafalign_fl.runs.faults import FaultFacts, find_faults
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import rows_in

_LOOK_SECONDS = 1.0
_NODES_SECONDS = 2.0
_PACE_EXCHANGES = 20
_SHOWN_ABSENCES = 5
_SHOWN_FAULTS = 5
_PARTS = ("compute", "encode", "save", "wire", "wait")


def show(run: Path | None, where: Deployment | None, state: Path, console: Console) -> None:
    """Print the state once."""
    nodes = _nodes(where, state) if where is not None else []
    for part in _render(None if run is None else RunView(RunFolder(run)), nodes):
        console.print(part)


def show_live(run: Path | None, where: Deployment | None, state: Path, console: Console) -> None:
    """Print the state again and again, until Ctrl-C or the end of the run."""
    nodes: list[Cells] = []
    asked = -_NODES_SECONDS
    view = None if run is None else RunView(RunFolder(run))
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while True:
            if where is not None and time.monotonic() - asked >= _NODES_SECONDS:
                nodes, asked = _nodes(where, state), time.monotonic()
            live.update(Group(*_render(view, nodes)))
            if view is not None and view.folder.status()["state"] in ("completed", "failed"):
                return
            time.sleep(_LOOK_SECONDS)


class RunView:
    """What is shown of a run; each look reads only what was written since the last one."""

    def __init__(self, folder: RunFolder) -> None:
        """Begin with nothing read; raise `UserError` if `folder` is no run folder."""
        if not folder.config.is_file():
            raise UserError(f"{folder.path} is no run folder")
        self.folder, self.settings = folder, folder.settings()
        self._metrics, self._ledger = Tail(folder.metrics), Tail(folder.ledger)
        self._forget_metrics()
        self._forget_ledger()

    def refresh(self) -> None:
        """Read on."""
        lines, anew = self._metrics.lines()
        if anew:
            self._forget_metrics()
        for line in lines:
            self._take(json.loads(line))
        lines, anew = self._ledger.lines()
        if anew:
            self._forget_ledger()
        for row in rows_in(lines, self.folder.ledger):
            self.up[row.source] += row.message_bytes or row.relay_bytes
            self.down[row.destination] += row.relay_bytes - row.message_bytes

    def _forget_metrics(self) -> None:
        self.exchanges = 0
        self.last: Mapping[str, Any] = {}
        self.seconds: deque[float] = deque(maxlen=_PACE_EXCHANGES)
        self.absences: deque[Mapping[str, Any]] = deque(maxlen=_SHOWN_ABSENCES)
        self._watched: list[WatchRow] = []

    def _forget_ledger(self) -> None:
        self.up: Counter[str] = Counter()
        self.down: Counter[str] = Counter()

    def _take(self, row: dict[str, Any]) -> None:
        if row["kind"] == "exchange":
            self.exchanges, self.last = self.exchanges + 1, row
            self.seconds.append(row["seconds"])
        elif row["kind"] == "absence":
            self.absences.append(row)
        elif row["kind"] == "watch":
            self._watched.append(WatchRow.model_validate(row))

    def faults(self) -> Sequence[FaultFacts]:
        """Return who is suspected of what by now."""
        graph = build_topology(self.settings).edges if self._watched else ()
        return find_faults(self._watched, [(edge.source, edge.target) for edge in graph])


def _nodes(where: Deployment, state: Path) -> list[Cells]:
    """Return one row for each node that the relay knows."""
    control = where.connect()
    try:
        nodes = control.nodes()
    finally:
        control.close()
    path = state / "registered.json"
    known = (
        {str(node): client for client, node in json.loads(path.read_text()).items()}
        if path.is_file()
        else {}
    )
    return [
        (known.get(str(node), "?"), str(node), status, since[:19]) for node, status, since in nodes
    ]


def _render(view: RunView | None, nodes: Sequence[Cells]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if nodes:
        columns = ("client", "node", "status", "since")
        parts.append(rich_table(Table("Nodes", columns, tuple(nodes), text_columns=4)))
    if view is not None:
        view.refresh()
        parts += _run_parts(view)
    return parts or ["no node has connected yet"]


def _run_parts(view: RunView) -> list[RenderableType]:
    settings, status, seconds = view.settings, view.folder.status(), view.seconds
    pace = f", {sum(seconds) / len(seconds):.2f} s each lately" if seconds else ""
    reason = f" ({status['reason']})" if status.get("reason") else ""
    done = f"{view.exchanges} of {settings.training.exchanges} exchanges"
    tables = [rich_table(_client_table(view))]
    if view.last:
        tables.append(rich_table(_time_table(view)))
    return [
        plain(f"{settings.name}: {status['state']}{reason}, {done}{pace}"),
        *tables,
        *(
            plain(f"exchange {row['exchange']}: {row['client']} {row['event']}: {row['reason']}")
            for row in view.absences
        ),
        *(
            plain(f"{fault.where}, since exchange {fault.since}: {'; '.join(fault.reasons)}")
            for fault in view.faults()[-_SHOWN_FAULTS:]
        ),
    ]


def _client_table(view: RunView) -> Table:
    """Return what the run folder says of every client."""
    rows = tuple(
        (
            name,
            client.modality or name,
            _part_in(name, view),
            human_bytes(view.up[name]),
            human_bytes(view.down[name]),
        )
        for name, client in view.settings.clients.items()
    )
    columns = ("client", "modality", "last exchange", "up", "down")
    return Table("Clients", columns, rows, text_columns=3)


def _part_in(name: str, view: RunView) -> str:
    """Return how a client took part in the last exchange, if there was one."""
    if not view.last:
        return "none yet"
    return "absent" if name in view.last["absent"] else "took part"


def _time_table(view: RunView) -> Table:
    """Return where the time of the last exchange went."""
    timing = {row["client"]: row for row in view.last.get("timing", ())}
    rows = tuple(
        (name, *(f"{1000 * timing[name][part]:.1f}" for part in _PARTS))
        for name in view.settings.clients
        if name in timing
    )
    return Table("Last exchange, ms", ("client", *_PARTS), rows)
