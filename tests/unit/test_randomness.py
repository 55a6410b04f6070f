"""What may draw random numbers is found wherever it lies, whoever made the module around it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.encoders import ENCODERS, build_encoder
from sheafalign_fl.learner.randomness import _DETERMINISTIC, may_draw
from sheafalign_fl.seeding import torch_seeded
from tests.toy import built_in_with_dropout


class Functional(nn.Module):
    """Drops without a module for it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.5)


class Subclass(nn.Linear):
    """Could do anything in its forward pass."""


def hooked() -> nn.Module:
    layer = nn.Linear(6, 6)
    layer.register_forward_hook(lambda _module, _inputs, output: nn.functional.dropout(output))
    return layer


def replaced() -> nn.Module:
    layer: Any = nn.Linear(6, 6)
    layer.forward = torch.rand_like
    return nn.Sequential(layer)


SUSPECTS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Dropout(0.5))),
    "alpha dropout": lambda: nn.AlphaDropout(0.5),
    "rrelu": lambda: nn.Sequential(nn.RReLU()),
    "transformer": lambda: nn.TransformerEncoderLayer(6, 2),
    "functional": Functional,
    "subclass": lambda: Subclass(6, 6),
    "hook": hooked,
    "replaced forward": replaced,
    "in a built-in encoder": lambda: built_in_with_dropout((6,), 4),
}


@pytest.mark.parametrize("make", SUSPECTS.values(), ids=SUSPECTS)
def test_what_is_not_known_to_draw_nothing_may_draw(make: Callable[[], nn.Module]) -> None:
    assert may_draw(make())


@pytest.mark.parametrize("name", ENCODERS)
def test_our_own_encoders_draw_nothing(name: str) -> None:
    """By what they do: two forward passes in training, from generators that differ."""
    shape = ENCODERS[name].example
    encoder = build_encoder("x", ClientSettings(encoder=name, dim=8), shape).train()
    assert not may_draw(encoder)
    x = torch.randn(3, *shape)
    with torch.no_grad(), torch_seeded(0, "one"):
        one = encoder(x)
        after = torch.get_rng_state()
    with torch.no_grad(), torch_seeded(1, "other"):
        other = encoder(x)
    with torch_seeded(0, "one"):
        assert torch.equal(after, torch.get_rng_state())
    assert torch.equal(one, other)


def test_no_module_on_the_list_draws() -> None:
    names = {kind.__name__ for kind in _DETERMINISTIC}
    assert not {name for name in names if "Drop" in name or name.startswith("RReLU")}
    assert not names & {"RNN", "LSTM", "GRU", "MultiheadAttention", "FractionalMaxPool2d"}
