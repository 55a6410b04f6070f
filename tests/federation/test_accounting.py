"""What the ledger says is what travelled (DESIGN section 4)."""

from collections.abc import Callable, Iterable, Mapping
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.client_app import app as client_app
from sheafalign_fl.config import Settings
from sheafalign_fl.config.methods import METHODS
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import InProcessGrid, run_inprocess
from sheafalign_fl.flower.records import unpack, wire_bytes
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.verbs import EVALUATOR, RELAY
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import LedgerRow, read_ledger
from tests.conftest import toy_settings
from tests.federation.runs import SMALL

ITEMSIZE = {"float32": 4, "float16": 2, "float64": 8}
GRAPH: dict[str, Any] = {
    "topology": "edges",
    "edges": [{"between": ["m0", "m1"], "dim": 3}, {"between": ["m1", "m2"], "dim": 9}],
}


class Spy:
    """Sees every Flower message, both ways, as the relay sends and receives it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.down: list[Message] = []
        self.up: list[Message] = []
        push, pull = InProcessGrid.push_messages, InProcessGrid.pull_messages

        def spying_push(grid: InProcessGrid, messages: Iterable[Message]) -> Iterable[str]:
            self.down += (messages := list(messages))
            return push(grid, messages)

        def spying_pull(grid: InProcessGrid, ids: Iterable[str]) -> Iterable[Message]:
            self.up += (messages := list(pull(grid, ids)))
            return messages

        monkeypatch.setattr(InProcessGrid, "push_messages", spying_push)
        monkeypatch.setattr(InProcessGrid, "pull_messages", spying_pull)


@pytest.mark.parametrize(
    ("codec", "recipe"),
    [*((codec, {}) for codec in ITEMSIZE), ("float32", METHODS["sheafalign"])],
    ids=[*ITEMSIZE, "as the default trains"],
)
def test_training_payload_is_events_times_dim_times_itemsize(
    codec: str, recipe: Mapping[str, Any], run_folder: Callable[[Settings], RunFolder]
) -> None:
    """Whatever the default method prescribes, replayed steps among it, costs no byte."""
    settings = toy_settings(
        **recipe,
        graph=GRAPH,
        codec=codec,
        data={"source": "tests.toy:source", "options": {"lacking": {"m0": 0.4, "m2": 0.2}}},
    )
    assert bool(settings.training.replay) == bool(recipe)
    run_inprocess(settings, folder := run_folder(settings))
    found = {
        (row.exchange, row.source, row.destination): row.payload_bytes
        for row in read_ledger(folder.ledger)
        if row.purpose == "train" and RELAY not in (row.source, row.destination)
    }
    agreed = check(settings).agreement
    schedule = BatchSchedule(
        len(agreed.lists["train"]), settings.training.batch_size, settings.seed
    )
    due = {}
    for exchange in range(settings.training.exchanges):
        positions = schedule.positions(exchange)
        for source, target, dim in (
            ("m0", "m1", 3),
            ("m1", "m0", 3),
            ("m1", "m2", 9),
            ("m2", "m1", 9),
        ):
            events = sum(
                agreed.has[source]["train"][p] and agreed.has[target]["train"][p] for p in positions
            )
            due[exchange, source, target] = int(events) * dim * ITEMSIZE[codec]
    assert found == due


SENT = {
    **{"clip-heads": 5 * 4, "comfed": 5 * 4},  # d_e values of float32
    **dict.fromkeys(("triangle", "symile", "sheaf-frl"), 8 * 4),  # d values
    "c-vfl": 2 + 8 // 2,  # a scale, and 8 values of 4 bits, once for all steps
}
"""Method -> bytes of an event towards one neighbour."""


@pytest.mark.parametrize("method", SENT)
def test_every_method_pays_for_what_each_client_sends_all_others(
    method: str, run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = toy_settings(
        method=method,
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        graph={"dim": 5 if method in ("clip-heads", "comfed") else 8},
        training={"exchanges": 2, "batch_size": 16},
        evaluation={"every": 0, "metrics": ["retrieval"]},
    )
    run_inprocess(settings, folder := run_folder(settings))
    paid = {
        (row.exchange, row.source, row.destination): row.payload_bytes
        for row in read_ledger(folder.ledger)
        if row.purpose == "train" and RELAY not in (row.source, row.destination)
    }
    pairs = permutations(("m0", "m1", "m2"), 2)
    assert paid == {(t, i, j): 16 * SENT[method] for i, j in pairs for t in (0, 1)}


def test_relay_bytes_add_up_to_every_flower_message(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings(
        evaluation={"every": 2, "metrics": ["retrieval", "transfer", "probe", "missing"]}
    )
    spy = Spy(monkeypatch)
    run_inprocess(settings, folder := run_folder(settings))
    counted = sum(row.relay_bytes for row in read_ledger(folder.ledger))
    assert counted == sum(wire_bytes(message) for message in [*spy.down, *spy.up])


def test_nothing_but_comparison_embeddings_masks_and_headers_travels(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte is a field of a known kind or a frame; frames are z_ij, or evaluation's.

    The frames' content is compared with z_ij, meant for a neighbour, recomputed from the clients'
    own nodes, so an embedding h, a weight or raw data in a frame would be found.
    """
    settings = toy_settings(graph=GRAPH, training={"exchanges": 4})
    sent: dict[tuple[int, str, str], np.ndarray[Any, Any]] = {}
    _remember_embeddings(monkeypatch, sent)
    spy = Spy(monkeypatch)
    run_inprocess(settings, run_folder(settings))
    allowed_down = {
        "agreement",
        "folder",
        "run",
        "embed",
        "restore",
        "step",
        "checkpoint",
        "exchange",
        "final",
        "sample",
    }
    allowed_up = {"manifest", "losses", "scores", "digest"}
    seen = 0
    for message in spy.down:
        fields, frames = unpack(message)
        assert set(fields) <= allowed_down
        for source, packed in frames.items():
            frame = Frame.unpack(packed)
            assert frame.source == source
            assert {frame.source, frame.destination} in ({"m0", "m1"}, {"m1", "m2"})
            if frame.purpose == "train":
                values = sent[frame.exchange, frame.source, frame.destination]
                np.testing.assert_array_equal(frame.values(), values)
                seen += 1
    for message in spy.up:
        fields, frames = unpack(message)
        assert set(fields) <= allowed_up
        assert all(
            len(value) == 48  # type: ignore[arg-type]
            for name, value in fields.items()
            if name.startswith("loss.")
        )
        assert EVALUATOR not in {Frame.unpack(packed).destination for packed in frames.values()}
    assert seen == 4 * 4


