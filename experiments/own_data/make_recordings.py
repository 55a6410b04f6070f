"""Write a small folder of recordings, as you would write your own.

Use: ``python -m experiments.own_data.make_recordings DIR``. A machine is watched by a microphone
(1-D signals), a thermal camera (images) and a controller (vectors). Some events are missing for
some sensors, as in life.
"""

import sys
from pathlib import Path

import numpy as np


def make_recordings(folder: Path, events: int = 600, seed: int = 0) -> None:
    """Write microphone.npz, thermal.npz and controller.npz into `folder`.

    Each holds arrays x, event_id, split and label.
    """
    rng = np.random.default_rng(seed)
    load, speed = rng.uniform(0.0, 1.0, events), rng.uniform(0.5, 1.5, events)
    event_id = np.array([f"run-{index:04d}" for index in range(events)])
    label = np.where(load > 0.5, "heavy", "light")
    split = np.select(
        [np.arange(events) % 10 < 7, np.arange(events) % 10 == 7], ["train", "validation"], "test"
    )
    time = np.linspace(0, 1, 64)
    sound = np.sin(2 * np.pi * 8 * speed[:, None] * time) * (0.3 + load[:, None])
    rows, columns = np.mgrid[0:12, 0:12]
    spot = np.exp(
        -((rows - 3 - 6 * load[:, None, None]) ** 2 + (columns - 6 * speed[:, None, None]) ** 2) / 8
    )
    sensors = {
        "microphone": sound[:, None, :] + 0.05 * rng.standard_normal((events, 1, 64)),
        "thermal": spot[:, None] + 0.05 * rng.standard_normal((events, 1, 12, 12)),
        "controller": np.stack([load, speed, load * speed], axis=1)
        + 0.03 * rng.standard_normal((events, 3)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, x in sensors.items():
        seen = rng.random(events) > 0.05
        np.savez(
            folder / f"{name}.npz",
            x=x[seen],
            event_id=event_id[seen],
            split=split[seen],
            label=label[seen],
        )


if __name__ == "__main__":
    make_recordings(Path(sys.argv[1]))
