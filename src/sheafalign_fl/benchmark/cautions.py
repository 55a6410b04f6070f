"""What a reader has to know of a benchmark, and what weakens its figures."""

from collections import Counter

from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.statistics import ENOUGH_SEEDS, LEVEL
from sheafalign_fl.benchmark.summaries import data_sets, entries
from sheafalign_fl.benchmark.tables import on_border, title_of
from sheafalign_fl.numbers import count_of, duration


def facts_of(benchmark: Benchmark) -> list[tuple[str, str]]:
    """Return what a reader has to know to trust or repeat the benchmark."""
    seeds = sorted({cell.seed for cell in benchmark.cells})
    return [
        ("commit", benchmark.commit or "unknown"),
        (
            "versions",
            ", ".join(f"{name} {version}" for name, version in benchmark.versions.items()),
        ),
        ("runs", count_of(len(benchmark.cells), "cell")),
        ("seeds", ", ".join(map(str, seeds))),
        (
            "looks",
            f"{benchmark.looks}; each has its part of the {100 * LEVEL:.0f} % that verdicts may be "
            "wrong",
        ),
        ("wall time", duration(benchmark.seconds)),
        ("tuning", f"maximises {benchmark.criterion}"),
    ]


def warnings_of(benchmark: Benchmark) -> list[str]:
    """Return what weakens the figures, a sentence each; none where all is well."""
    return [*_of_seeds(benchmark), *_of_tuning(benchmark), *_of_fits(benchmark)]


def _of_seeds(benchmark: Benchmark) -> list[str]:
    """Return whether there are too few seeds, or one of them twice."""
    found = [entry for data in data_sets(benchmark) for entry in entries(benchmark, data)]
    seeds = [
        (f"{entry.name} on {entry.data}", [cell.seed for cell in entry.cells]) for entry in found
    ]
    few = [name for name, own in seeds if len(set(own)) < ENOUGH_SEEDS]
    twice = [name for name, own in seeds if len(set(own)) < len(own)]
    texts = []
    if few:
        whose = "all" if len(few) == len(seeds) > 1 else "; ".join(few)
        texts.append(f"Fewer than {ENOUGH_SEEDS} seeds, so what rests on them is open: {whose}.")
    if twice:
        texts.append(
            "A seed is there twice, so means and deviations are not over seeds: "
            f"{'; '.join(twice)}."
        )
    return texts


def _of_tuning(benchmark: Benchmark) -> list[str]:
    """Return which tuning told nothing apart, chose from the border, or had another budget."""
    tuned = [item for item in benchmark.tuning if len(item.trials) > 1]
    flat = [title_of(item) for item in tuned if len({trial.score for trial in item.trials}) == 1]
    told = [item for item in tuned if title_of(item) not in flat]
    border = Counter(key for item in told for key, _, _ in on_border(item))
    tried = Counter(key for item in told for key in item.trials[0].settings)
    texts = []
    if flat:
        texts.append(
            "All trials scored the same, so tuning chose nothing and took the first: "
            f"{'; '.join(flat)}."
        )
    if border:
        keys = ", ".join(
            f"{key} in {count} of {tried[key]} choices" for key, count in border.items()
        )
        texts.append(
            f"Chosen from the border of the grid, so a better value may lie beyond it: {keys}."
        )
    for data in dict.fromkeys(item.data for item in tuned):
        counts = {len(item.trials) for item in tuned if item.data == data}
        if len(counts) > 1:
            texts.append(
                f"Methods on {data} were tuned with {min(counts)} to {max(counts)} trials, so not "
                "with an equal budget."
            )
    return texts


def _of_fits(benchmark: Benchmark) -> list[str]:
    """Return how many classifiers had not converged."""
    short = [
        (f"{entry.name} on {data}", sum(cell.unconverged or 0 for cell in entry.cells))
        for data in data_sets(benchmark)
        for entry in entries(benchmark, data)
    ]
    if not (named := [f"{name} ({count})" for name, count in short if count]):
        return []
    return [
        "Classifiers that had not converged when their iterations were used up, so that their "
        f"accuracy may differ on another machine: {'; '.join(named)}."
    ]
