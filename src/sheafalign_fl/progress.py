"""A progress bar that reads along in the run folder, so that it is the same for every engine."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

_LOOK_SECONDS = 0.25


@contextmanager
def follow(metrics: Path, exchanges: int, console: Console) -> Iterator[None]:
    """Show a bar of the exchanges in `metrics` (a metrics.jsonl that may not exist yet) while the block runs."""
    stop = threading.Event()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=exchanges, facts="")
        thread = threading.Thread(
            target=lambda: _watch(metrics, stop, lambda **facts: progress.update(task, **facts)),
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield SweepProgress(progress)


@contextmanager
def count_progress(name: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal while the block runs; what it yields is called with how many of `total` are done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.update(task, completed=count)


def _watch(metrics: Path, stop: threading.Event, update: Any) -> None:
    position, facts = 0, {"loss": "", "R@10": ""}
    while not stop.wait(_LOOK_SECONDS):
        if not metrics.exists():
            continue
        if metrics.stat().st_size < position:
            position = 0
        with metrics.open(encoding="utf-8") as file:
            file.seek(position)
            while (line := file.readline()).endswith("\n"):
                position = file.tell()
                row = json.loads(line)
                _take(row, facts)
                if row["kind"] == "exchange":
                    update(
                        completed=row["exchange"] + 1,
                        description="exchanges",
                        facts="  ".join(
                            f"{name} {value}" for name, value in facts.items() if value
                        ),
                    )


def _take(row: dict[str, Any], facts: dict[str, str]) -> None:
    if row["kind"] == "exchange" and row["losses"]:
        # The mean over directed edges, each as its own end sees it.
        facts["loss"] = f"{sum(loss['total'] for loss in row['losses']) / len(row['losses']):.3f}"
    if row["kind"] == "evaluation" and row["quality"]["retrieval"]:
        recalls = [direction["recall_at_10"] for direction in row["quality"]["retrieval"]]
        facts["R@10"] = f"{100 * sum(recalls) / len(recalls):.1f} %"
