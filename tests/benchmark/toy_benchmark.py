"""A benchmark of seconds: two views of a toy latent, few exchanges; a pool in this process."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sheafalign_fl.benchmark import jobs
from sheafalign_fl.benchmark.plan import Plan, load_plan
from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.sweep import Sweep
from sheafalign_fl.config.methods import merge
from strategies import server_app

TOY: dict[str, Any] = {
    "name": "toy",
    "data": {"source": "tests.toy:source", "options": {"events": 160}},
    "clients": {"m0": {"dim": 6}, "m1": {"dim": 6}},
    "training": {"exchanges": 4, "batch_size": 16},
    "evaluation": {"every": 2, "events": 30},
    "checkpoint": {"every": 2},
    "methods": {"lean": {"graph": {"dim": 3}}, "clip-pairs": {"method": "clip-pairs"}},
}


def write_benchmark(folder: Path, **changes: Any) -> Path:
    """Write the toy benchmark with `changes` laid over it; return its path.

    A change of None takes the key away.
    """
    content = merge(TOY, changes)
    content |= {
        key: changes[key] for key in ("methods", "data", "clients") if key in changes
    }  # others, not further ones
    path = folder / "toy.yaml"
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return path


def toy_plan(folder: Path, *, fast: bool = False, **changes: Any) -> Plan:
    """Return the plan of the toy benchmark with `changes`, as --quick has it if `fast`."""
    return load_plan(write_benchmark(folder, **changes), quick=fast)


class Watcher:
    """A sweep's progress, written down."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int]] = []
        self.names: list[str] = []

    def phase(self, name: str, total: int, done: int) -> None:
        self.phases.append((name, total, done))

    def finished(self, name: str) -> None:
        self.names.append(name)


class HerePool:
    """Stands for a pool of processes, whose start takes seconds; does jobs at once, in this one."""

    def __init__(self, *_: object, **__: object) -> None:
        self._processes: dict[int, Any] = {}

    def submit(self, function: Callable[..., str], *arguments: str) -> "Future[str]":
        future: Future[str] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # as a pool hands on whatever a worker raises
            future.set_exception(error)
        return future

    def shutdown(self, *_: object, **__: object) -> None:
        pass


@contextmanager
def no_processes() -> Iterator[None]:
    """Let sweeps run in this process, and without reports, which take longer than the runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_app, "draw_report", lambda _: None)
        patch.setattr(jobs, "ProcessPoolExecutor", HerePool)
        yield


def run_here(plan: Plan, seeds: list[int], out: Path, watcher: Watcher | None = None) -> Benchmark:
    """Run a sweep in this process and return what came of it."""
    with no_processes():
        return Sweep([plan], seeds, out, 1, watcher or Watcher()).run()
