"""What `experiments.sheaf_value` measures, on sheaves whose answers are known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments import sheaf_value
from experiments.sheaf_value import (
    HALVES,
    Trained,
    after_diffusion,
    harmonic,
    overlap,
    paired,
    probed,
    table,
)
from sheafalign_fl.shares.sheaf import LearntEdge, LearntSheaf

DIM = 6


@dataclass(frozen=True)
class Made(Trained):
    """A federation whose embeddings are given."""

    h: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def embeddings(self, split: str, drift: float = 0.0) -> tuple[Any, NDArray[np.int64]]:
        """Return halves of the events for training and for the test."""
        half = slice(0, 200) if split == "train" else slice(200, 400)
        offset = {name: drift if name == sheaf_value.DRIFTING else 0.0 for name in self.h}
        labels = (self.h["small"][half, 0] > 0).astype(np.int64)
        return {name: h[half] + np.float32(offset[name]) for name, h in self.h.items()}, labels


def made(h: Mapping[str, NDArray[np.float32]], maps: Mapping[tuple[str, str], Tensor]) -> Made:
    edges = tuple(
        LearntEdge(i, j, len(maps[i, j])) for k, i in enumerate(HALVES) for j in HALVES[k + 1 :]
    )
    sheaf = LearntSheaf(HALVES, edges, maps)
    nothing = cast(Any, None)
    return Made(nothing, sheaf, nothing, 0.5, 0.5, h)


def same_for_all() -> dict[str, NDArray[np.float32]]:
    h = np.random.default_rng(0).normal(size=(400, DIM)).astype(np.float32)
    return dict.fromkeys(HALVES, h)


def selecting(first: int, count: int) -> Tensor:
    return torch.eye(DIM)[first : first + count]


def test_what_all_modalities_share_is_harmonic_and_goes_to_every_neighbour() -> None:
    pairs = [(i, j) for i in HALVES for j in HALVES if i != j]
    found = harmonic(made(same_for_all(), dict.fromkeys(pairs, torch.eye(DIM))))
    assert (found["kernel"], found["counted"]) == (DIM, 0)
    assert found["energy in it, true"] == pytest.approx(100, abs=1e-3)
    assert found["energy in it, wrong"] == pytest.approx(100 / 3, abs=8)
    assert found["h^T L h, true over wrong"] == pytest.approx(0, abs=1e-6)
    assert found["z_ik from z_ij"] == pytest.approx(100, abs=1e-3)


def test_what_only_pairs_share_does_not_follow_from_what_other_pairs_share() -> None:
    """Each client has three pairs of coordinates, independent, one for each edge."""
    towards = {("top", "bottom"): 0, ("top", "small"): 2, ("bottom", "small"): 4}
    maps = {pair: selecting(first, 2) for pair, first in towards.items()}
    maps |= {(j, i): P for (i, j), P in maps.items()}
    run = made(same_for_all(), maps)
    assert overlap(run) == pytest.approx(0, abs=0.05)
    assert harmonic(run)["energy in it, true"] == pytest.approx(100, abs=1e-3)


def test_diffusion_moves_a_drifting_sensor_towards_its_neighbours() -> None:
    """Its own embedding, far off, tells nothing; after many steps it tells what theirs do."""
    pairs = [(i, j) for i in HALVES for j in HALVES if i != j]
    run = made(same_for_all(), dict.fromkeys(pairs, torch.eye(DIM)))
    clean, drifting = probed(run, 0.0), probed(run, 50.0)
    assert clean["0 steps"] > 0.9
    assert drifting["0 steps"] < 0.7
    assert drifting["what came alone"] == clean["what came alone"] > 0.9
    diffused = after_diffusion(run.sheaf, run.embeddings("test", 3.0)[0], 200)
    whole = np.mean(list(run.embeddings("test", 3.0)[0].values()), axis=0)
    for h in diffused.values():
        np.testing.assert_allclose(h, whole, atol=1e-4)


def test_tables_show_differences_seed_by_seed() -> None:
    assert paired([3.0, 5.0], [1.0, 2.0]) == "+2.5"
    assert paired([3.0, 1.0], [1.0, 2.0]) == "+0.5 (signs differ)"
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
