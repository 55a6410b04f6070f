"""Refined maps in a run: solved on each client from what had come, and nothing else changes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors

import sheafalign_fl as sf
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.engines.launch import start
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.node import Node
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.metrics.retrieval import retrieval
from sheafalign_fl.metrics.transfer import transfer
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.sheaf.refinement import refine
from tests.conftest import toy_settings
from tests.federation.runs import SMALL, training_payload

MakeFolder = Callable[[Settings], RunFolder]
CLIENTS = {name: {**SMALL, "missing": 0.1} for name in ("m0", "m1", "m2")}


def options(refine: str, **sections: Any) -> Settings:
    content: dict[str, Any] = {
        "clients": CLIENTS,
        "training": {"exchanges": 14, "learning_rate": 0.01},
        "evaluation": {
            "every": 7, "metrics": ["retrieval", "transfer", "consistency"], "refine": refine,
        },
        **sections,
    }  # fmt: skip
    return toy_settings(**content)


def nodes(settings: Settings, folder: RunFolder) -> dict[str, Node]:
    topology, agreed = build_topology(settings), check(settings).agreement
    found = {}
    for name in topology.clients:
        data = client_data(name, settings)
        found[name] = Node(name, settings, data, agreed.for_client(name, topology))
        found[name].load_state(folder.load_client(settings.training.exchanges, name))
    return found


def pairs(
    settings: Settings, folder: RunFolder, node: Node, other: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return z_ij with final weights, and the z_ji that came last of the same training events.

    They are read off the checkpoint, event by event.
    """
    saved = load_tensors(folder.load_client(settings.training.exchanges, node.name))
    schedule = BatchSchedule.of(
        settings.training, len(node.agreement.lists["train"]), settings.seed
    )
    both = node.agreement.shared[other]["train"]
    last: dict[int, NDArray[np.float32]] = {}
    for exchange in range(settings.training.exchanges):
        if (came := saved.get(f"received.{exchange}.{other}")) is not None:
            events = [k for k in schedule.positions(exchange).tolist() if both[k]]
            last.update(zip(events, came.numpy(), strict=True))
    h, _ = node.embeddings("train")
    events = sorted(last)
    return node.restrict(other, h[events]), np.stack([last[k] for k in events])


@pytest.mark.parametrize("kind", ["cca", "procrustes"])
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"codec": "int8", "training": {"exchanges": 14, "replay": 1, "learning_rate": 0.01}},
        {"method": "clip-pairs", "graph": {"dim": 8}},
    ],
    ids=["sheaf", "lossy codec, replay", "one space"],
)
def test_the_final_scores_are_those_of_maps_refined_by_what_came(
    kind: Any, sections: dict[str, Any], run_folder: MakeFolder
) -> None:
    settings = options(kind, **sections)
    run_inprocess(settings, folder := run_folder(settings))
    there, quality = nodes(settings, folder), folder.load_summary().quality
    for row, moved in zip(quality.retrieval, quality.transfer, strict=True):
        node, other = there[row.source], there[row.target]
        found = refine(kind, *pairs(settings, folder, node, row.target))
        both, label = node.agreement.shared[row.target]["test"], "quadrant"
        own = found.own.apply(node.restrict(row.target, node.embeddings("test")[0][both]))
        theirs = found.received.apply(other.restrict(row.source, other.embeddings("test")[0][both]))
        fit_labels = node.labels(label, "probe")
        fit = node.restrict(row.target, node.embeddings("probe")[0][fit_labels >= 0])
        expected = retrieval(row.source, row.target, own, theirs, node.labels(label, "test")[both])
        assert row == expected
        assert moved == transfer(
            row.source, row.target,
            found.own.apply(fit), fit_labels[fit_labels >= 0],
            theirs, node.labels(label, "test")[both],
        )  # fmt: skip


def test_nothing_but_the_final_comparison_changes(run_folder: MakeFolder) -> None:
    found = []
    for kind in ("none", "cca"):
        settings = options(kind)
        run_inprocess(settings, folder := run_folder(settings))
        summary = folder.load_summary()
        on_the_way = [row for row in read_rows(folder.metrics) if row["kind"] == "retrieval"]
        bytes_ = {(row.purpose, row.source, row.target): row.payload_bytes for row in summary.bytes}
        found.append(
            (summary.weights_digest, training_payload(folder), bytes_, on_the_way,
             summary.quality.consistency, summary.quality.retrieval)
        )  # fmt: skip
    assert found[0][:-1] == found[1][:-1]
    assert found[0][-1] != found[1][-1]


def test_what_never_came_is_compared_as_it_is(run_folder: MakeFolder) -> None:
    """Clients of a star in one space: those that have exchanged nothing have nothing to refine."""
    rows = []
    for kind in ("none", "cca"):
        settings = options(
            kind, method="imagebind", graph={"dim": 8, "topology": "star", "centre": "m0"}
        )
        run_inprocess(settings, folder := run_folder(settings))
        quality = folder.load_summary().quality
        rows.append({(row.source, row.target): row for row in quality.retrieval})
    changed = {ends for ends, row in rows[0].items() if row != rows[1][ends]}
    assert {("m1", "m2"), ("m2", "m1")}.isdisjoint(changed)
    assert changed


@pytest.mark.parametrize("method", ["sheafalign", "clip-pairs"])
def test_a_share_finds_what_the_evaluation_counted(method: str, run_folder: MakeFolder) -> None:
    clients = dict.fromkeys(("m0", "m1", "m2"), SMALL)
    settings = options("cca", method=method, clients=clients, graph={"dim": 8})
    run_inprocess(settings, folder := run_folder(settings))
    model, plain = sf.load_model(folder.path), options("none", method=method, clients=clients)
    data = {name: client_data(name, plain) for name in clients}
    x = {name: data[name].x[data[name].split == 2] for name in clients}
    for row in folder.load_summary().quality.retrieval:
        found = model.search((row.source, x[row.source]), (row.target, x[row.target]), k=10)
        hits = found.rows == np.arange(len(x[row.source]))[:, None]
        assert hits[:, :1].mean() == row.recall_at_1
        assert hits.any(axis=1).mean() == row.recall_at_10
        # One of the two shares is enough: the searching one gives the same, the other nearly.
        alone = sf.load_model(folder.path / "shares" / row.source)
        z = np.asarray(model[row.target].compare(row.source, x[row.target]))
        same = alone.search((row.source, x[row.source]), (row.target, z), k=10)
        assert (same.rows == found.rows).all()
    assert model["m0"].facts.refined == ("m1", "m2")
    assert folder.load_summary().quality.retrieval != ()


def test_pooled_training_is_refined_by_what_its_clients_would_have_received(
    tmp_path: Any, run_folder: MakeFolder
) -> None:
    exact = {"training": {"exchanges": 14, "dtype": "float64", "learning_rate": 0.01}}
    pooled, federated = (
        options("cca", engine=engine, codec="float64", **exact)
        for engine in ("pooled", "inprocess")
    )
    start(pooled, tmp_path / "pooled")
    run_inprocess(federated, folder := run_folder(federated))
    one, other = (
        RunFolder(path).load_summary().quality.retrieval
        for path in (tmp_path / "pooled", folder.path)
    )
    for row, same in zip(one, other, strict=True):
        assert row.recall_at_10 == pytest.approx(same.recall_at_10, abs=0.03)
        assert (row.source, row.target, row.events) == (same.source, same.target, same.events)
    assert sf.load_model(tmp_path / "pooled")["m0"].facts.refined == ("m1", "m2")
