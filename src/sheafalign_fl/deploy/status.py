"""What `sheafalign status` shows: nodes, and how far a run is."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.deployed import Deployment
from sheafalign_fl.errors import UserError
from sheafalign_fl.report.content import Cells, Table
from sheafalign_fl.report.numbers import human_bytes
from sheafalign_fl.report.tables import rich_table
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.ledger import read_ledger

_LOOK_SECONDS = 1.0
_NODES_SECONDS = 2.0
_PARTS = ("compute", "encode", "save", "wire", "wait")


def show(run: Path | None, where: Deployment | None, state: Path, console: Console) -> None:
    """Print the state once."""
    nodes = _nodes(where, state) if where is not None else []
    for part in _render(run, nodes):
        console.print(part)


def show_live(run: Path | None, where: Deployment | None, state: Path, console: Console) -> None:
    """Print the state again and again, until Ctrl-C or the end of the run."""
    nodes: list[Cells] = []
    asked = -_NODES_SECONDS
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while True:
            if where is not None and time.monotonic() - asked >= _NODES_SECONDS:
                nodes, asked = _nodes(where, state), time.monotonic()
            live.update(Group(*_render(run, nodes)))
            if run is not None and RunFolder(run).status()["state"] in ("completed", "failed"):
                return
            time.sleep(_LOOK_SECONDS)


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


def _render(run: Path | None, nodes: Sequence[Cells]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if nodes:
        parts.append(
            rich_table(
                Table("Nodes", ("client", "node", "status", "since"), tuple(nodes), text_columns=4)
            )
        )
    if run is not None:
        parts += _run_parts(RunFolder(run))
    return parts or ["no node has connected yet"]


def _run_parts(folder: RunFolder) -> list[RenderableType]:
    if not folder.config.is_file():
        raise UserError(f"{folder.path} is no run folder")
    settings, status = folder.settings(), folder.status()
    rows = list(read_rows(folder.metrics)) if folder.metrics.is_file() else []
    exchanges = [row for row in rows if row["kind"] == "exchange"]
    absences = [row for row in rows if row["kind"] == "absence"]
    seconds = [row["seconds"] for row in exchanges[-20:]]
    pace = f", {sum(seconds) / len(seconds):.2f} s each lately" if seconds else ""
    reason = f" ({status['reason']})" if status.get("reason") else ""
    done = f"{len(exchanges)} of {settings.training.exchanges} exchanges"
    return [
        f"{settings.name}: {status['state']}{reason}, {done}{pace}",
        rich_table(_client_table(folder, settings, exchanges[-1] if exchanges else None)),
        *(
            f"exchange {row['exchange']}: {row['client']} {row['event']}: {row['reason']}"
            for row in absences[-5:]
        ),
    ]


def _client_table(folder: RunFolder, settings: Settings, last: Mapping[str, Any] | None) -> Table:
    """Return what the run folder says of every client."""
    up, down = dict.fromkeys(settings.clients, 0), dict.fromkeys(settings.clients, 0)
    for row in read_ledger(folder.ledger) if folder.ledger.is_file() else ():
        if row.source in up:
            up[row.source] += row.message_bytes or row.relay_bytes
        if row.destination in down:
            down[row.destination] += row.relay_bytes - row.message_bytes
    timing = {row["client"]: row for row in (last or {}).get("timing", ())}
    rows = tuple(
        (
            name,
            client.modality or name,
            "absent" if last is None or name in last["absent"] else "took part",
            *(f"{1000 * timing[name][part]:.1f}" if name in timing else "" for part in _PARTS),
            human_bytes(up[name]),
            human_bytes(down[name]),
        )
        for name, client in settings.clients.items()
    )
    columns = (
        "client",
        "modality",
        "last exchange",
        *(f"{part} ms" for part in _PARTS),
        "up",
        "down",
    )
    return Table("Clients", columns, rows, text_columns=3)
