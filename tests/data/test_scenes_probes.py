"""Every pair of sensors shares something that a third lacks.

That is, as far as a linear probe on held-out events can tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.data.scenes import INFO
from sheafalign_fl.data.scenes.world import World, build_world

Values = NDArray[np.floating]
MODALITIES = tuple(modality.name for modality in INFO.modalities)
OPTIONS = {"events": 5000, "dropout": 0.0}


@dataclass(frozen=True)
class Probes:
    """What the five sensors saw of one world, as features, and what was the case in it."""

    world: World
    features: Mapping[str, Values]
    train: NDArray[np.bool_]

    def correlation(self, modality: str, target: Values, where: NDArray[np.bool_]) -> float:
        """Return how a ridge regression's answers on held-out events correlate with the truth."""
        fit, test = self.train & where, ~self.train & where
        features = self.features[modality]
        scaled = (features - features[fit].mean(axis=0)) / (features[fit].std(axis=0) + 1e-6)
        design = np.c_[scaled, np.ones(len(scaled))].astype(np.float64)
        ridge = design[fit].T @ design[fit] + 300 * np.eye(design.shape[1])
        weights = np.linalg.solve(ridge, design[fit].T @ (target[fit] - target[fit].mean()))
        return float(np.corrcoef(design[test] @ weights, target[test])[0, 1])


@pytest.fixture(scope="module")
def probes() -> Probes:
    data = {
        modality: load_modality("scenes", modality, 0, OPTIONS, "test") for modality in MODALITIES
    }
    features = {name: each.x.reshape(len(each), -1) for name, each in data.items()}
    features["camera"] = _colours(data["camera"].x)
    world = build_world(
        0, events=5000, frames=20, horizon=5, night=0.25, fog=0.2, traffic=0.75, trees=0.5
    )
    return Probes(world, features, data["gps"].split == 0)


def _colours(x: Values) -> Values:
    """A coarse picture, and where yellow and red stand out, which is not linear.

    Yellow is the user's mark, red are brake lights.
    """
    coarse = x.reshape(len(x), 3, 8, 3, 16, 3).mean(axis=(3, 5)).reshape(len(x), -1)
    yellow = np.minimum(x[:, 0], x[:, 1]) - x[:, 2]
    red = x[:, 0] - np.maximum(x[:, 1], x[:, 2])
    return np.concatenate(
        [coarse, yellow.max(axis=1), red.max(axis=1), np.sort(red.reshape(len(x), -1))[:, -6:]], 1
    )


def _near(world: World, reach: float) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = (
        (np.abs(world.centre[..., 0]) < reach) & (world.centre[..., 1] < 11) & world.exists
    )
    return near


def _factors(world: World) -> dict[str, tuple[Any, Any]]:
    """Return each factor's value in every event, and the events in which it is asked for."""
    x, y = world.centre[:, 0, 0], world.centre[:, 0, 1]
    always = np.ones(len(world), dtype=bool)
    return {
        "fog": (world.fog, always),
        "standing": ((_near(world, 10) & (world.velocity == 0)).any(axis=1), always),
        "direction": (x / np.hypot(x, y), always),
        "direction in sight": (x / np.hypot(x, y), ~world.blocked),
        "vehicles near": (_near(world, 8).sum(axis=1), always),
        "blocked": (world.blocked, always),
        "trees": (world.trees, always),
        "sign": (np.isfinite(world.reflector[:, 0]), world.blocked),
        "speed": (np.abs(world.velocity[:, 0]), y > 11),
    }


SHARED = {
    ("camera", "lidar"): ("fog", "radar"),
    ("camera", "radar"): ("standing", "lidar"),
    ("camera", "beam"): ("direction in sight", "radar"),
    ("camera", "gps"): ("direction in sight", "radar"),
    ("lidar", "radar"): ("vehicles near", "gps"),
    ("lidar", "beam"): ("blocked", "gps"),
    ("lidar", "gps"): ("trees", "beam"),
    ("radar", "beam"): ("sign", "camera"),
    ("radar", "gps"): ("speed", "lidar"),
    ("beam", "gps"): ("direction", "lidar"),
}


def test_every_pair_has_its_line() -> None:
    assert {frozenset(pair) for pair in SHARED} == {
        frozenset(pair) for pair in combinations(MODALITIES, 2)
    }


@pytest.mark.slow
@pytest.mark.parametrize("pair", SHARED, ids="-".join)
def test_a_pair_shares_what_a_third_lacks(pair: tuple[str, str], probes: Probes) -> None:
    factor, third = SHARED[pair]
    value, where = _factors(probes.world)[factor]
    target = np.asarray(value, dtype=np.float64)
    shared = min(probes.correlation(modality, target, where) for modality in pair)
    # A sensor may guess a little of what it cannot see, such as where the user is from where
    # vehicles are.
    lacking = probes.correlation(third, target, where)
    assert shared >= 0.25
    assert lacking <= shared - 0.15
