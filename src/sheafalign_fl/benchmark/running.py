"""Running a benchmark from its plans to its report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sheafalign_fl.benchmark.jobs import Progress
from sheafalign_fl.benchmark.plan import Plan
from sheafalign_fl.benchmark.report import write_benchmark_report, write_csv
from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.sweep import Sweep
from sheafalign_fl.engines.inprocess import processors
from sheafalign_fl.errors import UserError


def run_benchmark(
    plans: Sequence[Plan],
    seeds: Sequence[int],
    out: Path,
    jobs: int | None,
    progress: Progress,
    only: str | None = None,
    *,
    until_settled: bool = False,
    minutes: float | None = None,
) -> tuple[Benchmark, int]:
    """Run the unfinished cells of `plans` and write the report into `out`.

    Parameters
    ----------
    jobs
        Runs at the same time; None: one for each processor.
    only
        Names of methods, comma-separated; None: all.
    until_settled, minutes
        See `Sweep`.

    Returns
    -------
    Benchmark, int
        What is finished by now, and how many runs were not begun because the minutes were over.

    Raises
    ------
    UserError
        Two plans have one name, or `only` names a method that no plan has.
    RunError
        Some run failed.
    """
    names = [plan.data for plan in plans]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two benchmark files are named '{double}'; give each its own name")
    chosen = _only(plans, only) if only is not None else list(plans)
    sweep = Sweep(
        chosen,
        seeds,
        out,
        jobs or processors(),
        progress,
        until_settled=until_settled,
        minutes=minutes,
    )
    benchmark = sweep.run()
    write_csv(benchmark, out / "benchmark.csv")
    write_benchmark_report(benchmark, out / "benchmark.html")
    return benchmark, sweep.left


def _only(plans: Sequence[Plan], only: str) -> list[Plan]:
    wanted = only.split(",")
    known = {method.method for plan in plans for method in plan.methods}
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(f"--only: no method '{unknown[0]}'; there are {', '.join(sorted(known))}")
    kept = [
        replace(plan, methods=tuple(m for m in plan.methods if m.method in wanted))
        for plan in plans
    ]
    for plan in kept:
        there = {method.method for method in plan.methods}
        if missing := next(
            (m for m in plan.methods if m.tuned_as and m.tuned_as not in there), None
        ):
            raise UserError(
                f"--only: '{missing.method}' is tuned as '{missing.tuned_as}'; name that too"
            )
    return [plan for plan in kept if plan.methods]
