"""From recordings to a search and a sensor that is stood in for: ``python ... OUT_FOLDER``."""

import sys
from pathlib import Path

import numpy as np

import sheafalign_fl as sf


def main(out: str) -> None:
    """Train three sensors, find a sound by its picture, and answer while a sensor is broken."""
    rng = np.random.default_rng(0)
    scene = rng.normal(size=(1200, 5))
    names = ("camera", "lidar", "radar")
    x = {name: 50 + 20 * np.tanh(scene @ rng.normal(size=(5, 24))) for name in names}
    label = np.where(scene[:, 0] > 0, "blocked", "free")
    split = np.repeat(["train", "validation", "test"], [800, 100, 300])
    data = sf.save_arrays(Path(out) / "recordings", x, labels=label, split=split)
    training = {"exchanges": 150, "batch_size": 64}
    sf.run({"data": data, "clients": list(names), "training": training}, Path(out) / "run")

    model = sf.load_model(Path(out) / "run")
    new = {name: values[900:] for name, values in x.items()}
    found = model.search(query=("camera", new["camera"]), gallery=("lidar", new["lidar"]), k=10)
    hits = (found.rows == np.arange(300)[:, None]).any(axis=1).mean()
    broken = model.impute("lidar", {"camera": new["camera"], "radar": new["radar"]})
    head = model.fit_head(label[:800], {name: values[:800] for name, values in x.items()})
    answer = head.predict({"camera": new["camera"], "radar": new["radar"]})
    print(f"camera finds its LiDAR scan among the first 10 of 300: {hits:.0%}")
    print(f"LiDAR stood in for: {broken.unexplained:.0%} of its variance is left unexplained")
    print(f"answers without LiDAR: {(answer.labels == label[900:]).mean():.0%} right")


if __name__ == "__main__":
    main(sys.argv[1])
