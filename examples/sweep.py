"""A sweep over settings in a loop: ``python examples/sweep.py OUT_FOLDER``.

What is chosen is chosen on validation events. For many methods, seeds and data sets at once there
is ``sheafalign compare``.
"""

import sys
from pathlib import Path

import sheafalign_fl as sf

BASE = {
    "data": {"source": "scenes", "options": {"events": 800}},
    "clients": {name: {"dim": 24} for name in ("lidar", "beam", "gps")},
    "graph": {"dim": 12},
    "evaluation": {"metrics": ["retrieval"], "split": "validation", "every": 0},
}


class Progress(sf.Callback):
    """Prints a line when a run ends."""

    def on_end(self, run: sf.Run) -> None:
        """Print the run's folder."""
        print(f"done: {run.path}")


def recall(run: sf.Run) -> float:
    """Return the mean R@10 of a run."""
    rows = run.quality.retrieval if run.quality is not None else ()
    return sum(row.recall_at_10 for row in rows) / len(rows)


def main(out: str) -> None:
    """Try two temperatures at two rates and print the best."""
    found = {}
    for temperature in (0.1, 0.3):
        for rate in (1e-3, 3e-3):
            run = sf.run(
                BASE,
                Path(out) / f"tau-{temperature}-rate-{rate}",
                [Progress()],
                objective={"temperature": temperature},
                training={"learning_rate": rate, "exchanges": 25, "batch_size": 64},
            )
            found[temperature, rate] = recall(run)
    best = max(found, key=found.__getitem__)
    print(f"best: temperature {best[0]}, learning rate {best[1]}: R@10 {100 * found[best]:.1f} %")


if __name__ == "__main__":
    main(sys.argv[1])
