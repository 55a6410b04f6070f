"""Coboundary and sheaf Laplacian of random federations, block by block and entry by entry."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.protocol.topology import Edge, Topology
from sheafalign_fl.sheaf import coboundary, diffused, sheaf_laplacian, spectrum

Maps = dict[tuple[str, str], Tensor]


@st.composite
def topologies(draw: st.DrawFn, edge_dim: int | None = None) -> Topology:
    """Return a random connected graph: a tree whose edges point either way, and further edges."""
    count = draw(st.integers(2, 6))
    pairs = {(k, draw(st.integers(0, k - 1))) for k in range(1, count)}
    pairs |= draw(
        st.sets(st.sampled_from([(i, j) for i in range(count) for j in range(i)]), max_size=4)
    )
    edges = []
    for i, j in draw(st.permutations(sorted(pairs))):
        source, target = (i, j) if draw(st.booleans()) else (j, i)
        edges.append(Edge(f"c{source}", f"c{target}", edge_dim or draw(st.integers(1, 5))))
    return Topology(tuple(f"c{k}" for k in range(count)), tuple(edges))


@st.composite
def sheaves(draw: st.DrawFn) -> tuple[Topology, dict[str, int], Maps, dict[str, Tensor]]:
    """Return a graph, stalk dimensions, restriction maps and one vector h_i on every client."""
    topology = draw(topologies())
    dims = {client: draw(st.integers(1, 5)) for client in topology.clients}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maps: Maps = {}
    for edge in topology.edges:
        for i, j in ((edge.source, edge.target), (edge.target, edge.source)):
            maps[i, j] = torch.from_numpy(rng.normal(size=(edge.dim, dims[i])))
    return (
        topology,
        dims,
        maps,
        {client: torch.from_numpy(rng.normal(size=dim)) for client, dim in dims.items()},
    )


Sheaf = tuple[Topology, dict[str, int], Maps, dict[str, Tensor]]


def offsets(dims: dict[str, int]) -> dict[str, int]:
    found, position = {}, 0
    for client, dim in dims.items():
        found[client] = position
        position += dim
    return found


@given(sheaves())
@settings(deadline=None, max_examples=60)
def test_the_quadratic_form_sums_the_squared_disagreement_of_all_edges(sheaf: Sheaf) -> None:
    topology, _, maps, h = sheaf
    slow = 0.0
    for edge in topology.edges:
        z_ij, z_ji = (
            maps[edge.source, edge.target] @ h[edge.source],
            maps[edge.target, edge.source] @ h[edge.target],
        )
        for one, other in zip(z_ij.tolist(), z_ji.tolist(), strict=True):
            slow += (one - other) ** 2
    stacked = torch.cat([h[client] for client in topology.clients])
    assert (stacked @ sheaf_laplacian(topology, maps) @ stacked).item() == pytest.approx(slow)
    assert (coboundary(topology, maps) @ stacked).square().sum().item() == pytest.approx(slow)


@given(sheaves())
@settings(deadline=None, max_examples=60)
def test_the_coboundary_has_an_edge_s_maps_in_its_clients_columns(sheaf: Sheaf) -> None:
    topology, dims, maps, h = sheaf
    delta, start = coboundary(topology, maps), offsets(dims)
    expected: NDArray[np.float64] = np.zeros(
        (sum(edge.dim for edge in topology.edges), sum(dims.values()))
    )
    row = 0
    for edge in topology.edges:
        for component in range(edge.dim):
            for column in range(dims[edge.source]):
                entry = maps[edge.source, edge.target][component, column]
                expected[row + component, start[edge.source] + column] += float(entry)
            for column in range(dims[edge.target]):
                entry = maps[edge.target, edge.source][component, column]
                expected[row + component, start[edge.target] + column] -= float(entry)
        row += edge.dim
    np.testing.assert_array_equal(delta.numpy(), expected)
    image, row = delta @ torch.cat(list(h.values())), 0
    for edge in topology.edges:  # (delta h)_e = P_ij h_i - P_ji h_j
        difference = (
            maps[edge.source, edge.target] @ h[edge.source]
            - maps[edge.target, edge.source] @ h[edge.target]
        )
        torch.testing.assert_close(image[row : row + edge.dim], difference)
        row += edge.dim


@given(sheaves())
@settings(deadline=None, max_examples=60)
def test_the_laplacian_has_the_blocks_of_its_definition(sheaf: Sheaf) -> None:
    """L_ii = sum over neighbours of P_ij^T P_ij, L_ij = -P_ij^T P_ji, 0 between non-neighbours."""
    topology, dims, maps, _ = sheaf
    L, start = sheaf_laplacian(topology, maps), offsets(dims)
    for i in topology.clients:
        for j in topology.clients:
            expected = torch.zeros(dims[i], dims[j], dtype=torch.float64)
            if i == j:
                for neighbour in topology.neighbours(i):
                    expected = expected + maps[i, neighbour].T @ maps[i, neighbour]
            elif j in topology.neighbours(i):
                expected = -maps[i, j].T @ maps[j, i]
            block = L[start[i] : start[i] + dims[i], start[j] : start[j] + dims[j]]
            torch.testing.assert_close(block, expected)


@given(sheaves())
@settings(deadline=None, max_examples=40)
def test_the_laplacian_is_symmetric_and_positive_semidefinite(sheaf: Sheaf) -> None:
    topology, _, maps, _ = sheaf
    L = sheaf_laplacian(topology, maps)
    assert torch.equal(L, L.T) or (L - L.T).abs().max() < 1e-12
    spectrum = torch.linalg.eigvalsh(L)
    assert spectrum.min() > -1e-9 * max(1.0, float(spectrum.max()))


@given(sheaves())
@settings(deadline=None, max_examples=40)
def test_the_orientation_of_an_edge_does_not_change_the_laplacian(sheaf: Sheaf) -> None:
    topology, _, maps, _ = sheaf
    turned = Topology(
        topology.clients, tuple(Edge(edge.target, edge.source, edge.dim) for edge in topology.edges)
    )
    torch.testing.assert_close(sheaf_laplacian(turned, maps), sheaf_laplacian(topology, maps))
    torch.testing.assert_close(coboundary(turned, maps), -coboundary(topology, maps))


@given(topologies(edge_dim=3))
@settings(deadline=None, max_examples=40)
def test_a_constant_sheaf_is_the_graph_laplacian_times_the_identity(topology: Topology) -> None:
    identity = np.eye(3)
    maps = {
        (i, j): torch.from_numpy(identity) for i in topology.clients for j in topology.neighbours(i)
    }
    count = len(topology.clients)
    incidence, laplacian = np.zeros((len(topology.edges), count)), np.zeros((count, count))
    for row, edge in enumerate(topology.edges):
        i, j = topology.clients.index(edge.source), topology.clients.index(edge.target)
        incidence[row, i], incidence[row, j] = 1, -1
        laplacian[i, i] += 1
        laplacian[j, j] += 1
        laplacian[i, j] -= 1
        laplacian[j, i] -= 1
    np.testing.assert_array_equal(coboundary(topology, maps).numpy(), np.kron(incidence, identity))
    L = sheaf_laplacian(topology, maps).numpy()
    np.testing.assert_array_equal(L, np.kron(laplacian, identity))
    # Connected, so what all clients agree on is constant: exactly as many zero eigenvalues as
    # dimensions.
    assert (np.linalg.eigvalsh(L) < 1e-9).sum() == 3


@given(sheaves())
@settings(deadline=None, max_examples=30)
def test_embeddings_that_agree_everywhere_are_in_the_kernel(sheaf: Sheaf) -> None:
    """With invertible maps towards one shared vector, h_i = P_i^-1 v is a global section."""
    topology, _, _, _ = sheaf
    rng = np.random.default_rng(0)
    square = {
        client: torch.from_numpy(rng.normal(size=(3, 3)) + 4 * np.eye(3))
        for client in topology.clients
    }
    same = Topology(
        topology.clients, tuple(Edge(edge.source, edge.target, 3) for edge in topology.edges)
    )
    maps = {(i, j): square[i] for i in same.clients for j in same.neighbours(i)}
    v = torch.from_numpy(rng.normal(size=3))
    section = torch.cat([torch.linalg.solve(square[client], v) for client in same.clients])
    torch.testing.assert_close(
        sheaf_laplacian(same, maps) @ section,
        torch.zeros(len(section), dtype=torch.float64),
        atol=1e-10,
        rtol=0,
    )


def test_single_precision_stays_single() -> None:
    topology = Topology(("a", "b"), (Edge("a", "b", 2),))
    maps = {("a", "b"): torch.ones(2, 3), ("b", "a"): torch.ones(2, 1)}
    assert coboundary(topology, maps).dtype == torch.float32
    assert coboundary(topology, maps).tolist() == [[1, 1, 1, -1], [1, 1, 1, -1]]


# ---- spectrum, harmonic space, diffusion ---------------------------------------------------------


@given(sheaves())
@settings(deadline=None, max_examples=40)
def test_the_spectrum_is_that_of_the_laplacian_and_the_harmonic_space_its_kernel(
    sheaf: Sheaf,
) -> None:
    topology, dims, maps, _ = sheaf
    L, found = sheaf_laplacian(topology, maps).numpy(), spectrum(topology, maps)
    np.testing.assert_allclose(
        found.values, np.linalg.eigvalsh(L), atol=1e-9 * (1 + np.abs(L).max())
    )
    assert found.harmonic == len(L) - np.linalg.matrix_rank(coboundary(topology, maps).numpy())
    edge_dims = sum(edge.dim for edge in topology.edges)
    assert found.harmonic >= found.counted == max(0, sum(dims.values()) - edge_dims)
    values, vectors = np.linalg.eigh(L)
    kernel, start = vectors[:, : found.harmonic], offsets(dims)
    assert np.abs(values[: found.harmonic]).max(initial=0) < 1e-9 * (1 + np.abs(L).max())
    for client, dim in dims.items():
        block = kernel[start[client] : start[client] + dim]
        assert found.parts[client] == pytest.approx((block**2).sum() / dim, abs=1e-6)


@given(topologies(edge_dim=3))
@settings(deadline=None, max_examples=20)
def test_in_a_constant_sheaf_every_vector_is_harmonic_once(topology: Topology) -> None:
    """Connected, with identity maps: what all clients have alike, and nothing else."""
    identity = torch.eye(3)
    ends = [(e.source, e.target) for e in topology.edges]
    maps = {pair: identity for i, j in ends for pair in ((i, j), (j, i))}
    found = spectrum(topology, maps)
    assert found.harmonic == 3
    assert found.parts == pytest.approx(dict.fromkeys(topology.clients, 1 / len(topology.clients)))


def test_rounding_of_the_maps_own_precision_is_no_disagreement() -> None:
    topology = Topology(("a", "b", "c"), (Edge("a", "b", 4), Edge("b", "c", 4), Edge("a", "c", 4)))
    rng = np.random.default_rng(0)
    P = {c: torch.from_numpy(rng.normal(size=(4, 4))).float() for c in "abc"}
    turn = torch.from_numpy(rng.normal(size=(4, 4))).float()
    maps = {(i, j): turn @ P[i] for i in "abc" for j in "abc" if i != j}  # float32, rounded
    assert spectrum(topology, maps).harmonic == 4
    maps["a", "b"] = maps["a", "b"] + 1e-3 * torch.eye(4)
    assert spectrum(topology, maps).harmonic < 4


@given(sheaves(), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_diffusion_is_the_power_of_a_matrix_and_lets_edges_agree_more(
    sheaf: Sheaf, steps: int
) -> None:
    topology, dims, maps, h = sheaf
    L = sheaf_laplacian(topology, maps)
    rate = 1 / float(torch.linalg.eigvalsh(L).max())
    batch = {client: torch.stack([vector, 2 * vector]) for client, vector in h.items()}
    stacked = torch.cat([h[client] for client in topology.clients])
    step = torch.eye(len(L), dtype=L.dtype) - rate * L
    expected = torch.linalg.matrix_power(step, steps) @ stacked
    found = diffused(topology, maps, batch, steps, rate)
    assert {client: tuple(values.shape) for client, values in found.items()} == {
        client: (2, dim) for client, dim in dims.items()
    }
    for k in (0, 1):
        together = torch.cat([found[client][k] for client in topology.clients])
        torch.testing.assert_close(together, (k + 1) * expected)
    delta = coboundary(topology, maps)
    before, after = delta @ stacked, delta @ step @ stacked
    assert float(after.norm()) <= float(before.norm()) * (1 + 1e-12) + 1e-12
