"""Running a benchmark: tuning, cells, and further seeds of what is still open.

Finished runs are kept, interrupted ones gone on with.

::

    OUT/
      tuning/DATA/METHOD/DIGEST/       a run folder for each trial; SEED-DIGEST where each seed is
                                       tuned for itself
      cells/DATA/METHOD/SEED-DIGEST/   a run folder for each cell
      benchmark.json  benchmark.csv  benchmark.html
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from sheafalign_fl.benchmark.claims import claims
from sheafalign_fl.benchmark.collect import collect, tuning_score
from sheafalign_fl.benchmark.jobs import Budget, Job, Progress, run_in_processes
from sheafalign_fl.benchmark.plan import CRITERION, MethodPlan, Plan, Point
from sheafalign_fl.benchmark.results import Benchmark, Trial, Tuning, load_benchmark
from sheafalign_fl.benchmark.statistics import ENOUGH_SEEDS
from sheafalign_fl.config import Settings
from sheafalign_fl.errors import RunError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.versions import versions

_DIGITS = 10
"""Of a digest, in a folder's name."""
Key = tuple[str, str]
"""Data set and method."""
Trials = list[tuple[Point, Job]]


class Sweep:
    """All runs of a benchmark."""

    def __init__(
        self,
        plans: Sequence[Plan],
        seeds: Sequence[int],
        out: Path,
        jobs: int,
        progress: Progress,
        *,
        until_settled: bool = False,
        minutes: float | None = None,
    ) -> None:
        """Run `plans` with `seeds` into folder `out`, `jobs` runs at a time, a processor each.

        Parameters
        ----------
        until_settled
            Begin with as many seeds as a verdict needs, and take the further ones, as many at a
            time, only for claims which are open then.
        minutes
            Begin no run after so many; None: no limit.
        """
        self._methods = [method for plan in plans for method in plan.methods]
        self._out, self._jobs, self._progress = out.resolve(), jobs, progress
        step = ENOUGH_SEEDS if until_settled else len(seeds)
        self._stages = [list(seeds[at : at + step]) for at in range(0, len(seeds), step)]
        self._budget = Budget(minutes)
        self._choices: dict[tuple[str, str, int | None], Point] = {}
        self.left = 0
        """Runs that the last stage lacks, because the minutes were over."""

    def run(self) -> Benchmark:
        """Tune every method, run every cell that is needed, and write ``benchmark.json``.

        Raises
        ------
        RunError
            Some run failed; all others have been finished and kept. Or not one cell was finished
            when the minutes were over.
        """
        started, before = time.monotonic(), self._earlier_seconds()
        wanted: list[tuple[MethodPlan, int]] = []
        methods = self._methods
        for stage, seeds in enumerate(self._stages):
            wanted += [(method, seed) for seed in seeds for method in methods]
            self._run_stage(wanted, f" of stage {stage + 1}" if stage else "")
            benchmark = self._written(wanted, before + time.monotonic() - started)
            methods = self._open(benchmark)
            if self.left or not methods:
                break
        return benchmark

    def _run_stage(self, wanted: Sequence[tuple[MethodPlan, int]], of: str) -> None:
        """Run what is not done of all that is wanted by now: trials first, then cells."""
        tuned = self._tuned(wanted)
        for number in range(max((method.rounds for method, _ in tuned), default=1)):
            # Those that need no more rounds, or whose last one is not done, have no further trials.
            trials = [job for method, seed in tuned for _, job in self._trials(method, seed)]
            again = f", round {number + 1}" if number else ""
            self.left = self._run_all(f"tuning{of}{again}", trials)
        cells = [job for method, seed in wanted if (job := self._cell(method, seed)) is not None]
        self.left += self._run_all(f"cells{of}", cells) + len(wanted) - len(cells)

    def _tuned(
        self, wanted: Iterable[tuple[MethodPlan, int]]
    ) -> list[tuple[MethodPlan, int | None]]:
        """Return what has to be tuned, and for which seed, in the order of the plans."""
        needed = {
            (method.data, method.tuned_as or method.method, seed if method.per_seed else None)
            for method, seed in wanted
        }
        seeds = list(dict.fromkeys(seed for _, seed in wanted))
        return [
            (method, seed)
            for method in self._methods
            for seed in (seeds if method.per_seed else (None,))
            if (*_key(method), seed) in needed and len(method.points()) > 1
        ]

    def _open(self, benchmark: Benchmark) -> list[MethodPlan]:
        """Return the methods whose cells an open claim rests on."""
        needed = {
            (claim.data, method)
            for claim in claims(benchmark)
            if claim.verdict == "open"
            for method in claim.methods
        }
        return [method for method in self._methods if _key(method) in needed]

    def _written(self, wanted: Sequence[tuple[MethodPlan, int]], seconds: float) -> Benchmark:
        """Return what is done by now as a benchmark, method by method, and write it down.

        A failed run has raised before, so what is not done was not begun in time.
        """
        ordered = sorted(wanted, key=lambda item: self._methods.index(item[0]))
        done = [
            (method, seed, job)
            for method, seed in ordered
            if (job := self._cell(method, seed)) is not None and job.done()
        ]
        if not done:
            raise RunError("the minutes were over before a cell was finished; give more of them")
        found = versions()
        commit = found.pop("commit")
        benchmark = Benchmark(
            commit=commit,
            versions={name: version for name, version in found.items() if version is not None},
            criterion=CRITERION,
            seconds=seconds,
            looks=len(self._stages),
            cells=tuple(
                collect(method, self._chosen(method, seed) or {}, RunFolder(job.folder), self._out)
                for method, seed, job in done
            ),
            tuning=tuple(
                Tuning(data=method.data, method=method.method, seed=seed, trials=_scored(trials))
                for method, seed in self._tuned(wanted)
                for trials in [self._trials(method, seed)]
                if all(job.done() for _, job in trials)
            ),
        )
        write_atomically(self._out / "benchmark.json", benchmark.model_dump_json(indent=1).encode())
        return benchmark

    def _earlier_seconds(self) -> float:
        path = self._out / "benchmark.json"
        return load_benchmark(path).seconds if path.is_file() else 0.0

    def _trials(self, method: MethodPlan, seed: int | None) -> Trials:
        """Return the trials of a method so far: those of all rounds up to the first one not done.

        With seed 0 unless each seed is tuned for itself.
        """
        trials: dict[Path, tuple[Point, Job]] = {}
        best: Point = {}
        for number in range(method.rounds):
            new = [self._trial(method, seed, point) for point in method.round(number, best)]
            trials |= {trial[1].folder: trial for trial in new}
            if number + 1 < method.rounds:
                if not all(job.done() for _, job in new):
                    break
                best = _best(new)
        return list(trials.values())

    def _trial(self, method: MethodPlan, seed: int | None, point: Point) -> tuple[Point, Job]:
        folder = self._out / "tuning" / method.data / method.method
        whose, prefix = ("", "") if seed is None else (f" seed {seed}", f"{seed}-")
        settings = _alone(method.trial(point, seed or 0))
        return point, Job(
            f"{method.data} {method.method}{whose} {_text(point)}",
            settings,
            folder / f"{prefix}{settings.digest()[:_DIGITS]}",
        )

    def _chosen(self, method: MethodPlan, seed: int) -> Point | None:
        """Return what tuning has chosen for a cell; None while trials are missing."""
        key = (method.data, method.tuned_as or method.method)
        own = seed if method.per_seed else None
        if (chosen := self._choices.get((*key, own))) is not None:
            return chosen
        tuned = next(item for item in self._methods if _key(item) == key)
        if len(points := tuned.points()) == 1:
            return points[0]
        trials = self._trials(tuned, own)
        if not all(job.done() for _, job in trials):
            return None
        return self._choices.setdefault((*key, own), _best(trials))

    def _cell(self, method: MethodPlan, seed: int) -> Job | None:
        """Return the run of a cell; None while its tuning is not done."""
        if (point := self._chosen(method, seed)) is None:
            return None
        settings = _alone(method.cell(point, seed))
        # Engines are no part of the digest, and a pooled run is another cell than a federated one.
        name = f"{seed}-{settings.digest()[:_DIGITS]}" + (
            "-pooled" if settings.engine == "pooled" else ""
        )
        folder = self._out / "cells" / method.data / method.method / name
        return Job(f"{method.data} {method.method} seed {seed}", settings, folder)

    def _run_all(self, phase: str, jobs: Sequence[Job]) -> int:
        """Run what is not done of `jobs`; return how many were not begun in time."""
        unique = {job.folder: job for job in jobs}
        open_jobs = [job for job in unique.values() if not job.done()]
        self._progress.phase(phase, len(unique), len(unique) - len(open_jobs))
        failures = run_in_processes(open_jobs, self._jobs, self._progress, self._budget)
        if failures:
            name, reason = next(iter(failures.items()))
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise RunError(
                f"{phase}: {name} failed: {reason}{more}; the same command goes on with what is "
                "left"
            )
        return sum(not job.done() for job in open_jobs)


def _key(method: MethodPlan) -> Key:
    return method.data, method.method


def _alone(settings: Settings) -> Settings:
    """Return the settings of a run with one processor that saves no more than its result needs."""
    resources = settings.resources.model_copy(update={"cpus": 1, "threads": 1, "workers": 1})
    checkpoint = settings.checkpoint.model_copy(update={"keep": 1})
    return settings.model_copy(update={"resources": resources, "checkpoint": checkpoint})


def _best(trials: Trials) -> Point:
    """Return the point of the best trial, the first of equals."""
    return max(trials, key=lambda trial: tuning_score(RunFolder(trial[1].folder)))[0]


def _scored(trials: Iterable[tuple[Point, Job]]) -> tuple[Trial, ...]:
    return tuple(
        Trial(settings=dict(point), score=tuning_score(RunFolder(job.folder)))
        for point, job in trials
    )


def _text(point: Point) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in point.items())
