"""A learner on data made by hand: its step against the equations, and to the bit against itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.data.base import SPLITS, ModalityData
from sheafalign_fl.errors import ConfigError, ProtocolError
from sheafalign_fl.learner.factories import resolve_device
from sheafalign_fl.learner.node import Node
from sheafalign_fl.protocol.agreement import ClientAgreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.protocol.verbs import PROTOCOL_VERSION
from sheafalign_fl.version import __version__

FEATURES = {"a": 3, "b": 4, "c": 5}
DIMS = {"a": 5, "b": 6, "c": 4}
EDGE_DIM = 3
LACKED: dict[str, set[int]] = {"a": {3, 8, 30}, "b": {1, 8, 31}, "c": {0, 1, 2, 3, 4, 5}}
"""Events of 0..39 that a client has not seen; 0..19 train, 20..25 validation, 26..39 test."""


def dropout(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(input_shape[0], 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, dim)
    )


def linear(input_shape: tuple[int, ...], dim: int) -> nn.Module:
    return nn.Linear(input_shape[0], dim)


DROPOUT = f"{__name__}:dropout"
LINEAR = f"{__name__}:linear"


def data(name: str, text: bool = False) -> ModalityData:
    """Return the events that client `name` has, in an order of its own.

    Feature k of event e is a function of both.
    """
    rng = np.random.default_rng([ord(name), 5])
    x = rng.normal(size=(40, FEATURES[name])).astype(np.float32)
    kept = rng.permutation([event for event in range(40) if event not in LACKED[name]])
    split = np.array([0] * 20 + [1] * 6 + [2] * 14, dtype=np.uint8)
    label = np.arange(40, dtype=np.int64) % 3
    label[5] = -1
    ids: NDArray[Any] = (
        np.array([f"e{event:02d}" for event in range(40)])
        if text
        else np.arange(40, dtype=np.int64)
    )
    return ModalityData(
        x[kept], ids[kept], split[kept], {"kind": label[kept]}, {"kind": ("p", "q", "r")}
    )


def options(**sections: Any) -> Settings:
    """Return small settings; training and clients are merged, other sections replaced."""
    encoder = sections.pop("encoder", "auto")
    small = {"encoder_options": {"hidden": 7, "depth": 1}} if encoder == "auto" else {}
    content: dict[str, Any] = {
        "clients": {name: {"dim": DIMS[name], "encoder": encoder, **small} for name in "abc"},
        "graph": {"topology": "complete", "dim": EDGE_DIM},
        "evaluation": {"label": "kind"},
        **sections,
    }
    content["training"] = {"batch_size": 6, "learning_rate": 0.01, **sections.get("training", {})}
    return parse_settings(content, resolved=True)  # whatever the default method prescribes


def agreed(chosen: Settings, text: bool = False) -> dict[str, ClientAgreement]:
    topology = build_topology(chosen)
    manifests = []
    for name in chosen.clients:
        own = data(name, text)
        events: dict[str, NDArray[Any]] = {split: own.ids_of(split) for split in SPLITS}
        manifests.append(
            Manifest(
                name=name,
                modality=name,
                dim=DIMS[name],
                encoder="",
                parameters=0,
                device="cpu",
                input_shape=own.input_shape,
                notes=(),
                labels=("kind",),
                classes=dict(own.classes),
                version=__version__,
                protocol=PROTOCOL_VERSION,
                digest=chosen.digest(),
                events=events,
            )
        )
    agreement = agree(manifests, chosen, topology)
    return {name: agreement.for_client(name, topology) for name in chosen.clients}


def make(name: str = "a", text: bool = False, **sections: Any) -> Node:
    chosen = options(**sections)
    return Node(name, chosen, data(name, text), agreed(chosen, text)[name])


def neighbours_values(node: Node, exchange: int) -> dict[str, NDArray[np.float32]]:
    """Return made-up z_ji of the right shapes."""
    found = {}
    for neighbour, mask in node.shared_rows(exchange).items():
        rng = np.random.default_rng([exchange, ord(neighbour)])
        found[neighbour] = rng.normal(size=(int(mask.sum()), EDGE_DIM)).astype(np.float32)
    return found


def train(node: Node, exchanges: range, *, embed_first: bool = False) -> list[str]:
    """Take steps; return the digest of the weights after each."""
    digests = []
    for exchange in exchanges:
        if embed_first:
            node.embed(exchange)
        node.step(exchange, neighbours_values(node, exchange))
        digests.append(node.weights_digest())
    return digests


# ---- batches and embeddings ----------------------------------------------------------------------


def batch_events(node: Node, exchange: int) -> list[int]:
    """Return the events of a batch, whoever has them."""
    return [
        int(str(event).removeprefix("e"))
        for event in node.agreement.lists["train"][node.schedule.positions(exchange)]
    ]


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_an_edge_shares_the_events_that_both_ends_have(name: str, text: bool) -> None:
    node = make(name, text)
    for exchange in range(9):
        events = batch_events(node, exchange)
        masks = node.shared_rows(exchange)
        for neighbour in DIMS.keys() - {name}:
            slow = [
                event not in LACKED[name] and event not in LACKED[neighbour] for event in events
            ]
            if sum(slow) >= 2:
                assert masks[neighbour].tolist() == slow
            else:
                assert neighbour not in masks


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_what_is_sent_is_the_map_of_the_encoded_event(name: str, text: bool) -> None:
    """Event by event, out of the client's own data, whatever order they lie in."""
    node = make(name, text, training={"dtype": "float64"})
    own = data(name)
    x = {int(event): row for event, row in zip(own.event_ids, own.x, strict=True)}
    for exchange in range(5):
        sent = node.embed(exchange)
        masks = node.shared_rows(exchange)
        assert set(sent) == set(masks)
        for neighbour, z in sent.items():
            shared = [
                event
                for event, has in zip(batch_events(node, exchange), masks[neighbour], strict=True)
                if has
            ]
            assert z.shape == (len(shared), EDGE_DIM)
            for row, event in zip(z, shared, strict=True):
                with torch.no_grad():
                    h = node.encoder(torch.from_numpy(x[event]).double()[None])[0]
                    expected = node.maps[neighbour].restriction() @ h
                np.testing.assert_allclose(row, expected.numpy(), atol=1e-12)


