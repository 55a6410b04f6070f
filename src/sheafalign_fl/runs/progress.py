"""A progress bar that reads along in the run folder, so that it is the same for every engine."""

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from sheafalign_fl.files import Tail

Count = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows a bar for a name and a total; yields what is told how many are done."""
_LOOK_SECONDS = 0.25
_LEAST_BAR = 10


class TerminalLog(logging.Handler):
    """Prints log lines to the standard error of the moment: above a bar, while one is shown.

    A handler of `logging` keeps the stream that there was when it was made, and so writes into the
    bar, which rich draws on that stream while it gives everybody else another one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print `record`."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # as every handler of logging's: a lost line must not end a run
            self.handleError(record)


@contextmanager
def follow(metrics: Path, exchanges: int | None, console: Console) -> Iterator[Count]:
    """Show a bar of the exchanges in `metrics`, a metrics.jsonl file, while the block runs.

    How many there will be may be unknown before the data is read.

    The file may not exist yet. What this yields adds a bar for something else that is counted
    meanwhile.
    """
    stop = threading.Event()
    columns = (_text("{task.description}"), _bar(), MofNCompleteColumn(), _facts(), _left())
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task("starting", total=exchanges, facts="")
        thread = threading.Thread(
            target=lambda: _watch(metrics, stop, lambda **facts: progress.update(task, **facts)),
            daemon=True,
        )
        thread.start()
        try:
            yield _counting(progress)
        finally:
            stop.set()
            thread.join()


def _counting(progress: Progress) -> Count:
    @contextmanager
    def count(name: str, total: int) -> Iterator[Callable[[int], None]]:
        task = progress.add_task(name, total=total, facts="")
        try:
            yield lambda done: progress.update(task, completed=done)
        finally:
            progress.remove_task(task)

    return count


class SweepProgress:
    """A bar for each phase of a benchmark."""

    def __init__(self, progress: Progress) -> None:
        """Add tasks to `progress`."""
        self._progress, self._task = progress, TaskID(0)

    def phase(self, name: str, total: int, done: int) -> None:
        """Add the bar of a phase of `total` runs, `done` of which were finished before."""
        self._task = self._progress.add_task(name, total=total, completed=done, facts="")

    def finished(self, name: str) -> None:
        """Move the bar by one run."""
        self._progress.update(self._task, advance=1, facts=name)


@contextmanager
def sweep_progress(console: Console) -> Iterator[SweepProgress]:
    """Show how a benchmark goes while the block runs."""
    columns = (
        _text("{task.description}"),
        _bar(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _left(),
        _name(),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        yield SweepProgress(progress)


@contextmanager
def count_progress(name: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal while the block runs.

    What it yields is called with how many of `total` are done.
    """
    columns = (_text("{task.description}"), _bar(), MofNCompleteColumn(), _left())
    quiet = not console.is_terminal
    with Progress(
        *columns, console=console, transient=True, expand=True, disable=quiet
    ) as progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.update(task, completed=count)


def _text(form: str) -> TextColumn:
    return TextColumn(form, table_column=Column(no_wrap=True))


def _bar() -> BarColumn:
    """Return a bar that takes what the other columns leave of a line, of 80 columns too."""
    return BarColumn(bar_width=None, table_column=Column(min_width=_LEAST_BAR, ratio=1))


def _facts() -> TextColumn:
    """Return a column for facts, which are short."""
    return _text("{task.fields[facts]}")


def _name() -> TextColumn:
    """Return a column for the name of a run; it is cut to twice the width of the bar."""
    column = Column(no_wrap=True, overflow="ellipsis", ratio=2)
    return TextColumn("{task.fields[facts]}", table_column=column)


def _left() -> TimeRemainingColumn:
    return TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True))


def _watch(metrics: Path, stop: threading.Event, update: Any) -> None:
    tail, facts = Tail(metrics), {"loss": "", "R@10": ""}
    while not stop.wait(_LOOK_SECONDS):
        lines, _ = tail.lines()
        for row in map(json.loads, lines):
            _take(row, facts)
            if row["kind"] == "exchange":
                told = "  ".join(f"{name} {value}" for name, value in facts.items() if value)
                done = row["exchange"] + 1
                update(completed=done, description="exchanges", facts=told)


def _take(row: dict[str, Any], facts: dict[str, str]) -> None:
    if row["kind"] == "exchange" and row["losses"]:
        # The mean over directed edges, each as its own end sees it.
        facts["loss"] = f"{sum(loss['total'] for loss in row['losses']) / len(row['losses']):.3f}"
    if row["kind"] == "evaluation" and row["quality"]["retrieval"]:
        recalls = [direction["recall_at_10"] for direction in row["quality"]["retrieval"]]
        facts["R@10"] = f"{100 * sum(recalls) / len(recalls):.1f} %"
