"""With seals the metric `missing` is measured at the clients: scores leave, and no embedding does.

What they say is computed again in one place, by slow loops, from what each of them had.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.client_app import app
from clients.node_context import node_of
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.inprocess import InProcessGrid
from sheafalign_fl.flower.records import act_as, unpack
from sheafalign_fl.learner.node import Node
from sheafalign_fl.metrics.missing import MissingMetric
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.messages import Scalar
from sheafalign_fl.protocol.verbs import EVALUATE_SCORE, EVALUATOR
from sheafalign_fl.runs.folder import RunFolder
from strategies.peer_to_peer import PeerToPeer
from tests.attack.lying_relay import CLIENTS, Answer, LyingRelay, sealed_settings
from tests.metrics import oracle

FACTS = ("ridge", "worst_ridge", "unexplained", "imputed", "mean_fill", "zero_fill")


def settings_of(**sections: Any) -> Settings:
    """Return settings of a sealed run on a complete graph that measures `missing`."""
    return sealed_settings(
        clients={name: {"dim": 8} for name in CLIENTS},
        graph={"topology": "complete", "dim": 8},
        training={"exchanges": 16, "batch_size": 32},
        evaluation={"every": 16, "metrics": ["retrieval", "missing"], "events": 60},
        **sections,
    )


@pytest.fixture(params=[{}, {"method": "clip-pairs"}], ids=["sheaf", "one space"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> LyingRelay:
    """Return a relay whose clients have agreed to such a run."""
    made = LyingRelay(settings_of(**request.param), tmp_path)
    made.handshake()
    return made


def test_only_scores_leave_and_they_are_those_of_one_place(relay: LyingRelay) -> None:
    answers = list(relay.whole_run(finish=False))
    nodes = {name: node_of(relay.contexts[name]) for name in CLIENTS}
    told = [
        (fields, json.loads(str(fields["scores"])))
        for verb, (fields, _) in answers
        if verb == EVALUATE_SCORE
    ][-len(CLIENTS) :]
    for name, (fields, scores) in zip(CLIENTS, told, strict=True):
        assert set(fields) == {"scores"}
        rows = scores["missing"]
        assert [row["missing"] for row in rows] == [0, 1, 2]
        for row, expected in zip(rows, expected_rows(nodes, name), strict=True):
            assert row["client"] == name
            for fact in FACTS:
                value = expected.get(fact)
                tolerance = 1e-4 if fact == "unexplained" else 1.5 / row["events"]
                assert row[fact] == (None if value is None else pytest.approx(value, abs=tolerance))
    assert_no_embedding(answers, nodes)
    assert_gathered(told)


def test_an_honest_relay_keeps_the_mean_of_what_clients_say(tmp_path: Path) -> None:
    made = LyingRelay(settings_of(), tmp_path / "nodes")
    folder, said, spying = RunFolder(tmp_path / "run"), [], ClientApp()

    def call(message: Message, context: Context) -> Message:
        reply = app(message, context)
        if message.metadata.message_type == EVALUATE_SCORE:
            said.append(json.loads(str(unpack(reply)[0]["scores"])).get("missing"))
        return reply

    spying._call = call
    folder.create(made.settings)
    contexts = {context.node_id: context for context in made.contexts.values()}
    act_as(next(iter(contexts.values())).run_id, 1)
    grid = InProcessGrid(spying, contexts, 1)
    try:
        PeerToPeer(made.settings, grid, folder, lambda: grid.registered).run()
    finally:
        grid.close()
    summary = folder.load_summary()
    told = [rows for rows in said if rows]
    assert [row.missing for row in summary.quality.missing] == [0, 1, 2]
    assert len(told) == len(CLIENTS)
    for row, each in zip(summary.quality.missing, zip(*told, strict=True), strict=True):
        assert row.clients == len(CLIENTS)
        for fact in ("ridge", "imputed", "mean_fill"):
            assert getattr(row, fact) == pytest.approx(np.mean([one[fact] for one in each]))
    evaluated = [edge for edge in summary.bytes if edge.purpose == "evaluate"]
    assert evaluated
    assert not any(edge.target == EVALUATOR for edge in evaluated)


def expected_rows(nodes: dict[str, Node], own: str) -> list[dict[str, float]]:
    """Return the rows of one client out of all nodes' final weights and what it had received."""
    node, others = nodes[own], [name for name in CLIENTS if name != own]
    label, agreement = node.agreement.labels[0], node.agreement
    came = {i: node.received.of(i, agreement.shared[i]["train"]) for i in others}
    arrived = {i: found for i, found in came.items() if found is not None}
    assert set(arrived) == set(others)
    positions = sorted(set.intersection(*(set(at.tolist()) for at, _ in arrived.values())))
    at = np.array(positions)
    train = {own: node.embeddings_at("train", at).astype(float)} | {
        i: np.stack([z[where.tolist().index(p)] for p in positions]).astype(float)
        for i, (where, z) in arrived.items()
    }
    both = np.logical_and.reduce([agreement.shared[i]["test"] for i in others])
    test = {own: node.embeddings("test")[0][both]} | {
        i: nodes[i].restrict(own, nodes[i].embeddings("test")[0][both]) for i in others
    }
    labels, test_labels = node.labels(label, "train")[at], node.labels(label, "test")[both]
    sent = {(a, b): (train[a], train[b], test[a]) for a in train for b in train if a != b}
    if one_space := node.settings.maps.family == "identity":
        imputed: dict[tuple[str, str], oracle.Array] = {}
    else:
        imputed = {(i, own): node.lift(i, test[i]) for i in others} | {
            (own, i): node.restrict(i, test[own]) for i in others
        }
    by_ridge = oracle.missing_by_ridge(train, labels, test, test_labels, sent)
    own_way = oracle.missing(train, labels, test, test_labels, imputed, one_space)
    return [{**a, **b} for a, b in zip(by_ridge, own_way, strict=True)]


def assert_no_embedding(answers: list[tuple[str, Answer]], nodes: dict[str, Node]) -> None:
    """No row of any h, nor of any z of the final weights, is in any byte that left."""
    left = b"".join(chunk for _, answer in answers for chunk in _bytes(answer))
    for node in nodes.values():
        for name in ("train", "validation", "test"):
            h, has = node.embeddings(name)
            for values in (h, *(node.restrict(i, h) for i in node.agreement.neighbours)):
                for dtype in ("<f2", "<f4", "<f8"):
                    rows = values[has].astype(dtype)
                    assert not any(row.tobytes()[:16] in left for row in rows[:40])
    frames = [Frame.unpack(packed) for _, (_, sent) in answers for packed in sent.values()]
    assert frames
    assert all(frame.seal and frame.destination in CLIENTS for frame in frames)


def _bytes(answer: Answer) -> Iterator[bytes]:
    fields, frames = answer
    yield from frames.values()
    yield from (_packed(value) for value in fields.values())


def _packed(value: Scalar) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def assert_gathered(told: list[tuple[dict[str, Scalar], Any]]) -> None:
    """The relay's row is the mean of the clients'."""
    rows = [row for _, scores in told for row in scores["missing"]]
    for count, found in enumerate(MissingMetric().gathered(rows)):
        each = [row for row in rows if row["missing"] == count]
        assert found["clients"] == len(CLIENTS)
        assert found["ridge"] == pytest.approx(np.mean([row["ridge"] for row in each]))
        assert found["worst_ridge"] == min(row["worst_ridge"] for row in each)
        assert found["subsets"] == sum(row["subsets"] for row in each)
