"""In a space that all share, pairs that are no neighbours are measured too, at no training byte."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest

from sheafalign_fl import metrics
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.node import Node
from sheafalign_fl.protocol import agreement
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

CLIENTS = {"m0": {"dim": 10}, "m1": {"dim": 10}, "m2": {"dim": 10}}


def imagebind(**sections: object) -> Settings:
    """Return a star around m0 in one space."""
    objective = {"laplacian": 0.0, "reconstruction": 0.0, "cross_reconstruction": 0.0}
    graph = {"topology": "star", "centre": "m0", "dim": 10}
    maps = {"family": "identity"}
    return toy_settings(clients=CLIENTS, maps=maps, graph=graph, objective=objective, **sections)


@pytest.mark.draws_report
def test_the_pair_without_the_anchor_is_measured(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = imagebind(
        evaluation={"every": 3, "metrics": ["retrieval", "transfer", "consistency"]}
    )
    run_inprocess(settings, folder := run_folder(settings))
    summary = folder.load_summary()
    directions = set(permutations(CLIENTS, 2))
    assert {(row.source, row.target) for row in summary.quality.retrieval} == directions
    assert {(row.source, row.target) for row in summary.quality.transfer} == directions
    assert len(summary.quality.consistency) == 3
    trained = {
        (row.source, row.target)
        for row in summary.bytes
        if row.purpose == "train" and row.payload_bytes
    }
    assert trained == {("m0", "m1"), ("m0", "m2"), ("m1", "m0"), ("m2", "m0")}
    assert folder.report.is_file()


def test_it_is_measured_as_the_cosine_of_the_embeddings_themselves(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = imagebind()
    run_inprocess(settings, folder := run_folder(settings))
    topology, agreed = build_topology(settings), check(settings).agreement
    found = {}
    for client in ("m1", "m2"):
        node = Node(
            client, settings, client_data(client, settings), agreed.for_client(client, topology)
        )
        node.load_state(folder.load_client(settings.training.exchanges, client))
        found[client], has = node.embeddings("test")
        assert has.all()
    expected = metrics.retrieval("m1", "m2", found["m1"], found["m2"], None)
    (measured,) = [
        row
        for row in folder.load_summary().quality.retrieval
        if (row.source, row.target) == ("m1", "m2")
    ]
    assert (measured.recall_at_1, measured.recall_at_10) == (
        expected.recall_at_1,
        expected.recall_at_10,
    )
    assert not np.array_equal(found["m1"], found["m2"])


def test_comparison_spaces_belong_to_edges() -> None:
    settings = toy_settings(graph={"topology": "star", "centre": "m0"})
    assert check(settings).agreement.non_neighbours == ()


def test_of_many_clients_only_edges_are_measured() -> None:
    most = agreement.MOST_COMPARED
    for count, non_neighbours in ((most, (most - 1) * (most - 2) // 2), (most + 1, 0)):
        settings = toy_settings(
            clients={"m0": {"dim": 8}, "m1": {"dim": 8, "replicas": count - 1}},
            maps={"family": "identity"},
            graph={"topology": "star", "centre": "m0", "dim": 8},
        )
        assert len(check(settings).agreement.non_neighbours) == non_neighbours
