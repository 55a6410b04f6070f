"""`python -m experiments.imputation`: what stands in best for a sensor that is missing.

Four data sets, three seeds. Rows: learnt encoders and maps (sheafalign), one space (clip-pairs),
and untrained encoders whose embeddings are exchanged all the same; all train as in the benchmark,
at one rate. Columns: the accuracy of a probe on all embeddings, with 1 or 2 clients missing,
imputed by ridge regression, by the method's own way (dual maps; in one space the mean), by the
training mean; and, without labels, the share of the variance of the missing embeddings that stays
unexplained.

Runs that are finished are kept in `--out` and not made again, so the program can be stopped.
"""

import argparse
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sheafalign_fl.benchmark.plan import load_plan
from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.config.methods import merge
from sheafalign_fl.engines import launch
from sheafalign_fl.metrics.missing import Missing
from sheafalign_fl.numbers import mean, percent, percent_with_spread
from sheafalign_fl.runs.folder import RunFolder

PLANS = Path(__file__).parent / "benchmark"
EXCHANGES = {"halves": 150, "trio-hard": 150, "watch": 150, "multifeature": 100}
"""Fewer than in the benchmark, so that all of it takes about a quarter of an hour on one core."""
MEASURED: dict[str, Any] = {
    "training": {"learning_rate": 0.003},
    "evaluation": {"every": 0, "metrics": ["missing"], "events": 1000, "train_events": 2000},
    "checkpoint": {"every": 0},
}
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "learnt": ("sheafalign", {}),
    # Steps of this size change no weight by as much as a rounding error; what is sent is sent.
    "untrained": (
        "sheafalign",
        {"training": {"exchanges": 32, "learning_rate": 1e-30, "weight_decay": 0.0}},
    ),
    "one space": ("clip-pairs", {}),
}
"""Row -> the benchmark's method, and what is laid over it."""
SEEDS = (0, 1, 2)


def settings_of(data: str, method: str, seed: int) -> Settings:
    """Return the settings of one run: the benchmark's, shorter and measured briefly."""
    name, own = METHODS[method]
    [plan] = [item for item in load_plan(PLANS / f"{data}.yaml").methods if item.method == name]
    shorter = merge(plan.content, {"training": {"exchanges": EXCHANGES[data]}, "seed": seed})
    return parse_settings(merge(merge(shorter, MEASURED), own), f"{data}, {method}")


def measured(data: str, method: str, seed: int, out: Path) -> tuple[Missing, ...]:
    """Return the rows of one run, which is made unless it is there."""
    folder = RunFolder(out / f"{data}-{method.replace(' ', '-')}-{seed}")
    if not folder.summary.is_file():
        shutil.rmtree(folder.path, ignore_errors=True)
        launch.start(settings_of(data, method, seed), folder.path)
    return folder.load_summary().quality.missing


def table(found: Mapping[tuple[str, str], Sequence[tuple[Missing, ...]]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: mean and spread over seeds, in percent."""
    yield (
        "| data | encoders | all there | ridge, 1 / 2 missing | own way, 1 / 2 missing | "
        "mean, 1 / 2 missing | unexplained by ridge / own way, 1 missing |"
    )
    yield "|---|---|---|---|---|---|---|"
    for (data, method), runs in found.items():
        cells = [
            percent_with_spread(rows[0].imputed for rows in runs),
            *(
                " / ".join(
                    percent_with_spread(getattr(rows[count], way) for rows in runs)
                    for count in (1, 2)
                )
                for way in ("ridge", "imputed", "mean_fill")
            ),
            " / ".join(
                percent(mean(getattr(rows[1], way) for rows in runs))
                for way in ("unexplained", "unexplained_imputed")
            ),
        ]
        yield f"| {data} | {method} | {' | '.join(cells)} |"


def main() -> None:
    """Make what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.imputation", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/imputation"))
    parser.add_argument("--data", nargs="+", choices=EXCHANGES, default=list(EXCHANGES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    given = parser.parse_args()
    cells = [(data, method) for method in given.methods for data in given.data]
    found = {
        (data, method): [measured(data, method, seed, given.out) for seed in given.seeds]
        for data, method in cells
    }
    print("\n".join(table({cell: found[cell] for cell in sorted(found, key=_order)})))


def _order(cell: tuple[str, str]) -> tuple[int, int]:
    data, method = cell
    return list(EXCHANGES).index(data), list(METHODS).index(method)


if __name__ == "__main__":
    main()
