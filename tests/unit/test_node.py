"""A learner: kept and repeated forward passes, state, refusals without effect; encoders; seeds."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.encoders import build_encoder
from sheafalign_fl.errors import ConfigError, ProtocolError, RunError
from sheafalign_fl.learner.manifest import client_data, describe
from sheafalign_fl.learner.node import Node
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.seeding import derive, torch_seeded
from tests.conftest import toy_settings


def node(name: str = "m1", **sections: Any) -> Node:
    chosen = toy_settings(**sections)
    topology = build_topology(chosen)
    data = {client: client_data(client, chosen) for client in chosen.clients}
    agreement = agree(
        [describe(client, chosen, data[client]) for client in chosen.clients], chosen, topology
    )
    return Node(name, chosen, data[name], agreement.for_client(name, topology))


def inbound(learner: Node, exchange: int) -> dict[str, Any]:
    rng = np.random.default_rng(exchange)
    shapes = {
        neighbour: (int(mask.sum()), 8) for neighbour, mask in learner.shared_rows(exchange).items()
    }
    return {
        neighbour: rng.normal(size=shape).astype(np.float32) for neighbour, shape in shapes.items()
    }


DROPOUT = {
    "m0": {"dim": 10},
    "m1": {"dim": 12, "encoder": "tests.toy:dropout_encoder"},
    "m2": {"dim": 14},
}


HIDDEN_DROPOUT = {**DROPOUT, "m1": {"dim": 12, "encoder": "tests.toy:built_in_with_dropout"}}


@pytest.mark.parametrize(
    "clients",
    [{"m0": {}, "m1": {}, "m2": {}}, DROPOUT, HIDDEN_DROPOUT],
    ids=["plain", "dropout", "dropout in a built-in encoder"],
)
def test_a_repeated_forward_pass_gives_the_bits_of_the_kept_one(clients: dict[str, Any]) -> None:
    kept, repeated = node(clients=clients), node(clients=clients)
    for exchange in range(4):
        for neighbour, z in kept.embed(exchange).items():
            np.testing.assert_array_equal(z, repeated.embed(exchange)[neighbour])
        repeated._pending = None
        torch.rand(5)  # whatever else draws from the global generator must not matter
        kept.step(exchange, inbound(kept, exchange))
        repeated.step(exchange, inbound(repeated, exchange))
        assert kept.weights_digest() == repeated.weights_digest()


OWN: dict[str, dict[str, Any]] = {
    "maps": {"maps": {"family": "tests.toy:dropping_maps"}},
    "loss term": {"objective": {"terms": {"tests.toy:Noisy": 1.0}}},
}


@pytest.mark.parametrize("sections", OWN.values(), ids=OWN)
def test_maps_and_terms_that_draw_random_numbers_draw_the_same_again(
    sections: dict[str, Any],
) -> None:
    kept, repeated = node(**sections), node(**sections)
    sent = []
    for exchange in range(3):
        sent.append(kept.embed(exchange)["m0"])
        np.testing.assert_array_equal(sent[-1], repeated.embed(exchange)["m0"])
        repeated._pending = None
        torch.rand(5)
        h, _ = repeated.embeddings("test")
        np.testing.assert_array_equal(repeated.restrict("m0", h), repeated.restrict("m0", h))
        kept.step(exchange, inbound(kept, exchange))
        repeated.step(exchange, inbound(repeated, exchange))
        assert kept.weights_digest() == repeated.weights_digest()
    dropped = sum(int((z == 0).sum()) for z in sent) > 0
    assert dropped == ("maps" in sections)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("family", ["linear", "orthogonal"])
def test_a_saved_state_goes_on_to_the_same_bits(optimiser: str, family: str) -> None:
    sections: dict[str, Any] = {
        "training": {"optimiser": optimiser, "weight_decay": 0.01},
        "maps": {"family": family},
    }
    whole, broken = node(**sections), node(**sections)
    for exchange in range(3):
        whole.step(exchange, inbound(whole, exchange))
        broken.step(exchange, inbound(broken, exchange))
    restored = node(**sections)
    restored.load_state(broken.state())
    for exchange in range(3, 6):
        whole.step(exchange, inbound(whole, exchange))
        restored.step(exchange, inbound(restored, exchange))
    assert whole.weights_digest() == restored.weights_digest()


def test_an_absent_neighbour_s_edge_is_skipped() -> None:
    learner = node()
    everything = inbound(learner, 0)
    before = {
        name: maps.P.detach().clone()  # type: ignore[operator]
        for name, maps in learner.maps.items()
    }
    losses = learner.step(0, {"m0": everything["m0"]})
    assert [(loss.source, loss.target) for loss in losses] == [("m1", "m0")]
    assert not torch.equal(learner.maps["m0"].P, before["m0"])  # type: ignore[arg-type]
    assert torch.equal(learner.maps["m2"].P, before["m2"])  # type: ignore[arg-type]


def test_what_cannot_be_trained_on_changes_nothing() -> None:
    learner = node()
    digest, state = learner.weights_digest(), learner.state()
    good = inbound(learner, 0)
    for bad in ({"m0": good["m0"][:-1]}, {"m0": good["m0"][:, :-1]}, {"stranger": good["m0"]}):
        with pytest.raises(ProtocolError):
            learner.step(0, bad)
    assert learner.state() == state
    assert learner.step(0, {"m0": np.full_like(good["m0"], 1e38)}) == []
    assert [(v.sender, v.check) for v in learner.gate.verdicts] == [("m0", "norm")]
    assert learner.weights_digest() == digest


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(RunError, match="does not fit"):
        node("m0").load_state(node("m1").state())
    with pytest.raises(RunError, match="does not fit"):
        node().load_state(b"garbage")


# ---- encoders ------------------------------------------------------------------------------------

shapes = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.integers(1, 6), st.integers(4, 60)),
    st.tuples(st.integers(1, 4), st.integers(4, 30), st.integers(4, 30)),
)


@given(shapes, st.integers(1, 33))
@settings(deadline=None, max_examples=25)
def test_built_in_encoders_fit_any_input_and_treat_events_alone(
    shape: tuple[int, ...], dim: int
) -> None:
    encoder = build_encoder("x", ClientSettings(dim=dim), shape)
    x = torch.randn(5, *shape)
    with torch.no_grad():
        together = encoder(x)
        alone = torch.cat([encoder(x[k : k + 1]) for k in range(5)])
    assert together.shape == (5, dim)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tests.unit.test_node:batch_norm", "uses batch norm"),
        ("tests.unit.test_node:wrong_output", r"must return \(B, 8\)"),
        ("tests.unit.test_node:no_module", "not a torch.nn.Module"),
        ("tests.unit.test_node:raises", "fails on inputs"),
        ("tests.unit.test_node:absent", "no callable 'absent'"),
        ("vectr", "did you mean 'vector'"),
    ],
)
def test_encoders_that_cannot_work_are_refused(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder("x", ClientSettings(dim=8, encoder=path), (6,))


def batch_norm(input_shape: tuple[int, ...], dim: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(input_shape[0], dim), torch.nn.BatchNorm1d(dim))


def wrong_output(input_shape: tuple[int, ...], dim: int) -> torch.nn.Module:
    return torch.nn.Linear(input_shape[0], dim + 1)


def no_module(input_shape: tuple[int, ...], dim: int) -> str:
    return "module"


def raises(input_shape: tuple[int, ...], dim: int) -> torch.nn.Module:
    return torch.nn.Linear(input_shape[0] + 1, dim)


# ---- seeding -------------------------------------------------------------------------------------


def test_a_generator_is_a_function_of_all_its_keys() -> None:
    found = [
        derive(0, "a"), derive(1, "a"), derive(0, "b"), derive(0, "a", 1), derive(0, "a", "1"),
        derive(0, "a", 1, 2), derive(0, "a", "1\x1f2"),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert found[0] == derive(0, "a")


def test_the_global_generator_is_given_back() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with torch_seeded(0, "x"):
        one = torch.rand(3)
    with torch_seeded(0, "x"):
        assert torch.equal(one, torch.rand(3))
    assert torch.equal(torch.rand(3), expected)