def test_embedding_changes_no_weight_and_repeats_to_the_bit() -> None:
    node = make()
    digest = node.weights_digest()
    first = node.embed(2)
    second = node.embed(2)
    assert node.weights_digest() == digest
    for neighbour, z in first.items():
        assert z.tobytes() == second[neighbour].tobytes()


# ---- the step ------------------------------------------------------------------------------------


def reference_step(
    node: Node, exchange: int, inbound: Mapping[str, NDArray[np.float32]]
) -> dict[str, torch.Tensor]:
    """Return the weights after one SGD step, written from DESIGN section 2 for a linear encoder."""
    own, rate, objective = (
        data(node.name),
        node.settings.training.learning_rate,
        node.settings.objective,
    )
    x = {
        int(event): torch.from_numpy(row).double()
        for event, row in zip(own.event_ids, own.x, strict=True)
    }
    W = node.encoder.weight.detach().clone().requires_grad_()  # type: ignore[operator]
    bias = node.encoder.bias.detach().clone().requires_grad_()  # type: ignore[operator]
    weights = {"encoder.weight": W, "encoder.bias": bias}
    total = torch.zeros((), dtype=torch.float64)
    for neighbour, z_ji_values in inbound.items():
        P = node.maps[neighbour].restriction().detach().clone().requires_grad_()
        Q = node.maps[neighbour].dual().detach().clone().requires_grad_()
        weights |= {f"maps.{neighbour}.P": P, f"maps.{neighbour}.Q": Q}
        mask = node.shared_rows(exchange)[neighbour]
        shared = [
            event for event, has in zip(batch_events(node, exchange), mask, strict=True) if has
        ]
        z_ji, count = torch.from_numpy(z_ji_values).double(), len(shared)
        h = [W @ x[event] + bias for event in shared]
        z = [P @ row for row in h]
        for k in range(count):
            total = total + objective.laplacian / count * ((z[k] - z_ji[k]) ** 2).sum()
            error = Q @ z[k] - h[k]
            total = total + objective.reconstruction / count * (error**2).sum() / len(error)
            cross = Q @ z_ji[k] - h[k].detach()
            total = total + objective.cross_reconstruction / count * (cross**2).sum() / len(cross)
        similar = torch.stack([
            torch.stack([
                z[k] @ z_ji[m] / (z[k].norm() * z_ji[m].norm()) for m in range(count)
            ]) for k in range(count)
        ]) / objective.temperature  # fmt: skip
        for k in range(count):
            forth = torch.logsumexp(similar[k], 0) - similar[k, k]
            back = torch.logsumexp(similar[:, k], 0) - similar[k, k]
            total = total + objective.contrastive * (forth + back) / (2 * count)
    total.backward()  # type: ignore[no-untyped-call]
    return {
        name: weight.detach() - rate * weight.grad
        for name, weight in weights.items()
        if weight.grad is not None
    }


