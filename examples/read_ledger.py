"""Read a run's ledger, draw where its bytes went: ``python examples/read_ledger.py OUT_FOLDER``."""

import sys
from collections import Counter
from pathlib import Path

from matplotlib.figure import Figure

import sheafalign_fl as sf
from sheafalign_fl.runs.ledger import read_ledger


def main(out: str) -> None:
    """Make a small run, add up its ledger by direction, and save a bar chart beside it."""
    run = sf.run(
        {
            "data": {"source": "scenes", "options": {"events": 600}},
            "clients": {name: {"dim": 24} for name in ("lidar", "beam", "gps")},
            "graph": {"dim": 12},
        },
        Path(out) / "run",
        training={"exchanges": 15, "batch_size": 32},
        evaluation={"metrics": ["retrieval"], "every": 5},
    )
    totals: Counter[tuple[str, str]] = Counter()
    for row in read_ledger(run.path / "ledger.csv"):
        if row.purpose == "train" and row.payload_bytes:
            totals[f"{row.source} → {row.destination}", row.codec] += row.payload_bytes
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([direction for direction, _ in totals], [size / 1000 for size in totals.values()])
    axes.set_xlabel("training payload, kB")
    figure.savefig(Path(out) / "ledger.png", dpi=120)
    print(f"{sum(totals.values())} bytes of training payload; {Path(out) / 'ledger.png'}")


if __name__ == "__main__":
    main(sys.argv[1])
