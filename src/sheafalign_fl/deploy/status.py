"""What `sheafalign status` shows: nodes, and how far a run is."""

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from sheafalign_fl.errors import RunError, UserError
from sheafalign_fl.flower.deployed import Deployment
from sheafalign_fl.flower.submission import SuperLink
from sheafalign_fl.ledger import read_ledger
from sheafalign_fl.report.numbers import human_bytes
from sheafalign_fl.run.folder import RunFolder, read_rows

_LOOK_SECONDS = 1.0
_NODES_SECONDS = 10.0
"""Asking Flower for its nodes costs a process."""


@dataclass(frozen=True)
class _Client:
    """What a run folder says of one client."""

    name: str
    modality: str
    taking_part: bool
    timing: Mapping[str, float]
    bytes_up: int
    bytes_down: int


def show(run: Path | None, where: Deployment | None, state: Path, console: Console) -> None:
    """Print the state once."""
    nodes = _nodes(where, state) if where is not None else []
    for part in _render(run, nodes):
        console.print(part)


def show_live(run: Path | None, where: Deployment | None, state: Path, console: Console) -> None:
    """Print the state again and again, until Ctrl-C or the end of the run."""
    nodes: list[Mapping[str, str]] = []
    asked = -_NODES_SECONDS
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while True:
            if where is not None and time.monotonic() - asked >= _NODES_SECONDS:
                nodes, asked = _nodes(where, state), time.monotonic()
            live.update(Group(*_render(run, nodes)))
            if run is not None and RunFolder(run).status()["state"] in ("completed", "failed"):
                return
            time.sleep(_LOOK_SECONDS)


def _nodes(where: Deployment, state: Path) -> list[Mapping[str, str]]:
    """Return one row for each node that the relay knows."""
    with tempfile.TemporaryDirectory(prefix="sheafalign-") as name:
        link = SuperLink.at(where.relay, Path(name), where.ca, {})
        answer = link.flwr("supernode", "list", options=("--verbose",))
    if not answer.get("success"):
        told = " ".join(str(answer.get("error-message")).split())[-300:]
        raise RunError(f"the relay at {where.relay} does not answer: {told}")
    path = state / "registered.json"
    known = {str(node): client for client, node in json.loads(path.read_text()).items()} if path.is_file() else {}
    return [
        {
            "client": known.get(str(node["node-id"]), "?"),
            "node": str(node["node-id"]),
            "status": str(node["status"]),
            "since": str(node.get("elapsed") or node.get("online-elapsed") or ""),
        }
        for node in answer.get("nodes", [])
    ]


def _render(run: Path | None, nodes: Iterable[Mapping[str, str]]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if rows := list(nodes):
        parts.append(_table("Nodes", ("client", "node", "status", "since"), rows))
    if run is not None:
        parts += _run_parts(RunFolder(run))
    return parts or ["no node has connected yet"]


def _run_parts(folder: RunFolder) -> list[RenderableType]:
    if not folder.config.is_file():
        raise UserError(f"{folder.path} is no run folder")
    settings, status = folder.settings(), folder.status()
    exchanges = [row for row in _rows(folder) if row["kind"] == "exchange"]
    absences = [row for row in _rows(folder) if row["kind"] == "absence"]
    seconds = [row["seconds"] for row in exchanges[-20:]]
    pace = f", {sum(seconds) / len(seconds):.2f} s each lately" if seconds else ""
    reason = f" ({status['reason']})" if status.get("reason") else ""
    lines: list[RenderableType] = [
        f"{settings.name}: {status['state']}{reason}, {len(exchanges)} of {settings.training.exchanges} exchanges{pace}"
    ]
    clients = _clients(folder, list(settings.clients), exchanges[-1] if exchanges else None)
    rows = [
        {
            "client": client.name,
            "modality": settings.clients[client.name].modality or client.name,
            "last exchange": "took part" if client.taking_part else "absent",
            **{f"{part} ms": f"{1000 * client.timing[part]:.1f}" if part in client.timing else "" for part in _PARTS},
            "up": human_bytes(client.bytes_up),
            "down": human_bytes(client.bytes_down),
        }
        for client in clients
    ]
    columns = ("client", "modality", "last exchange", *(f"{part} ms" for part in _PARTS), "up", "down")
    lines.append(_table("Clients", columns, rows))
    lines += [f"exchange {row['exchange']}: {row['client']} {row['event']}: {row['reason']}" for row in absences[-5:]]
    return lines


_PARTS = ("compute", "encode", "save", "wire", "wait")


def _rows(folder: RunFolder) -> list[Mapping[str, Any]]:
    return list(read_rows(folder.metrics)) if folder.metrics.is_file() else []


def _clients(folder: RunFolder, names: list[str], last: Mapping[str, Any] | None) -> list[_Client]:
    up, down = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for row in read_ledger(folder.ledger) if folder.ledger.is_file() else ():
        if row.source in up:
            up[row.source] += row.message_bytes or row.relay_bytes
        if row.destination in down:
            down[row.destination] += row.relay_bytes - row.message_bytes
    timing = {row["client"]: row for row in (last or {}).get("timing", ())}
    return [
        _Client(
            name,
            name,
            last is not None and name not in last["absent"],
            {part: timing[name][part] for part in _PARTS} if name in timing else {},
            up[name],
            down[name],
        )
        for name in names
    ]


def _table(title: str, columns: Iterable[str], rows: Iterable[Mapping[str, str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table


Show = Callable[[Path | None, Deployment | None, Path, Console], None]
