"""The invariant: one step per exchange equals joint training (DESIGN sections 2 and 3).

It is tested on the path that users run.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from sheafalign_fl.config import Settings
from sheafalign_fl.config.methods import METHODS
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings
from tests.federation.oracle import joint_training, largest_difference, simulated_protocol
from tests.federation.runs import SMALL, final_weights

EXCHANGES = 24
CLIENTS: dict[str, Any] = {
    "m0": {"dim": 10},
    "m1": {"dim": 12},
    "m2": {"dim": 14},
    "m3": {"dim": 9},
}
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


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize(
    "lacking", [{}, {"m0": 0.3, "m2": 0.2}], ids=["all events", "missing events"]
)
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
        (
            {"normalised_laplacian": True, "cross_reconstruction": 0.3},
            {"optimiser": "adamw", "weight_decay": 0.1},
        ),
        (
            {"laplacian": 0.2, "contrastive": 2.0, "reconstruction": 0.0, "temperature": 0.3},
            {"optimiser": "adam"},
        ),
        ({"contrastive": 0.5}, {"optimiser": "sgd", "learning_rate": 0.01}),
        ({"stop_gradient": True, "reconstruction": 0.7, "cross_reconstruction": 0.2}, {}),
        (
            {"contrastive": 0.5, "learnable_temperature": True},
            {"optimiser": "adamw", "weight_decay": 0.3},
        ),
        (
            {"learnable_temperature": True, "temperature": 0.5},
            {"optimiser": "adam", "weight_decay": 0.3},
        ),
        ({"stop_gradient": True}, {"decay": "cosine", "optimiser": "adamw", "weight_decay": 0.1}),
        # Adam's first step divides by the gradient's own size: where that is 0 but for rounding,
        # 1e-18 becomes 1e-10 of the learning rate. So this one is kept small.
        ({"learnable_temperature": True}, {"decay": "cosine", "learning_rate": 0.003}),
        ({"variance": 0.3, "covariance": 0.2, "label_smoothing": 0.1}, {}),
        ({"variance": 2.0, "reconstruction": 0.0}, {"optimiser": "sgd", "learning_rate": 0.01}),
        ({"label_smoothing": 0.3, "learnable_temperature": True}, {"learning_rate": 0.003}),
        # A clip that is reached in some steps and not in others.
        ({"contrastive": 0.5}, {"optimiser": "sgd", "learning_rate": 0.05, "clip": 0.8}),
        (
            {"learnable_temperature": True},
            {"optimiser": "sgd", "learning_rate": 0.01, "clip": 0.1, "warmup": 0.3},
        ),
        ({}, {"warmup": 0.25, "decay": "cosine", "clip": 0.5, "optimiser": "adamw"}),
        ({}, {"warmup": 0.5, "learning_rate": 0.003}),
    ],
)
def test_the_invariant_holds_for_every_option(
    objective: dict[str, Any], training: dict[str, Any], run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = toy_settings(
        objective=objective,
        training={"exchanges": 20, "dtype": "float64", **training},
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    assert largest_difference(final_weights(settings, folder), joint_training(settings)) <= 1e-12


def test_what_the_default_method_prescribes_is_exact(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    """Without its replay it is joint training, with it one process that keeps the same constants.

    Each client has trained on past batches then, which joint training has not.
    """
    prescribed = METHODS["sheafalign"]
    for replay in (0, prescribed["training"].get("replay", 0)):
        training = {**prescribed["training"], "replay": replay, "replay_from": 0.2}
        settings = toy_settings(
            clients={name: {**SMALL, "missing": 0.2} for name in ("m0", "m1", "m2")},
            objective=prescribed["objective"],
            training={"exchanges": 20, "dtype": "float64", **training},
            codec="float64",
        )
        run_inprocess(settings, folder := run_folder(settings))
        weights = final_weights(settings, folder)
        expected = simulated_protocol(settings)[0] if replay else joint_training(settings)
        assert largest_difference(weights, expected) <= 1e-12


def test_both_ends_keep_the_same_temperature_and_every_edge_its_own(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        objective={"learnable_temperature": True, "temperature": 0.2},
        training={"exchanges": 12, "dtype": "float64", "learning_rate": 0.01},
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    temperatures = _temperatures(final_weights(settings, folder))
    assert len(temperatures) == 3
    for here, there in temperatures.values():
        assert here == pytest.approx(there, abs=1e-14)
        assert abs(here - 0.2) > 1e-3
    assert len({here for here, _ in temperatures.values()}) == 3


def _temperatures(weights: dict[str, dict[str, Tensor]]) -> dict[tuple[str, ...], list[float]]:
    """Return edge -> tau as its two ends have it."""
    found: dict[tuple[str, ...], list[float]] = {}
    for client, tensors in weights.items():
        for name, value in tensors.items():
            if name.endswith(".log_temperature"):
                neighbour = name.removeprefix("maps.").removesuffix(".log_temperature")
                found.setdefault(tuple(sorted((client, neighbour))), []).append(float(value.exp()))
    return found


def test_a_cosine_decay_ends_at_a_learning_rate_of_nearly_0(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    """Gradient descent on half a cosine: against the closed form, and not as without decay."""
    settings = toy_settings(
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        training={
            "exchanges": 10,
            "dtype": "float64",
            "optimiser": "sgd",
            "learning_rate": 0.05,
            "decay": "cosine",
        },
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    constant = settings.model_copy(
        update={"training": settings.training.model_copy(update={"decay": "none"})}
    )
    weights = final_weights(settings, folder)
    assert largest_difference(weights, joint_training(settings)) <= 1e-12
    assert largest_difference(weights, joint_training(constant)) > 1e-4


OTHERS = [
    *("clip-pairs", "clip-heads", "imagebind", "comfed"),
    *("centrobind", "gram", "symile", "sheaf-frl"),
]


@pytest.mark.parametrize(
    ("method", "clients"),
    [
        *product((*OTHERS, "triangle"), (3,)),
        *(pytest.param(method, 4, marks=pytest.mark.slow) for method in OTHERS),
    ],
    ids=str,
)
@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["all events", "missing events"])
def test_the_invariant_holds_for_every_method(
    method: str, clients: int, missing: float, run_folder: Callable[[Settings], RunFolder]
) -> None:
    names = [f"m{index}" for index in range(clients)]
    lacking = {"m0": 0.0, "m1": missing, "m2": missing / 2, "m3": missing / 3}
    # A best rotation is badly conditioned where embeddings have directions of hardly any variance.
    dim = 3 if method == "sheaf-frl" else 8
    settings = toy_settings(
        method=method,
        clients={name: {**SMALL, "dim": dim, "missing": lacking[name]} for name in names},
        graph={"dim": 5 if method in ("clip-heads", "comfed") else dim}
        | ({"topology": "star", "centre": "m1"} if method == "imagebind" else {}),
        training={"exchanges": 12, "batch_size": 16, "dtype": "float64"},
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    assert largest_difference(final_weights(settings, folder), joint_training(settings)) <= 1e-12


@pytest.mark.parametrize("contrast", ["centroid", "volume", "area", "product"])
def test_a_group_contrast_may_be_of_one_projection_for_each_client(
    contrast: str, run_folder: Callable[[Settings], RunFolder]
) -> None:
    """Also where gradients are clipped: a map under several neighbours' names counts once."""
    settings = toy_settings(
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        maps={"family": "shared"},
        graph={"dim": 5},
        objective={"contrast": contrast, "reconstruction": 0.2},
        training={"exchanges": 12, "batch_size": 16, "dtype": "float64", "clip": 0.5},
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    weights = final_weights(settings, folder)
    assert largest_difference(weights, joint_training(settings)) <= 1e-12
    for one, other in (("m1", "m2"), ("m0", "m2"), ("m0", "m1")):
        third = next(name for name in settings.clients if name not in (one, other))
        shared = (weights[third][f"maps.{n}.P"] for n in (one, other))
        assert torch.equal(*shared)


@pytest.mark.parametrize("method", ["clip-pairs", "centrobind", "gram", "triangle", "symile"])
def test_labels_are_smoothed_in_every_contrast(
    method: str, run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = toy_settings(
        method=method,
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        graph={"dim": 8},
        objective={"label_smoothing": 0.2},
        training={"exchanges": 8, "batch_size": 16, "dtype": "float64"},
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    weights = final_weights(settings, folder)
    assert largest_difference(weights, joint_training(settings)) <= 1e-12
    objective = settings.objective.model_copy(update={"label_smoothing": 0.0})
    sharp = settings.model_copy(update={"objective": objective})
    assert largest_difference(weights, joint_training(sharp)) > 1e-4


@pytest.mark.parametrize("method", ["centrobind", "gram", "triangle", "symile"])
@pytest.mark.parametrize("objective", [{}, {"laplacian": 0.2}], ids=["alone", "with laplacian"])
def test_a_group_contrast_without_enough_common_events_is_left_out_by_all(
    method: str, objective: dict[str, float], run_folder: Callable[[Settings], RunFolder]
) -> None:
    """With half of the events missing, small batches often have fewer than two in common.

    In batches of 4 that goes for an edge or the whole group. Then nobody may go on with a smaller
    group: that would be a step that joint training does not take.
    """
    settings = toy_settings(
        method=method,
        clients={name: {**SMALL, "missing": 0.5} for name in ("m0", "m1", "m2")},
        graph={"dim": 8},
        objective=objective,
        training={"exchanges": 25, "batch_size": 4, "dtype": "float64"},
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    assert not folder.load_summary().absences
    assert largest_difference(final_weights(settings, folder), joint_training(settings)) <= 1e-12


def test_other_terms_stand_beside_a_group_contrast(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(
        method="centrobind",
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        graph={"dim": 8},
        objective={
            "laplacian": 0.3,
            "contrastive": 0.7,
            "normalised_laplacian": True,
            "temperature": 0.3,
        },
        training={"exchanges": 12, "batch_size": 16, "dtype": "float64", "decay": "cosine"},
        codec="float64",
    )
    run_inprocess(settings, folder := run_folder(settings))
    assert largest_difference(final_weights(settings, folder), joint_training(settings)) <= 1e-12


def test_a_coarse_codec_breaks_the_equality(run_folder: Callable[[Settings], RunFolder]) -> None:
    """The comparison above can fail: with float16 on the wire the weights do differ."""
    settings = toy_settings(training={"exchanges": 20, "dtype": "float64"}, codec="float16")
    run_inprocess(settings, folder := run_folder(settings))
    assert largest_difference(final_weights(settings, folder), joint_training(settings)) > 1e-9
