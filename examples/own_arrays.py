"""Arrays in memory to a trained federation: ``python examples/own_arrays.py OUT_FOLDER``."""

import sys
from pathlib import Path

import numpy as np

import sheafalign_fl as sf


def main(out: str) -> None:
    """Train two sensors that see the same scenes, and print what they learnt of each other."""
    rng = np.random.default_rng(0)
    scene = rng.normal(size=(1000, 6))
    inputs = {name: np.tanh(scene @ rng.normal(size=(6, 20))) for name in ("thermal", "sonar")}
    data = sf.save_arrays(Path(out) / "recordings", inputs, labels=scene[:, 0] > 0)
    run = sf.run(
        {"data": data, "clients": ["thermal", "sonar"]},
        Path(out) / "run",
        training={"exchanges": 60, "batch_size": 64},
        evaluation={"every": 20},
    )
    print(run.metrics)
    print(f"report: {run.report}")


if __name__ == "__main__":
    main(sys.argv[1])
