"""Maps, objective and Laplacian against slow loops written from DESIGN section 2."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from sheafalign_fl.config.schema import MapSettings, ObjectiveSettings, Settings
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.sheaf import (
    EdgeBatch,
    contrastive_loss,
    cross_reconstruction_loss,
    edge_maps,
    edge_terms,
    laplacian_loss,
    reconstruction_loss,
    sheaf_laplacian,
    weighted_terms,
)
from sheafalign_fl.sheaf.laplacian import coboundary
from tests.conftest import toy_settings

B, D, D_E = 7, 6, 4


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "h": torch.randn(B, D, dtype=torch.float64),
        "z_ij": torch.randn(B, D_E, dtype=torch.float64),
        "z_ji": torch.randn(B, D_E, dtype=torch.float64),
    }


def cosine(a: Any, b: Any) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return float(product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))


def test_laplacian_is_the_mean_squared_distance(batch: dict[str, torch.Tensor]) -> None:
    a, b = batch["z_ij"].tolist(), batch["z_ji"].tolist()
    slow = (
        sum(sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) for p, q in zip(a, b, strict=True))
        / B
    )
    assert laplacian_loss(batch["z_ij"], batch["z_ji"]).item() == pytest.approx(slow)
    unit = sum(2 - 2 * cosine(p, q) for p, q in zip(a, b, strict=True)) / B
    assert laplacian_loss(batch["z_ij"], batch["z_ji"], normalised=True).item() == pytest.approx(
        unit
    )


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_contrastive_is_the_symmetric_info_nce(
    batch: dict[str, torch.Tensor], temperature: float
) -> None:
    a, b = batch["z_ij"].tolist(), batch["z_ji"].tolist()
    total = 0.0
    for k in range(B):
        positive = math.exp(cosine(a[k], b[k]) / temperature)
        total -= math.log(
            positive / sum(math.exp(cosine(a[k], b[m]) / temperature) for m in range(B))
        )
        total -= math.log(
            positive / sum(math.exp(cosine(a[m], b[k]) / temperature) for m in range(B))
        )
    found = contrastive_loss(batch["z_ij"], batch["z_ji"], temperature)
    assert found.item() == pytest.approx(total / 2 / B)
    assert contrastive_loss(batch["z_ji"], batch["z_ij"], temperature).item() == pytest.approx(
        found.item()
    )


def test_reconstructions_are_mean_squared_errors(batch: dict[str, torch.Tensor]) -> None:
    maps = edge_maps(MapSettings(initial="normal"), D, D_E).double()
    q = maps.dual().detach().numpy()
    for loss, z in (
        (reconstruction_loss, batch["z_ij"]),
        (cross_reconstruction_loss, batch["z_ji"]),
    ):
        slow = np.mean((z.numpy() @ q.T - batch["h"].numpy()) ** 2)
        assert loss(maps, z, batch["h"]).item() == pytest.approx(float(slow))


def test_cross_reconstruction_trains_the_dual_map_alone(batch: dict[str, torch.Tensor]) -> None:
    maps = edge_maps(MapSettings(), D, D_E).double()
    h = batch["h"].requires_grad_()
    cross_reconstruction_loss(maps, batch["z_ji"], h).backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in maps.named_parameters()}
    assert gradients["Q"] is not None
    assert gradients["P"] is None
    assert h.grad is None


def test_the_total_is_the_weighted_sum_and_a_weight_of_0_gives_no_gradient(
    batch: dict[str, torch.Tensor],
) -> None:
    objective = ObjectiveSettings(
        laplacian=0.3, contrastive=2.0, reconstruction=0.0, cross_reconstruction=0.7
    )
    maps = edge_maps(MapSettings(), D, D_E).double()
    h = batch["h"].requires_grad_()
    terms = edge_terms(
        weighted_terms(objective),
        EdgeBatch(objective, maps, h, maps.restrict(h), batch["z_ji"].requires_grad_()),
    )
    weights = {"laplacian": 0.3, "contrastive": 2.0, "cross_reconstruction": 0.7}
    weighted = sum(weight * terms.values[name].item() for name, weight in weights.items())
    assert terms.total.item() == pytest.approx(weighted)
    assert not terms.values["reconstruction"].requires_grad
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert batch["z_ji"].grad is None  # the neighbour's embeddings are values


@pytest.mark.parametrize(("dim", "edge_dim"), [(6, 4), (4, 6), (5, 5)])
def test_orthogonal_maps_stay_orthogonal_while_they_learn(dim: int, edge_dim: int) -> None:
    torch.manual_seed(1)
    maps = edge_maps(MapSettings(family="orthogonal"), dim, edge_dim)
    before = maps.restriction().detach().clone()
    optimiser = torch.optim.Adam(maps.parameters(), lr=0.05)
    h, target = torch.randn(20, dim), torch.randn(20, edge_dim)
    for _ in range(30):
        optimiser.zero_grad()
        (maps.restrict(h) - target).square().mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    P = maps.restriction().detach()
    assert (P - before).abs().max() > 0.05
    small = min(dim, edge_dim)
    product = P @ P.T if edge_dim <= dim else P.T @ P
    torch.testing.assert_close(product, torch.eye(small), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.dual().detach(), P.T)


def test_identity_maps_need_equal_dimensions_and_do_nothing() -> None:
    maps = edge_maps(MapSettings(family="identity"), 5, 5)
    h = torch.randn(3, 5)
    assert maps.restrict(h) is h
    assert list(maps.parameters()) == []
    with pytest.raises(ConfigError, match="identity maps need"):
        edge_maps(MapSettings(family="identity"), 5, 4)


def settings_with(graph: dict[str, Any]) -> Settings:
    clients = {f"m{index}": {"dim": 3 + index} for index in range(4)}
    return toy_settings(clients=clients, graph=graph)


@pytest.mark.parametrize(
    "graph",
    [
        {"topology": "complete", "dim": 4},
        {"topology": "star", "dim": 2},
        {
            "topology": "edges",
            "edges": [{"between": [f"m{k + 1}", f"m{k}"], "dim": k + 2} for k in range(3)],
        },
    ],
)
def test_the_laplacian_sums_the_squared_disagreement_of_all_edges(graph: dict[str, Any]) -> None:
    torch.manual_seed(2)
    settings = settings_with(graph)
    topology = build_topology(settings)
    dims = {name: client.dim for name, client in settings.clients.items()}
    P = {
        (client, other): torch.randn(dim, dims[client], dtype=torch.float64)
        for client in topology.clients
        for other, dim in topology.neighbours(client).items()
    }
    L = sheaf_laplacian(topology, P)
    h = {client: torch.randn(dim, dtype=torch.float64) for client, dim in dims.items()}
    stacked = torch.cat([h[client] for client in topology.clients])
    slow = sum(
        ((P[e.source, e.target] @ h[e.source] - P[e.target, e.source] @ h[e.target]) ** 2).sum()
        for e in topology.edges
    )
    assert (stacked @ L @ stacked).item() == pytest.approx(float(slow))
    torch.testing.assert_close(L, L.T)
    assert torch.linalg.eigvalsh(L).min() > -1e-9


def test_a_constant_sheaf_has_the_graph_laplacian_times_identity() -> None:
    topology = build_topology(settings_with({"topology": "ring", "dim": 3}))
    identity = torch.eye(3, dtype=torch.float64)
    P = {
        (client, other): identity
        for client in topology.clients
        for other in topology.neighbours(client)
    }
    incidence = torch.zeros(len(topology.edges), 4, dtype=torch.float64)
    for row, edge in enumerate(topology.edges):
        incidence[row, topology.clients.index(edge.source)] = 1
        incidence[row, topology.clients.index(edge.target)] = -1
    torch.testing.assert_close(coboundary(topology, P), torch.kron(incidence, identity))
    torch.testing.assert_close(
        sheaf_laplacian(topology, P), torch.kron(incidence.T @ incidence, identity)
    )
