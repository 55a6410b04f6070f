"""Running a benchmark: every cell in a process of its own kind of pool.

Finished cells are kept, interrupted ones gone on with.

::

    OUT/
      tuning/DATA/METHOD/DIGEST/       a run folder for each trial
      cells/DATA/METHOD/SEED-DIGEST/   a run folder for each cell
      benchmark.json  benchmark.csv  benchmark.html
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sheafalign_fl.benchmark.collect import collect, tuning_score
from sheafalign_fl.benchmark.plan import CRITERION, MethodPlan, Plan, Point
from sheafalign_fl.benchmark.results import Benchmark, Trial, Tuning, load_benchmark
from sheafalign_fl.config import Settings, parse_settings, to_yaml
from sheafalign_fl.config.reading import read_yaml
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.versions import versions

_DIGITS = 10
"""Of a digest, in a folder's name."""


class Progress(Protocol):
    """Told how a benchmark goes."""

    def phase(self, name: str, total: int, done: int) -> None:
        """Begin a phase of `total` runs, `done` of which were finished before."""

    def finished(self, name: str) -> None:
        """Take note that the run `name` has ended."""


@dataclass(frozen=True)
class Job:
    """One run of the sweep."""

    name: str
    settings: Settings
    folder: Path

    def done(self) -> bool:
        """Return whether the run has its result."""
        return bool(RunFolder(self.folder).status()["state"] == "completed")


class Sweep:
    """All runs of a benchmark."""

    def __init__(
        self, plans: Sequence[Plan], seeds: Sequence[int], out: Path, jobs: int, progress: Progress
    ) -> None:
        """Run `plans` with `seeds` into folder `out`, `jobs` runs at a time, a processor each."""
        self._methods = [method for plan in plans for method in plan.methods]
        self._seeds, self._out, self._jobs, self._progress = (
            list(seeds),
            out.resolve(),
            jobs,
            progress,
        )

    def run(self) -> Benchmark:
        """Tune every method, run every cell, and write ``benchmark.json``.

        Raises
        ------
        RunError
            Some run failed; all others have been finished and kept.
        """
        started, before = time.monotonic(), self._earlier_seconds()
        tuned = [method for method in self._methods if not method.tuned_as]
        tuning = {
            _key(method): self._trials(method) for method in tuned if len(method.points()) > 1
        }
        self._run_all("tuning", [job for trials in tuning.values() for _, job in trials])
        own = {_key(method): _best(tuning.get(_key(method)), method) for method in tuned}
        chosen = {
            _key(method): own[method.data, method.tuned_as or method.method]
            for method in self._methods
        }
        cells = [
            (method, seed, self._cell(method, chosen[_key(method)], seed))
            for method in self._methods
            for seed in self._seeds
        ]
        self._run_all("cells", [job for _, _, job in cells])
        found = versions()
        commit = found.pop("commit")
        benchmark = Benchmark(
            commit=commit,
            versions={name: version for name, version in found.items() if version is not None},
            criterion=CRITERION,
            seconds=before + time.monotonic() - started,
            cells=tuple(
                collect(method, chosen[_key(method)], RunFolder(job.folder), self._out)
                for method, _, job in cells
            ),
            tuning=tuple(
                Tuning(data=method.data, method=method.method, trials=_scored(tuning[_key(method)]))
                for method in self._methods
                if _key(method) in tuning
            ),
        )
        write_atomically(self._out / "benchmark.json", benchmark.model_dump_json(indent=1).encode())
        return benchmark

    def _earlier_seconds(self) -> float:
        path = self._out / "benchmark.json"
        return load_benchmark(path).seconds if path.is_file() else 0.0

    def _trials(self, method: MethodPlan) -> list[tuple[Point, Job]]:
        folder = self._out / "tuning" / method.data / method.method
        return [
            (
                point,
                Job(
                    f"{method.data} {method.method} {_text(point)}",
                    settings,
                    folder / settings.digest()[:_DIGITS],
                ),
            )
            for point in method.points()
            for settings in [_alone(method.trial(point))]
        ]

    def _cell(self, method: MethodPlan, point: Point, seed: int) -> Job:
        settings = _alone(method.cell(point, seed))
        # Engines are no part of the digest, and a pooled run is another cell than a federated one.
        name = f"{seed}-{settings.digest()[:_DIGITS]}" + (
            "-pooled" if settings.engine == "pooled" else ""
        )
        folder = self._out / "cells" / method.data / method.method / name
        return Job(f"{method.data} {method.method} seed {seed}", settings, folder)

    def _run_all(self, phase: str, jobs: Sequence[Job]) -> None:
        unique = {job.folder: job for job in jobs}
        open_jobs = [job for job in unique.values() if not job.done()]
        self._progress.phase(phase, len(unique), len(unique) - len(open_jobs))
        failures = _in_processes(open_jobs, self._jobs, self._progress.finished)
        if failures:
            name, reason = next(iter(failures.items()))
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise RunError(
                f"{phase}: {name} failed: {reason}{more}; the same command goes on with what is "
                "left"
            )


