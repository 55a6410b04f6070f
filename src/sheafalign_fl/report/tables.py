"""Tables for the terminal."""

import unicodedata

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from sheafalign_fl.metrics.quality import BUILT_IN
from sheafalign_fl.metrics.registry import METRICS
from sheafalign_fl.numbers import count_of, duration, exact, human_bytes, short_commit
from sheafalign_fl.report.content import (
    GAP,
    Table,
    absence_table,
    departure_table,
    edge_table,
    fault_table,
    purpose_table,
    training_payload,
)
from sheafalign_fl.report.metric_tables import quality_tables
from sheafalign_fl.runs.summary import Summary

_FEW_ABSENCES = 10
_ACTING = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of Unicode that do something, such as escape codes and what turns text around."""


def print_summary(summary: Summary, console: Console) -> None:
    """Print what a run achieved and cost: quality (DESIGN section 5), bytes (section 4), absences.

    Parameters
    ----------
    summary
        The run's `summary.json`. Of federations with many edges, means and the worst and best few
        are shown.
    console
        Where to; made to be read at 80 columns and more.
    """
    console.print(_heading(summary))
    for table in quality_tables(summary.quality):
        print_table(table, console)
    if summary.quality.label is None:
        left_out = ", ".join(name for name in BUILT_IN if METRICS[name].needs_labels)
        console.print(Text(f"No client has labels, so {left_out} are not measured.\n"))
    edges = edge_table(summary.bytes, [client.name for client in summary.clients])
    for table in (purpose_table(summary.bytes), *([edges] if edges is not None else [])):
        print_table(table, console)
    absences = absence_table(summary.absences, most=_FEW_ABSENCES)
    if absences is None:
        console.print("Absences: none; every client took part in every exchange.\n")
    else:
        print_table(absences, console)
    for found in (departure_table(summary.departures), fault_table(summary.faults)):
        if found is not None:
            print_table(found, console)


def print_table(table: Table, console: Console) -> None:
    """Print one table, and an empty line after its note."""
    console.print(rich_table(table))
    if table.note:
        console.print()


def rich_table(table: Table) -> RichTable:
    """Return a table for the terminal; text from data is shown as is, never taken for markup."""
    rich = RichTable(
        box=box.SIMPLE_HEAD,
        title=Text(table.title, style="bold"),
        title_justify="left",
        caption=Text(table.note, style="dim") if table.note else None,
        caption_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        text = index < table.text_columns
        rich.add_column(
            Text(column),
            justify="left" if text else "right",
            overflow="fold",
            no_wrap=not text and index not in table.wide,
        )
    for cells in table.rows:
        rich.add_row(*map(plain, cells), style="dim" if cells == GAP else None)
    if table.summary:
        rich.add_section()
    for cells in table.summary:
        rich.add_row(*map(plain, cells), style="bold")
    return rich


def plain(text: str) -> Text:
    """Return anybody's text for the terminal: neither markup nor control characters act."""
    return Text("".join(map(_shown, text)))


def _shown(char: str) -> str:
    if unicodedata.category(char) not in _ACTING:
        return char
    return " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"


def _heading(summary: Summary) -> Panel:
    resumed = f", resumed {summary.resumed} ×" if summary.resumed else ""
    payload = training_payload(summary.bytes)
    lines = (
        f"{count_of(len(summary.clients), 'client')}, {count_of(len(summary.edges), 'edge')}, "
        f"{count_of(summary.exchanges, 'exchange')} in {duration(summary.seconds)}{resumed}",
        f"training payload {human_bytes(payload)} ({exact(payload)} bytes)",
        f"seed {summary.seed}, engine {summary.engine}, configuration "
        f"{summary.config_digest[:12]}, commit {short_commit(summary.commit)}",
    )
    return Panel(
        Text("\n".join(lines)),
        title=Text(summary.name, style="bold"),
        title_align="left",
        expand=False,
    )
