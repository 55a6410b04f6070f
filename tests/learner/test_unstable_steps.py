"""A step that would not leave finite weights is not taken, and says whose it was."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.test_node import inbound, node


def others(learner: Any) -> tuple[str, bytes]:
    """Return the weights and the optimiser, which a step that was not taken leaves as they were."""
    optimiser = {key: value.clone() for key, value in learner._descent.state().items()}
    return learner.weights_digest(), b"".join(
        key.encode() + value.numpy().tobytes() for key, value in sorted(optimiser.items())
    )


def told(learner: Any) -> list[tuple[str, str, str]]:
    return [(v.sender, v.event, v.check) for v in learner.gate.verdicts]


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("local_steps", [1, 3])
def test_a_step_that_makes_weights_infinite_is_taken_back(optimiser: str, local_steps: int) -> None:
    training = {"optimiser": optimiser, "learning_rate": 1e30, "local_steps": local_steps}
    learner = node(training=training)
    before = others(learner)
    assert learner.step(0, inbound(learner, 0)) == []
    assert others(learner) == before
    assert told(learner) == [("m1", "not stepped", "weights")]
    assert learner.done == 1


def test_after_a_step_was_taken_back_training_goes_on_to_the_same_bits() -> None:
    learner, clean = node(), node()
    for exchange in range(3):
        learner.step(exchange, inbound(learner, exchange))
        clean.step(exchange, inbound(clean, exchange))
    groups = learner._descent._optimiser.param_groups
    learner._descent._settings = learner.settings.training.model_copy(
        update={"learning_rate": 1e30}
    )
    learner.step(3, inbound(learner, 3))
    assert told(learner) == [("m1", "not stepped", "weights")]
    learner._descent._settings = learner.settings.training
    assert groups
    for exchange in range(4, 7):
        learner.step(exchange, inbound(learner, exchange))
        clean.step(exchange, inbound(clean, exchange))
    assert others(learner) == others(clean)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_client_whose_own_embeddings_explode_names_itself(value: float) -> None:
    learner = node()
    learner.step(0, inbound(learner, 0))
    with torch.no_grad():
        next(iter(learner.encoder.parameters())).fill_(value)
    before = others(learner)
    assert learner.step(1, inbound(learner, 1)) == []
    assert others(learner) == before
    ((sender, event, _),) = told(learner)
    assert (sender, event) == ("m1", "not stepped")


def test_a_gradient_beyond_what_adam_can_square_is_no_step() -> None:
    learner = node(objective={"laplacian": 1e25, "normalised_laplacian": False})
    before = others(learner)
    assert learner.step(0, inbound(learner, 0)) == []
    assert others(learner) == before
    assert told(learner) == [("m1", "not stepped", "gradient")]