def weights_of(node: Node) -> dict[str, torch.Tensor]:
    found = {f"encoder.{key}": value for key, value in node.encoder.state_dict().items()}
    for neighbour, maps in node.maps.items():
        found |= {f"maps.{neighbour}.{key}": value for key, value in maps.state_dict().items()}
    return {key: value.detach().clone() for key, value in found.items()}


@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize("cross", [0.0, 0.4])
def test_a_step_is_the_one_that_the_equations_say(name: str, cross: float) -> None:
    training = {"optimiser": "sgd", "learning_rate": 0.05, "dtype": "float64"}
    objective = {
        "laplacian": 0.7,
        "contrastive": 1.1,
        "reconstruction": 0.3,
        "cross_reconstruction": cross,
    }
    objective |= {"normalised_laplacian": False, "temperature": 0.1}
    node = make(name, encoder=LINEAR, training=training, objective=objective)
    for exchange in range(3):
        inbound = neighbours_values(node, exchange)
        expected = reference_step(node, exchange, inbound)
        before = weights_of(node)
        node.step(exchange, inbound)
        after = weights_of(node)
        assert set(expected) == set(after)
        for key, value in expected.items():
            assert not torch.equal(after[key], before[key]), key
            torch.testing.assert_close(after[key], value, atol=1e-12, rtol=1e-10)


def test_losses_are_those_before_the_step_one_for_each_edge() -> None:
    node = make(
        "a",
        objective={
            "laplacian": 0.5,
            "contrastive": 0.25,
            "reconstruction": 2.0,
            "cross_reconstruction": 0.0,
            "normalised_laplacian": False,
        },
    )
    inbound, sent = neighbours_values(node, 0), node.embed(0)
    losses = node.step(0, inbound)
    assert [(loss.source, loss.target) for loss in losses] == [("a", "b"), ("a", "c")]
    for loss in losses:
        z_ij, z_ji = sent[loss.target].astype(np.float64), inbound[loss.target].astype(np.float64)
        assert loss.events == len(z_ij)
        assert loss.terms["laplacian"] == pytest.approx(
            ((z_ij - z_ji) ** 2).sum(axis=1).mean(), rel=1e-5
        )
        weighted = (
            0.5 * loss.terms["laplacian"]
            + 0.25 * loss.terms["contrastive"]
            + 2.0 * loss.terms["reconstruction"]
        )
        assert loss.terms["total"] == pytest.approx(weighted, rel=1e-5)


def test_what_happens_between_embedding_and_stepping_does_not_matter() -> None:
    plain, busy = make(encoder=DROPOUT), make(encoder=DROPOUT)
    for exchange in range(4):
        plain.embed(exchange)
        busy.embed(exchange)
        busy.embeddings("test")
        torch.rand(7)
        if exchange % 2:
            busy.embed(exchange + 3)  # the kept pass is of another batch now
        for node in (plain, busy):
            node.step(exchange, neighbours_values(node, exchange))
        assert plain.weights_digest() == busy.weights_digest()


