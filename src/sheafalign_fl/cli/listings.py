"""What `sheafalign check`, `sheafalign encoders` and `sheafalign data` print."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.data.description import SourceInfo
from sheafalign_fl.data.inspection import Inspection, label_counts
from sheafalign_fl.data.own.axes import understood
from sheafalign_fl.data.registry import source_info, sources
from sheafalign_fl.labels import known
from sheafalign_fl.numbers import count_of, exact, human_bytes, percent
from sheafalign_fl.report.content import MOST_ROWS, Cells, Table
from sheafalign_fl.report.tables import print_table

if TYPE_CHECKING:  # torch, which a list of data sources does without
    from sheafalign_fl.engines.check import Checked
    from sheafalign_fl.engines.suggestion import Suggestion


def print_checked(checked: "Checked", console: Console) -> None:
    """Print an experiment that could run: its clients, its graph, and what training would cost."""
    settings, topology = checked.settings, checked.topology
    clients = tuple(
        (
            manifest.name,
            manifest.modality,
            manifest.encoder,
            " × ".join(map(str, manifest.input_shape)),
            str(manifest.dim),
            exact(manifest.parameters),
            exact(sum(len(ids) for ids in manifest.events.values())),
        )
        for manifest in checked.manifests.values()
    )
    columns = ("client", "modality", "encoder", "input", "d", "parameters", "events")
    print_table(_first(Table("Clients", columns, clients, text_columns=4)), console)
    edges: tuple[Cells, ...] = tuple(
        (
            f"{edge.source} – {edge.target}",
            str(edge.dim),
            *(
                exact(int(checked.agreement.shared(edge, name).sum()))
                for name in ("train", "validation", "test")
            ),
        )
        for edge in topology.edges
    )
    print_table(
        _first(Table("Edges", ("edge", "d_e", "train", "validation", "test"), edges)), console
    )
    if left_out := checked.agreement.why_not_measured(settings.evaluation.metrics):
        console.print(Text(f"note: {left_out}"))
    if settings.init_from is not None:
        for manifest in checked.manifests.values():
            start = f"starts from {manifest.start}" if manifest.start else "starts anew"
            console.print(Text(f"note: {manifest.name} {start}"))
    for line in checked.warnings:
        console.print(Text(f"careful: {line}", style="yellow"))
    most = max(checked.replay_bytes.values())
    if most:
        console.print(
            Text(
                f"note: for replay a client remembers {human_bytes(most)} at most "
                "(training.replay_batches)"
            )
        )
    exchanges, each = settings.training.exchanges, checked.payload_per_exchange
    console.print(
        Text(
            f"{settings.name} can run: {count_of(exchanges, 'exchange')} of {human_bytes(each)} "
            f"payload, {human_bytes(each * exchanges)} ({exact(each * exchanges)} bytes) in all "
            "where no event is missing."
        )
    )


def print_encoders(batch: int, console: Console) -> None:
    """Print the built-in encoders and what `batch` events cost on this machine, measured now."""
    from sheafalign_fl.encoders.table import DIM, encoder_costs

    rows = tuple(
        (
            cost.info.name,
            cost.info.made_for,
            " or ".join(cost.info.shapes),
            " × ".join(map(str, cost.info.example)),
            exact(cost.parameters),
            f"{cost.forward_ms:.1f}",
            f"{cost.step_ms:.1f}",
        )
        for cost in encoder_costs(batch)
    )
    columns = ("encoder", "made for", "input", "example", "parameters", "ms", "step, ms")
    note = (
        f"{DIM} outputs. ms: a forward pass of {exact(batch)} events on one thread of this "
        "machine, now; step: with the backward pass. Your own encoder: a dotted path, "
        "package.module:factory"
    )
    print_table(Table("Encoders", columns, rows, text_columns=4, note=note), console)


def print_inspection(inspection: Inspection, suggestion: "Suggestion", console: Console) -> None:
    """Print what a folder of recordings holds, what is wrong, and a configuration for it."""
    total = inspection.events
    console.print(Text(f"read as {inspection.source}: {count_of(total, 'event')}\n"))
    if inspection.clocks:
        print_table(_clocks_seen(inspection), console)
    if inspection.modalities:
        print_table(_modalities_seen(inspection, total), console)
    if inspection.pairs:
        rows = tuple(
            (f"{pair.first} – {pair.second}", *(exact(pair.shared[split]) for split in SPLITS))
            for pair in inspection.pairs
        )
        print_table(Table("Events that both have", ("pair", *SPLITS), rows), console)
    if labels := _labels_seen(inspection):
        print_table(
            Table("Labels", ("label", "events of each class"), labels, text_columns=2), console
        )
    for line in (*_data_notes(inspection), *inspection.notes, *suggestion.notes):
        console.print(Text(f"note: {line}"))
    for line in inspection.warnings:
        console.print(Text(f"careful: {line}", style="yellow"))
    wrong = [*_wrong(inspection), *suggestion.problems]
    for line in wrong:
        console.print(Text(f"wrong: {line}", style="red"))
    if not wrong:
        console.print(Text("nothing is wrong; this configuration runs:", style="green"))
        console.print(Text(suggestion.yaml()))


def _data_notes(inspection: Inspection) -> list[str]:
    """Return what the loaded data says of itself, each line once, with the modalities it is for."""
    notes: dict[str, list[str]] = {}
    for name, data in inspection.modalities.items():
        for note in data.notes:
            notes.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in notes.items()]


def _wrong(inspection: Inspection) -> list[str]:
    wrong = [f"{name}: {problem}" for name, problem in inspection.problems.items()]
    return wrong + [
        f"{pair.first} – {pair.second}: {pair.problem}" for pair in inspection.pairs if pair.problem
    ]


def _clocks_seen(inspection: Inspection) -> Table:
    rows = tuple(
        (
            name,
            exact(clock.samples),
            f"{clock.rate:.4g}",
            f"{clock.span:.6g}",
            f"{1000 * clock.jitter:.3g}",
            exact(clock.gaps),
            f"{clock.longest:.4g}",
            exact(clock.duplicates),
            exact(clock.unordered),
        )
        for name, clock in inspection.clocks.items()
    )
    columns = ("modality", "samples", "Hz", "span, s", "jitter, ms", "gaps", "longest, s")
    note = (
        "Hz: by the median interval; jitter: 95 % of the intervals differ from it by no more; gap: "
        "three intervals and longer; equal, turned: samples at the time of another one, before "
        "their predecessor"
    )
    return Table("Clocks", (*columns, "equal", "turned"), rows, note=note)


def _modalities_seen(inspection: Inspection, total: int) -> Table:
    rows = tuple(
        (
            name,
            data.encoder or "auto",
            " × ".join(map(str, data.input_shape)),
            understood(data.input_shape) if data.encoder is None else "",
            exact(len(data)),
            percent(1 - len(data) / total),
            *(exact(len(data.ids_of(split))) for split in SPLITS),
        )
        for name, data in inspection.modalities.items()
    )
    return Table(
        "Modalities",
        ("modality", "encoder", "input", "read as", "events", "missing %", *SPLITS),
        rows,
        text_columns=4,
    )


def _labels_seen(inspection: Inspection) -> tuple[Cells, ...]:
    """Return the balance of every label, as the modality with the most labelled events has it."""
    rows: list[Cells] = []
    names = dict.fromkeys(name for data in inspection.modalities.values() for name in data.labels)
    for name in names:
        holders = [data for data in inspection.modalities.values() if name in data.labels]
        counts = label_counts(
            max(holders, key=lambda data: int(known(data.labels[name]).sum())), name
        )
        shown = [f"{kind} {exact(count)}" for kind, count in counts.items()]
        if len(shown) > MOST_ROWS:
            shown = [
                f"{len(counts)} classes of {min(counts.values())} to {max(counts.values())} events"
            ]
        rows.append((name, ", ".join(shown)))
    return tuple(rows)


def print_sources(console: Console) -> None:
    """Print the built-in data sources."""
    rows = tuple((info.name, info.summary) for info in sources().values())
    print_table(Table("Data sources", ("source", "what it is"), rows, text_columns=2), console)
    console.print(
        "Your own: a dotted path, package.module:factory. More: sheafalign data describe NAME",
        markup=False,
    )


def print_source(name: str, console: Console) -> None:
    """Print one built-in data source: modalities, options, labels, origin.

    Raises
    ------
    ConfigError
        There is no such source.
    """
    info = source_info(name)
    console.print(Text(info.name, style="bold"), Text(info.summary))
    console.print(Text(f"origin: {info.origin}\n"))
    for table in _source_tables(info):
        if table.rows:
            print_table(table, console)


def _source_tables(info: SourceInfo) -> tuple[Table, ...]:
    modalities = tuple((item.name, item.shape, item.meaning) for item in info.modalities)
    labels = tuple((item.name, ", ".join(item.classes), item.meaning) for item in info.labels)
    options = tuple(
        (
            item.name,
            item.kind,
            "must be given" if item.default is None else str(item.default),
            item.meaning,
        )
        for item in info.options
    )
    return (
        Table("Modalities", ("modality", "shape", "meaning"), modalities, text_columns=3),
        Table("Labels", ("label", "classes", "meaning"), labels, text_columns=3),
        Table("Options", ("option", "type", "default", "meaning"), options, text_columns=4),
    )


def _first(table: Table) -> Table:
    """Return the table with its first rows only, if it is long."""
    if len(table.rows) <= 2 * MOST_ROWS:
        return table
    note = f"the first {MOST_ROWS} of {exact(len(table.rows))} rows"
    return Table(
        table.title, table.columns, table.rows[:MOST_ROWS], table.summary, table.text_columns, note
    )