def _key(method: MethodPlan) -> tuple[str, str]:
    return method.data, method.method


def _alone(settings: Settings) -> Settings:
    """Return the settings of a run with one processor that saves no more than its result needs."""
    resources = settings.resources.model_copy(update={"cpus": 1, "threads": 1, "workers": 1})
    checkpoint = settings.checkpoint.model_copy(update={"keep": 1})
    return settings.model_copy(update={"resources": resources, "checkpoint": checkpoint})


def _in_processes(
    jobs: Sequence[Job], count: int, finished: Callable[[str], None]
) -> dict[str, str]:
    """Run all jobs, `count` at a time; return name -> reason of the failed, in order of `jobs`."""
    failures: dict[str, str] = {}
    if not jobs:
        return failures
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(count, len(jobs)), mp_context=context, initializer=_begin)
    try:
        names: dict[Future[str], str] = {
            pool.submit(_run_one, to_yaml(job.settings), str(job.folder)): job.name for job in jobs
        }
        waiting = set(names)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                if problem := _problem(future):
                    failures[names[future]] = problem
                finished(names[future])
    except KeyboardInterrupt:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return {job.name: failures[job.name] for job in jobs if job.name in failures}


def _problem(future: "Future[str]") -> str:
    try:
        return future.result()
    except Exception as error:  # the worker itself died: killed, or out of memory
        return f"{type(error).__name__}: {error}"


def _begin() -> None:
    """Prepare a worker: nothing on the terminal, one thread for everything."""
    import logging

    from sheafalign_fl.threads import limit_threads

    # The bar of the sweep is on the same terminal; what a run logs is in its run.log.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(capture=True)
    limit_threads(1)


def _run_one(settings_yaml: str, folder: str) -> str:
    """Start or go on with one run, in a worker; return why it failed, or nothing."""
    import shutil

    from sheafalign_fl.engines import launch

    settings, path = parse_settings(read_yaml(settings_yaml)), Path(folder)
    try:
        if RunFolder(path).config.is_file():
            launch.resume(path)
        else:
            shutil.rmtree(
                path, ignore_errors=True
            )  # what is left of a run that was cut off before it had begun
            launch.start(settings, path)
    except SheafAlignError as error:
        return str(error)
    return ""


def _best(trials: Sequence[tuple[Point, Job]] | None, method: MethodPlan) -> Point:
    """Return the point of the best trial, the first of equals; the only point if none was tried."""
    if trials is None:
        return method.points()[0]
    return max(trials, key=lambda trial: tuning_score(RunFolder(trial[1].folder)))[0]


def _scored(trials: Iterable[tuple[Point, Job]]) -> tuple[Trial, ...]:
    return tuple(
        Trial(settings=dict(point), score=tuning_score(RunFolder(job.folder)))
        for point, job in trials
    )


def _text(point: Point) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in point.items())