def test_the_order_in_which_frames_arrive_does_not_matter() -> None:
    one, other = make(), make()
    for exchange in range(4):
        inbound = neighbours_values(one, exchange)
        first = one.step(exchange, inbound)
        second = other.step(exchange, dict(reversed(inbound.items())))
        assert first == second
    assert one.weights_digest() == other.weights_digest()


def test_dropout_replays_its_mask_and_draws_a_new_one_for_each_exchange() -> None:
    # Batches of 13 of the 19 training events, an epoch each: two of them have events in common.
    sections: dict[str, Any] = {
        "training": {"batch_size": 13},
        "graph": {"topology": "path", "dim": EDGE_DIM},
    }

    def embedded(node: Node, exchange: int) -> dict[int, NDArray[np.floating]]:
        mask = node.shared_rows(exchange)["b"]
        shared = [
            event for event, has in zip(batch_events(node, exchange), mask, strict=True) if has
        ]
        return dict(zip(shared, node.embed(exchange)["b"], strict=True))

    dropping, steady = make(encoder=DROPOUT, **sections), make(**sections)
    common = embedded(steady, 0).keys() & embedded(steady, 1).keys()
    assert len(common) > 3
    for event in common:
        np.testing.assert_allclose(
            embedded(steady, 0)[event], embedded(steady, 1)[event], atol=1e-6
        )
        assert np.abs(embedded(dropping, 0)[event] - embedded(dropping, 1)[event]).max() > 1e-4
        torch.rand(3)  # whatever else draws from the global generator
        np.testing.assert_array_equal(embedded(dropping, 0)[event], embedded(dropping, 0)[event])
    state = torch.get_rng_state()
    dropping.embed(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_without_any_neighbour_changes_nothing() -> None:
    node = make()
    digest, state = node.weights_digest(), node.state()
    assert node.step(0, {}) == []
    assert (node.weights_digest(), node.state()) == (digest, state)


# ---- refusals ------------------------------------------------------------------------------------


def bad_inbound(good: dict[str, NDArray[np.float32]]) -> dict[str, dict[str, Any]]:
    z = good["b"]
    return {
        "a row too few": {**good, "b": z[:-1]},
        "a row too many": {**good, "b": np.concatenate([z, z[:1]])},
        "a column too few": {**good, "b": z[:, :-1]},
        "transposed": {**good, "b": z.T},
        "flat": {**good, "b": z.ravel()},
        "empty": {**good, "b": z[:0]},
        "of a stranger": {**good, "z": z},
        "of itself": {"a": z},
    }


@pytest.mark.parametrize("what", sorted(bad_inbound({"b": np.zeros((5, EDGE_DIM), np.float32)})))
@pytest.mark.parametrize("embed_first", [True, False])
def test_a_refused_array_changes_nothing_and_the_step_can_still_be_taken(
    what: str, embed_first: bool
) -> None:
    node, clean = make(), make()
    train(node, range(2))
    train(clean, range(2))
    digest, state = node.weights_digest(), node.state()
    good = neighbours_values(node, 2)
    if embed_first:
        node.embed(2)
    with pytest.raises(ProtocolError, match="client 'a' got embeddings"):
        node.step(2, bad_inbound(good)[what])
    assert (node.weights_digest(), node.state()) == (digest, state)
    node.step(2, good)
    assert [node.weights_digest()] == train(clean, range(2, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("embed_first", [True, False])
def test_a_bad_value_leaves_out_its_edge_alone(value: float, embed_first: bool) -> None:
    node, clean = make(), make()
    train(node, range(2))
    train(clean, range(2))
    good = neighbours_values(node, 2)
    spoilt = {**good, "c": good["c"].copy()}
    spoilt["c"][0, 0] = value
    if embed_first:
        node.embed(2)
    losses = node.step(2, spoilt)
    assert losses == clean.step(2, {n: z for n, z in good.items() if n != "c"})
    assert node.weights_digest() == clean.weights_digest()
    assert [(v.sender, v.event) for v in node.gate.verdicts] == [("c", "refused")]
    assert train(node, range(3, 5)) == train(clean, range(3, 5))


def test_settings_that_no_node_can_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="identity maps need"):
        make(maps={"family": "identity"})
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            resolve_device("cuda")
        assert resolve_device("auto") == torch.device("cpu")
    assert resolve_device("cpu") == torch.device("cpu")


# ---- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimiser", "encoder", "dtype"),
    [("adam", DROPOUT, "float64"), ("adamw", "auto", "float32"), ("sgd", DROPOUT, "float32")],
)
def test_a_node_restored_at_any_exchange_goes_on_to_the_same_bits(
    optimiser: str, encoder: str, dtype: str
) -> None:
    sections: dict[str, Any] = {
        "encoder": encoder,
        "training": {"optimiser": optimiser, "weight_decay": 0.02, "dtype": dtype},
    }
    whole, broken = make(**sections), make(**sections)
    expected = train(whole, range(5))
    for stop in range(5):
        restored = make(**sections, seed=0)
        restored.load_state(broken.state())
        assert restored.weights_digest() == broken.weights_digest()
        assert restored.state() == broken.state()
        assert train(restored, range(stop, 5)) == expected[stop:]
        train(broken, range(stop, stop + 1))


def test_a_state_brings_back_earlier_weights_even_into_a_node_that_went_on() -> None:
    node = make()
    train(node, range(2))
    saved = node.state()
    first = train(node, range(2, 5))
    node.embed(4)
    node.load_state(saved)
    assert train(node, range(2, 5)) == first


def test_saving_changes_nothing() -> None:
    saving, plain = make(), make()
    for exchange in range(3):
        saving.embed(exchange)
        saving.state()
        saving.step(exchange, neighbours_values(saving, exchange))
        saving.state()
    assert [saving.weights_digest()] == train(plain, range(3))[-1:]


# ---- evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize("list_name", ["train", "validation", "test", "probe"])
def test_embeddings_and_labels_lie_in_the_order_of_the_agreed_list(
    list_name: Any, text: bool
) -> None:
    node = make("a", text)
    own = data("a")
    x = {int(event): row for event, row in zip(own.event_ids, own.x, strict=True)}
    h, has = node.embeddings(list_name)
    labels = node.labels("kind", list_name)
    events = [int(str(event).removeprefix("e")) for event in node.agreement.lists[list_name]]
    assert has.tolist() == [event in x for event in events]
    for row, label, event in zip(h, labels, events, strict=True):
        if event not in x:
            assert not row.any()
            assert label == -1
            continue
        with torch.no_grad():
            np.testing.assert_allclose(
                row, node.encoder(torch.from_numpy(x[event])[None])[0].numpy(), atol=1e-5
            )
        assert label == (-1 if event == 5 else event % 3)
    assert (node.labels("colour", list_name) == -1).all()
    assert (node.labels(None, list_name) == -1).all()


def test_class_names_and_sample_come_from_the_data() -> None:
    node = make("b")
    assert node.class_names("kind") == ("p", "q", "r")
    assert node.class_names("colour") == node.class_names(None) == ()
    np.testing.assert_array_equal(node.sample(), data("b").x[0])


@pytest.mark.parametrize("count", [0, 1, 6])
def test_maps_are_applied_row_by_row(count: int) -> None:
    node = make("c")
    rng = np.random.default_rng(count)
    h = rng.normal(size=(count, DIMS["c"])).astype(np.float32)
    z = rng.normal(size=(count, EDGE_DIM)).astype(np.float32)
    P = node.maps["a"].restriction().detach().numpy()
    Q = node.maps["a"].dual().detach().numpy()
    np.testing.assert_allclose(node.restrict("a", h), np.einsum("ij,bj->bi", P, h), atol=1e-5)
    np.testing.assert_allclose(node.lift("a", z), np.einsum("ij,bj->bi", Q, z), atol=1e-5)
