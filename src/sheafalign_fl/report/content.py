"""The tables of a run, as text, for the terminal and for the HTML report alike.

A federation of 100 clients has 9,900 directions. A table of more than `MOST_ROWS` rows is cut to
its worst and best few; its mean is over all of them, always.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from sheafalign_fl.numbers import count_of, exact, human_bytes
from sheafalign_fl.protocol.rows import (
    AbsenceRow,
    EdgeBytes,
)
from sheafalign_fl.runs.departures import Departure
from sheafalign_fl.runs.faults import FaultFacts
from sheafalign_fl.runs.summary import ClientFacts, EdgeFacts

MOST_ROWS = 20
FEW = 4
RELAY, EVALUATOR = "relay", "evaluator"
Purpose = Literal["setup", "train", "evaluate"]
PURPOSES: tuple[Purpose, ...] = ("setup", "train", "evaluate")

Cells = tuple[str, ...]
Row = TypeVar("Row")


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes
    ----------
    text_columns
        How many leading columns are text; the others are numbers.
    rows, summary
        The rows, and the rows that sum them up. A row of `GAP` stands for rows that are left out.
    note
        What a reader has to know about the rows, such as how many are left out.
    """

    title: str
    columns: Cells
    rows: tuple[Cells, ...]
    summary: tuple[Cells, ...] = ()
    text_columns: int = 1
    note: str = ""
    wide: frozenset[int] = field(default_factory=frozenset)
    """Columns of long text, which may be broken into lines."""


GAP: Cells = ("…",)


def direction(source: str, target: str) -> str:
    """Return how a direction is written everywhere."""
    return f"{source} → {target}"


def purpose_table(rows: Sequence[EdgeBytes]) -> Table:
    """Return exact and readable totals by purpose.

    Traffic with the relay itself is a part of them and shown apart.
    """
    lines: list[Cells] = []
    for purpose in PURPOSES:
        lines.append(_totals(purpose, [row for row in rows if row.purpose == purpose]))
    control = [row for row in rows if is_control(row)]
    summary = [_totals("all", rows)]
    if control:
        summary.append(_totals("of it control", control))
    return Table(
        "Bytes by purpose",
        ("purpose", "messages", "payload", "message", "relay"),
        tuple(lines),
        tuple(summary),
        note="payload: the embeddings alone; message: with framing; relay: what crosses the "
        "network",
    )


def edge_table(
    rows: Sequence[EdgeBytes],
    clients: Sequence[str],
    purpose: Purpose = "train",
    most: int = MOST_ROWS,
) -> Table | None:
    """Return the bytes of every directed edge for one purpose, ordered as `clients` are.

    Of very many edges the extremes are shown.
    """
    edges = in_order(
        [row for row in rows if row.purpose == purpose and not is_control(row)], clients
    )

    if not edges:
        return None

    def cells(row: EdgeBytes) -> Cells:
        return (
            direction(row.source, row.target),
            exact(row.messages),
            exact(row.payload_bytes),
            human_bytes(row.payload_bytes),
            human_bytes(row.message_bytes),
            human_bytes(row.relay_bytes),
        )

    total = (
        "total",
        exact(sum(row.messages for row in edges)),
        exact(sum(row.payload_bytes for row in edges)),
        human_bytes(sum(row.payload_bytes for row in edges)),
        human_bytes(sum(row.message_bytes for row in edges)),
        human_bytes(sum(row.relay_bytes for row in edges)),
    )
    columns = ("direction", "messages", "payload bytes", "payload", "message", "relay")
    names = {"train": "training", "setup": "setup", "evaluate": "evaluation"}
    title = f"Bytes by directed edge, {names[purpose]}"
    return cut(
        title,
        columns,
        edges,
        cells,
        lambda row: row.payload_bytes,
        (total,),
        most,
        extremes=("smallest", "largest"),
    )


def absence_table(absences: Sequence[AbsenceRow], most: int = 2 * MOST_ROWS) -> Table | None:
    """Return who was away, when and why; the first and last ones of very many."""
    rows = [(str(row.exchange), row.client, row.event, row.reason) for row in absences]
    if not rows:
        return None
    columns = ("exchange", "client", "event", "reason")
    if len(rows) <= most:
        return Table("Absences", columns, tuple(rows), text_columns=4, wide=frozenset({3}))
    half = most // 2
    note = (
        f"{exact(len(rows))} entries: the first {half} and the last {half} are shown; "
        "metrics.jsonl has them all"
    )
    shown = (*rows[:half], GAP, *rows[-half:])
    return Table("Absences", columns, shown, text_columns=4, note=note, wide=frozenset({3}))