def test_a_frame_goes_to_the_neighbour_it_names_and_to_nobody_else(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings(graph={"topology": "path", "dim": 8})
    received: list[tuple[str, str, str]] = []
    spying = ClientApp()

    def relay_on(message: Message, context: Context) -> Message:
        _, frames = unpack(message)
        for packed in frames.values():
            frame = Frame.unpack(packed)
            received.append((str(context.node_config["client"]), frame.destination, frame.source))
        return client_app(message, context)

    monkeypatch.setattr(spying, "_call", relay_on)
    run_inprocess(settings, run_folder(settings), client_app=spying)
    assert received
    assert all(receiver == destination for receiver, destination, _ in received)
    assert {(receiver, source) for receiver, _, source in received} == {
        ("m0", "m1"), ("m1", "m0"), ("m1", "m2"), ("m2", "m1"),
    }  # fmt: skip


def test_framing_costs_at_most_two_per_cent_at_the_papers_size(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(
        data={"source": "tests.toy:source", "options": {"events": 800}},
        graph={"topology": "complete", "dim": 64},
        training={"exchanges": 3, "batch_size": 128},
    )
    run_inprocess(settings, folder := run_folder(settings))
    rows: list[LedgerRow] = [
        row for row in read_ledger(folder.ledger) if row.purpose == "train" and row.payload_bytes
    ]
    assert len(rows) == 3 * 6
    ratios = [row.message_bytes / row.payload_bytes for row in rows]
    assert max(ratios) <= 1.02
    assert min(ratios) > 1.0


def test_a_star_leaf_with_one_neighbour_stays_within_two_per_cent(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = toy_settings(
        data={"source": "tests.toy:source", "options": {"events": 800}},
        graph={"topology": "star", "dim": 64},
        training={"exchanges": 3, "batch_size": 128},
    )
    run_inprocess(settings, folder := run_folder(settings))
    rows = [
        row
        for row in read_ledger(folder.ledger)
        if row.purpose == "train" and row.source == "m1" and row.payload_bytes
    ]
    assert rows
    assert max(row.message_bytes / row.payload_bytes for row in rows) <= 1.02


def _remember_embeddings(
    monkeypatch: pytest.MonkeyPatch, sent: dict[tuple[int, str, str], np.ndarray[Any, Any]]
) -> None:
    """Recompute P_ij f_i(x_i) beside every `Node.embed`, from the node's weights at that moment."""
    import torch

    from sheafalign_fl.learner.node import Node

    embed = Node.embed

    def remembering(node: Node, exchange: int) -> Mapping[str, Any]:
        positions = node.schedule.positions(exchange)
        with torch.no_grad():
            for neighbour, mask in node.shared_rows(exchange).items():
                ids = node.agreement.lists["train"][positions[mask]]
                rows = [int(np.flatnonzero(node._data.event_ids == event)[0]) for event in ids]
                h = node.encoder(torch.from_numpy(node._data.x[rows]))
                sent[exchange, node.name, neighbour] = (
                    h @ node.maps[neighbour].restriction().T
                ).numpy()
        return embed(node, exchange)

    monkeypatch.setattr(Node, "embed", remembering)
