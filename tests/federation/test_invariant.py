"""The invariant: one step per exchange equals joint training (DESIGN sections 2 and 3), on the path that users run."""

from collections.abc import Callable
from typing import Any

import pytest
from safetensors.torch import load as load_tensors
from torch import Tensor

from sheafalign_fl.config import Settings
from sheafalign_fl.flower.inprocess import run_inprocess
from sheafalign_fl.run.folder import RunFolder
from tests.conftest import toy_settings
from tests.federation.oracle import joint_training, largest_difference

EXCHANGES = 50
CLIENTS: dict[str, Any] = {"m0": {"dim": 10}, "m1": {"dim": 12}, "m2": {"dim": 14}, "m3": {"dim": 9}}
GRAPHS: dict[str, Any] = {
    "complete": {"topology": "complete", "dim": 8},
    "ring": {"topology": "ring", "dim": 5},
    "star": {"topology": "star", "dim": 11, "centre": "m2"},
    "unequal": {
        "topology": "edges",
        "edges": [
            {"between": ["m0", "m1"], "dim": 3},
            {"between": ["m3", "m1"], "dim": 16},
            {"between": ["m1", "m2"], "dim": 7},
        ],
    },
}


def final_weights(settings: Settings, folder: RunFolder) -> dict[str, dict[str, Tensor]]:
    weights = {}
    for client in settings.clients:
        tensors = load_tensors(folder.load_client(settings.training.exchanges, client))
        weights[client] = {name: value for name, value in tensors.items() if not name.startswith("optimiser.")}
    return weights


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("lacking", [{}, {"m0": 0.3, "m2": 0.2}], ids=["all events", "missing events"])
def test_federated_training_equals_joint_training(
    graph: str, lacking: dict[str, float], run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = toy_settings(
        clients=CLIENTS,
        data={"source": "tests.toy:source", "options": {"lacking": lacking}},
        graph=GRAPHS[graph],
        training={"exchanges": EXCHANGES, "batch_size": 32, "dtype": "float64"},
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    assert largest_difference(final_weights(settings, folder), joint_training(settings)) <= 1e-12


@pytest.mark.parametrize(
    ("objective", "training"),
    [
        ({"normalised_laplacian": True, "cross_reconstruction": 0.3}, {"optimiser": "adamw", "weight_decay": 0.1}),
        ({"laplacian": 0.2, "contrastive": 2.0, "reconstruction": 0.0, "temperature": 0.3}, {"optimiser": "adam"}),
        ({"contrastive": 0.5}, {"optimiser": "sgd", "learning_rate": 0.01}),
    ],
)
def test_the_invariant_holds_for_every_option(
    objective: dict[str, Any], training: dict[str, Any], run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = toy_settings(
        objective=objective, training={"exchanges": 20, "dtype": "float64", **training}, codec="float64"
    )
    run_inprocess(settings, folder := run_folder(settings))
    assert largest_difference(final_weights(settings, folder), joint_training(settings)) <= 1e-12


def test_a_coarse_codec_breaks_the_equality(run_folder: Callable[[Settings], RunFolder]) -> None:
    """The comparison above can fail: with float16 on the wire the weights do differ."""
    settings = toy_settings(training={"exchanges": 20, "dtype": "float64"}, codec="float16")
    run_inprocess(settings, folder := run_folder(settings))
    assert largest_difference(final_weights(settings, folder), joint_training(settings)) > 1e-9