def departure_table(departures: Sequence[Departure]) -> Table | None:
    """Return which clients the run ended without, since when and why."""
    if not departures:
        return None
    rows = tuple((gone.client, str(gone.since), gone.reason) for gone in departures)
    columns = ("client", "gone since exchange", "what was heard last")
    note = "Their final weights are not known; the others trained on without their edges."
    title = "Completed without"
    return Table(title, columns, rows, text_columns=3, note=note, wide=frozenset({2}))


def fault_table(faults: Sequence[FaultFacts]) -> Table | None:
    """Return which sensors and edges were at fault, since when, and what showed it."""
    if not faults:
        return None
    rows = tuple(
        (
            fault.where,
            f"{fault.since}, seen {fault.found}",
            ", ".join(f"{sender} -> {receiver}" for sender, receiver in fault.edges[:MOST_ROWS]),
            exact(fault.refused),
            "; ".join(fault.reasons),
        )
        for fault in faults
    )
    columns = ("suspect", "since exchange", "edges that show it", "left out", "what was seen")
    return Table("Faults", columns, rows, text_columns=5, wide=frozenset({4}))


def client_table(clients: Sequence[ClientFacts]) -> Table:
    """Return what the clients told of themselves."""
    splits = sorted({split for client in clients for split in client.events}, key=_split_order)
    rows = tuple(
        (
            client.name,
            client.modality,
            client.encoder,
            client.device,
            " × ".join(map(str, client.input_shape)),
            str(client.dim),
            exact(client.parameters),
            *(exact(client.events.get(split, 0)) for split in splits),
        )
        for client in clients
    )
    columns = (
        "client",
        "modality",
        "encoder",
        "device",
        "input",
        "d",
        "parameters",
        *(f"{name} events" for name in splits),
    )
    return Table("Clients", columns, rows, text_columns=5)


def graph_table(edges: Sequence[EdgeFacts]) -> Table:
    """Return the edges of the graph, their dimensions and how many events both ends have."""
    splits = sorted({split for edge in edges for split in edge.shared_events}, key=_split_order)
    rows = tuple(
        (
            f"{edge.source} – {edge.target}",
            str(edge.dim),
            *(exact(edge.shared_events.get(split, 0)) for split in splits),
        )
        for edge in edges
    )
    return Table("Edges", ("edge", "d_e", *(f"shared {split} events" for split in splits)), rows)


def in_order(rows: Sequence[EdgeBytes], clients: Sequence[str]) -> list[EdgeBytes]:
    """Return the rows by source and then target, as `clients` are ordered; others come last."""
    place = {client: index for index, client in enumerate(clients)}
    last = len(place)
    return sorted(rows, key=lambda row: (place.get(row.source, last), place.get(row.target, last)))


def is_control(row: EdgeBytes) -> bool:
    """Whether the relay itself is an end of this traffic.

    Such traffic is what is left of a message once its frames are taken out.
    """
    return RELAY in (row.source, row.target)


def is_edge(row: EdgeBytes) -> bool:
    """Whether both ends are clients."""
    return not {RELAY, EVALUATOR} & {row.source, row.target}


def training_payload(rows: Sequence[EdgeBytes]) -> int:
    """Return the headline: payload bytes of training (DESIGN section 4)."""
    return sum(row.payload_bytes for row in rows if row.purpose == "train")


def _totals(name: str, rows: Sequence[EdgeBytes]) -> Cells:
    columns = (
        sum(row.payload_bytes for row in rows),
        sum(row.message_bytes for row in rows),
        sum(row.relay_bytes for row in rows),
    )
    counts = (f"{exact(count)}\n{human_bytes(count)}" for count in columns)
    return (name, exact(sum(row.messages for row in rows)), *counts)


def _split_order(split: str) -> tuple[int, str]:
    known = ("train", "validation", "test")
    return (known.index(split) if split in known else len(known), split)


def cut(
    title: str,
    columns: Cells,
    rows: Sequence[Row],
    cells: Callable[[Row], Cells],
    score: Callable[[Row], float],
    summary: tuple[Cells, ...],
    most: int,
    *,
    extremes: tuple[str, str] = ("worst", "best"),
) -> Table:
    """Return a table of all rows, or of the few with the lowest and highest score."""
    if len(rows) <= most:
        return Table(title, columns, tuple(map(cells, rows)), summary)
    ranked = sorted(rows, key=score)
    shown = (*map(cells, ranked[:FEW]), GAP, *map(cells, ranked[-FEW:]))
    low, high = extremes
    note = (
        f"{count_of(len(rows), 'row')}: the {FEW} {low} and the {FEW} {high} are shown; the last "
        "lines are over all"
    )
    return Table(title, columns, shown, summary, note=note)
