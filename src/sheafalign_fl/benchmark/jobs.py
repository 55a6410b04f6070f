"""Runs of a benchmark in processes of their own, as many at a time as there is room for."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sheafalign_fl.config import Settings, parse_settings, to_yaml
from sheafalign_fl.config.reading import read_yaml
from sheafalign_fl.errors import SheafAlignError
from sheafalign_fl.runs.folder import RunFolder


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


class Budget:
    """Minutes after which no run is begun; those that go on by then end by themselves."""

    def __init__(self, minutes: float | None = None) -> None:
        """Begin now; None: no end."""
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def spent(self) -> bool:
        """Return whether the minutes are over."""
        return self._end is not None and time.monotonic() >= self._end


def run_in_processes(
    jobs: Sequence[Job], count: int, progress: Progress, budget: Budget
) -> dict[str, str]:
    """Run jobs, `count` at a time, until `budget` is spent.

    Returns
    -------
    dict
        Name -> reason of those that failed, in the order of `jobs`.
    """
    failures: dict[str, str] = {}
    if not jobs or budget.spent():
        return failures
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(count, len(jobs)), mp_context=context, initializer=_begin)
    try:
        names: dict[Future[str], str] = {}
        coming = iter(jobs)
        waiting: set[Future[str]] = set()
        while True:
            while len(waiting) < count and not budget.spent():
                if (job := next(coming, None)) is None:
                    break
                future = _submitted(pool, job)
                names[future] = job.name
                waiting.add(future)
            if not waiting:
                break
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                if problem := _problem(future):
                    failures[names[future]] = problem
                progress.finished(names[future])
    except KeyboardInterrupt:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return {job.name: failures[job.name] for job in jobs if job.name in failures}


def _submitted(pool: ProcessPoolExecutor, job: Job) -> "Future[str]":
    """Return the run's future, which has failed already where a worker that died broke the pool."""
    try:
        return pool.submit(_run_one, to_yaml(job.settings), str(job.folder))
    except BrokenProcessPool as error:
        failed: Future[str] = Future()
        failed.set_exception(error)
        return failed


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
