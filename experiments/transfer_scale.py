"""What the scale of logistic transfer does to its figure.

``python -m experiments.transfer_scale OUT``

Trains a few methods as the benchmark does, at one rate and temperature, for 120 exchanges, and
measures zero-shot transfer by logistic regression as the product does, on embeddings of length 1,
and after a standardisation by the source's training events. Prints the table of docs/figures.md;
about two minutes on two cores.
"""

import sys
from pathlib import Path

import sheafalign_fl as sf
from sheafalign_fl.benchmark.plan import load_plan
from sheafalign_fl.config.methods import merge
from sheafalign_fl.metrics.base import Column, Numbers, Pair, PairMetric, Score, mean_of
from sheafalign_fl.metrics.classifier import accuracy, fit_classifier
from sheafalign_fl.metrics.vectors import labelled, unit_rows
from sheafalign_fl.numbers import mean, percent

PLANS = Path(__file__).parent / "benchmark"
DATA = ("trio-hard", "halves")
METHODS = ("sheafalign", "clip-pairs", "imagebind")
_SELF = "experiments.transfer_scale:BySource"


class BySource(PairMetric):
    """Logistic transfer with the columns brought to the source's mean and deviation."""

    title = "Logistic transfer, by the source"
    columns = (Column("by the source %", "by_source"),)
    scores = (Score("transfer, by the source", mean_of("by_source")),)
    needs_labels = needs_fit = True

    def measure(self, held: Pair) -> Numbers:
        """Return the accuracy on the target's events."""
        what = f"transfer {held.source} -> {held.target}"
        train, labels = labelled(held.fit_own, held.fit_labels, what)
        test, true = labelled(held.received, held.labels, what)
        fitted = fit_classifier(unit_rows(train), labels, what)
        return {"by_source": accuracy(fitted.predict(unit_rows(test)), true)}


def measure(data: str, method: str, out: Path) -> tuple[float | None, float | None]:
    """Return both accuracies of one run, means over all directions, test events."""
    [plan] = [item for item in load_plan(PLANS / f"{data}.yaml").methods if item.method == method]
    content = merge(
        plan.content,
        {
            "evaluation": {"every": 0, "metrics": ["retrieval", "transfer", _SELF]},
            "training": {"exchanges": 120, "learning_rate": 0.003},
            "objective": {"temperature": 0.2},
        },
    )
    run = sf.run(content, out=out / f"{data}-{method}")
    if (quality := run.quality) is None:
        raise SystemExit(f"{run.path} was not measured")
    by_source = mean(row.by_source for row in quality.rows(_SELF))
    return by_source, mean(row.probe_accuracy for row in quality.transfer)


def main() -> None:
    """Print the table."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m experiments.transfer_scale OUT")
    lines = ["| data | method | by the source | length 1 |", "|---|---|---|---|"]
    for data in DATA:
        for method in METHODS:
            both = measure(data, method, Path(sys.argv[1]))
            lines.append(f"| {data} | {method} | {' | '.join(map(percent, both))} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
