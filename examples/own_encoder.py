"""An encoder of your own, passed in code: ``python examples/own_encoder.py OUT_FOLDER``."""

import sys
from collections.abc import Sequence

from torch import nn

import sheafalign_fl as sf


def build(input_shape: Sequence[int], dim: int, *, hidden: int = 32) -> nn.Module:
    """Return a module from (B, *input_shape) to (B, dim); dropout anywhere is replayed exactly."""
    size = 1
    for length in input_shape:
        size *= length
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, dim)
    )


def main(out: str) -> None:
    """Let two clients use it; the third keeps the one that its data source recommends."""
    run = sf.run(
        {
            "data": {"source": "scenes", "options": {"events": 600}},
            "clients": {
                "lidar": {"encoder": build, "dim": 32},
                "beam": {"encoder": build, "encoder_options": {"hidden": 16}, "dim": 24},
                "gps": {"dim": 16},
            },
            "graph": {"dim": 12},
        },
        out,
        training={"exchanges": 20, "batch_size": 32},
        evaluation={"metrics": ["retrieval"], "every": 0},
    )
    print(run.metrics)


if __name__ == "__main__":
    main(sys.argv[1])
