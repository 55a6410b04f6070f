"""The baseline of `experiments.speed`: joint training that does no work twice."""

from collections import Counter
from typing import Any

import pytest
import torch

import sheafalign_fl.engines.pooled as pooled
from experiments.speed import JointLoop
from sheafalign_fl.engines.check import check
from sheafalign_fl.learner.embedder import Embedder
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.sheaf.maps import EdgeMaps
from tests.conftest import toy_settings


def test_a_step_of_the_baseline_evaluates_every_client_and_edge_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, calls = JointLoop(toy_settings()), Counter[str]()

    def counted(where: Any, name: str) -> None:
        real = getattr(where, name)

        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(where, name, call)

    counted(Embedder, "encode")
    counted(EdgeMaps, "restrict")
    counted(pooled, "joint_edge_terms")
    counted(torch.Tensor, "backward")
    loop.step()
    topology = build_topology(toy_settings())
    edges = len(topology.edges)
    assert calls == {
        "encode": len(topology.clients),
        "restrict": 2 * edges,
        "joint_edge_terms": edges,
        "backward": 1,
    }


def test_the_baseline_takes_the_steps_of_joint_training() -> None:
    settings = toy_settings()
    topology = build_topology(settings)
    joint = pooled.JointTraining(
        settings,
        topology,
        check(settings).agreement,
        {client: client_data(client, settings) for client in topology.clients},
    )
    loop = JointLoop(settings)
    for exchange in range(3):
        joint.step(exchange)
        loop.step()
    for client, node in joint.nodes.items():
        for one, other in zip(node.parameters(), loop.nodes[client].parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
