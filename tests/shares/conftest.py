"""A small run on recordings in units of their own, and what was recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import sheafalign_fl as sf
from sheafalign_fl.engines.check import check
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.node import Node
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.runs.folder import RunFolder
from strategies import server_app

EVENTS = 600


@dataclass(frozen=True)
class Recorded:
    """A run and its raw recordings, event k in row k."""

    path: Path
    x: Mapping[str, NDArray[Any]]
    label: NDArray[np.int64]
    split: NDArray[Any]

    def rows(self, split: str) -> NDArray[np.intp]:
        """Return the rows of a split."""
        return np.flatnonzero(self.split == split)

    def raw(self, client: str, split: str) -> NDArray[Any]:
        """Return a client's raw recordings of a split."""
        return self.x[client][self.rows(split)]

    def node(self, client: str) -> Node:
        """Return the client's learner as it was after the last exchange."""
        folder = RunFolder(self.path)
        settings = folder.settings()
        agreement = check(settings).agreement.for_client(client, build_topology(settings))
        node = Node(client, settings, client_data(client, settings), agreement)
        node.load_state(folder.load_client(settings.training.exchanges, client))
        return node


def recordings() -> dict[str, Any]:
    """Return views of a shared latent: a camera, an inertial sensor and a thermometer."""
    rng = np.random.default_rng(7)
    latent = rng.normal(size=(EVENTS, 4))
    label = (latent[:, 0] > 0).astype(np.int64) + 2 * (latent[:, 1] > 0)
    camera = np.tanh(latent @ rng.normal(size=(4, 2 * 8 * 8))).reshape(EVENTS, 8, 8, 2)
    camera = 128 + 60 * camera + rng.normal(size=camera.shape)
    imu = (latent @ rng.normal(size=(4, 3 * 16))).reshape(EVENTS, 3, 16)
    thermometer = 290 + 5 * latent @ rng.normal(size=(4, 6)) + 0.1 * rng.normal(size=(EVENTS, 6))
    split = np.repeat(["train", "validation", "test"], [360, 80, 160])
    return {
        "x": {
            "camera": camera.round().clip(0, 255).astype(np.uint8),
            "imu": (9.81 * imu).astype(np.float32),
            "thermometer": thermometer,
        },
        "label": label,
        "split": split,
    }


def configuration(folder: Path, **sections: Any) -> dict[str, Any]:
    """Return settings over the recordings, written to `folder`."""
    made = recordings()
    data = sf.save_arrays(
        folder,
        made["x"],
        labels=made["label"],
        split=made["split"],
        layout={"camera": "HWC"},
    )
    return {
        "name": "street",
        "data": data,
        "clients": {"camera": {"dim": 16}, "imu": {"dim": 12}, "thermometer": {"dim": 8}},
        "graph": {"dim": 6},
        # Plain, whatever the default method prescribes: what is tested is what follows training.
        "objective": {"variance": 0.0, "covariance": 0.0, "label_smoothing": 0.0},
        "training": {
            "exchanges": 40, "batch_size": 64, "learning_rate": 0.003,
            "decay": "none", "warmup": 0.0, "clip": None, "replay": 0,
        },
        "evaluation": {"every": 0, "metrics": ["retrieval"]},
        **sections,
    }  # fmt: skip


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Train once for all of these tests."""
    folder = tmp_path_factory.mktemp("shares")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_app, "draw_report", lambda _: None)
        sf.run(configuration(folder / "recordings"), folder / "run")
    return Recorded(folder / "run", **recordings())
