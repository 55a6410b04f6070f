"""Graphs against their definitions, written as loops; graphs that cannot be are refused."""

import random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import parse_settings
from sheafalign_fl.errors import TopologyError
from sheafalign_fl.protocol.topology import Edge, Topology, build_topology

Pair = tuple[int, int]


def build(count: int, seed: int = 0, **graph: Any) -> Topology:
    return build_topology(
        parse_settings({"seed": seed, "clients": [f"c{k}" for k in range(count)], "graph": graph})
    )


def oriented(topology: Topology) -> list[Pair]:
    """Return the edges as pairs of indices, in their order and orientation."""
    return [
        (topology.clients.index(edge.source), topology.clients.index(edge.target))
        for edge in topology.edges
    ]


def union_find(count: int, pairs: list[Pair]) -> int:
    """Return the number of connected components."""
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for one, other in pairs:
        parent[root(one)] = root(other)
    return sum(root(node) == node for node in range(count))


# ---- definitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(2, 9))
def test_edges_and_their_order_are_those_of_the_definition(count: int) -> None:
    complete = []
    for i in range(count):
        for j in range(i + 1, count):
            complete.append((i, j))
    path = []
    for i in range(count - 1):
        path.append((i, i + 1))
    ring = [*path, (0, count - 1)] if count > 2 else path
    assert oriented(build(count, topology="complete")) == complete
    assert oriented(build(count, topology="path")) == path
    assert oriented(build(count, topology="ring")) == sorted(ring)


@pytest.mark.parametrize("centre", range(5))
def test_a_star_joins_its_centre_to_everybody(centre: int) -> None:
    found = oriented(build(5, topology="star", centre=f"c{centre}"))
    assert found == sorted((min(centre, k), max(centre, k)) for k in range(5) if k != centre)
    assert oriented(build(5, topology="star")) == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_by_default_the_graph_is_complete_and_every_comparison_space_alike() -> None:
    topology = build(4)
    assert [edge.dim for edge in topology.edges] == [64] * 6
    assert [edge.dim for edge in build(4, dim=7).edges] == [7] * 6
    assert topology.clients == ("c0", "c1", "c2", "c3")


def test_an_edge_list_keeps_its_order_orientation_and_dimensions() -> None:
    edges: list[dict[str, Any]] = [{"between": ["c2", "c0"], "dim": 3}, {"between": ["c1", "c2"]}]
    topology = build(3, topology="edges", edges=edges, dim=11)
    assert topology.edges == (Edge("c2", "c0", 3), Edge("c1", "c2", 11))


@given(st.integers(2, 14), st.integers(0, 2**40), st.floats(0.4, 1))
@settings(deadline=None, max_examples=40)
def test_random_graphs_are_simple_connected_and_come_from_the_seed(
    count: int, seed: int, probability: float
) -> None:
    topology = build(count, seed, topology="random", probability=probability)
    pairs = oriented(topology)
    assert topology == build(count, seed, topology="random", probability=probability)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert all(one < other for one, other in pairs)
    assert union_find(count, pairs) == 1
    assert sum(len(topology.edges_of(client)) for client in topology.clients) == 2 * len(pairs)


def test_a_random_graph_of_probability_1_is_complete_and_others_are_as_dense_as_asked() -> None:
    assert oriented(build(6, topology="random", probability=1.0)) == oriented(build(6))
    edges = sum(
        len(build(20, seed, topology="random", probability=0.5).edges) for seed in range(40)
    )
    # 40 * 190 coin flips: mean 3,800, deviation 44; that the graphs are connected hardly matters at
    # 20 clients.
    assert abs(edges - 3800) < 5 * 44
    assert len({build(20, seed, topology="random").edges for seed in range(10)}) == 10


@given(st.integers(5, 30), st.integers(0, 2**40), st.sampled_from([2, 4]), st.floats(0.01, 1))
@settings(deadline=None, max_examples=40)
def test_small_worlds_keep_the_number_of_edges(
    count: int, seed: int, neighbours: int, probability: float
) -> None:
    graph = {"topology": "small-world", "neighbours": neighbours, "probability": probability}
    topology = build(count, seed, **graph)
    assert topology == build(count, seed, **graph)
    pairs = oriented(topology)
    assert union_find(count, pairs) == 1
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == count * neighbours // 2
    degrees = [len(topology.edges_of(client)) for client in topology.clients]
    assert sum(degrees) == count * neighbours
    assert min(degrees) >= max(1, neighbours // 2)  # rewiring moves only one end of an edge


def test_a_small_world_that_is_hardly_rewired_is_a_ring_of_neighbours() -> None:
    found = oriented(build(9, topology="small-world", neighbours=4, probability=1e-12))
    assert {frozenset(pair) for pair in found} == {
        frozenset((k, (k + step) % 9)) for k in range(9) for step in (1, 2)
    }


def test_neither_names_nor_dimensions_decide_which_random_edges_there_are() -> None:
    graph: dict[str, Any] = {"topology": "random", "probability": 0.3}
    other = build_topology(
        parse_settings(
            {"clients": [f"other-{k}" for k in range(8)], "graph": {**graph, "dim": 3}, "seed": 4}
        )
    )
    assert oriented(other) == oriented(build(8, 4, **graph))


# ---- any graph -----------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int]]]:
    """Return a number of clients and simple oriented edges (i, j, d_e), connected or not."""
    count = draw(st.integers(2, 8))
    every = [(i, j) for i in range(count) for j in range(i)]
    chosen = draw(st.lists(st.sampled_from(every), unique=True, min_size=1))
    turned = [pair if draw(st.booleans()) else pair[::-1] for pair in chosen]
    return count, [(i, j, draw(st.integers(1, 9))) for i, j in turned]


def make(count: int, edges: list[tuple[int, int, int]]) -> Topology:
    return Topology(
        tuple(f"c{k}" for k in range(count)),
        tuple(Edge(f"c{i}", f"c{j}", dim) for i, j, dim in edges),
    )


@given(graphs())
@settings(deadline=None, max_examples=150)
def test_a_graph_is_taken_if_and_only_if_it_is_connected(
    form: tuple[int, list[tuple[int, int, int]]],
) -> None:
    count, edges = form
    if union_find(count, [(i, j) for i, j, _ in edges]) > 1:
        with pytest.raises(TopologyError, match="not connected"):
            make(count, edges)
        return
    topology = make(count, edges)
    for k in range(count):
        slow = {}
        for i, j, dim in edges:
            if i == k:
                slow[f"c{j}"] = dim
            elif j == k:
                slow[f"c{i}"] = dim
        assert topology.neighbours(f"c{k}") == slow
        assert list(topology.neighbours(f"c{k}")) == list(slow)
        assert [edge.other(f"c{k}") for edge in topology.edges_of(f"c{k}")] == list(slow)
    assert {frozenset(pair) for pair in topology.graph.edges} == {
        frozenset((f"c{i}", f"c{j}")) for i, j, _ in edges
    }
    assert all(topology.graph.edges[f"c{i}", f"c{j}"]["dim"] == dim for i, j, dim in edges)


@given(graphs(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_second_edge_between_two_clients_is_refused(
    form: tuple[int, list[tuple[int, int, int]]], rng: random.Random
) -> None:
    count, edges = form
    i, j, _ = rng.choice(edges)
    for again in ((i, j, 3), (j, i, 3)):
        with pytest.raises(TopologyError, match=f"the edge c{again[0]}-c{again[1]} is given twice"):
            make(count, [*edges, again])


@given(graphs(), st.integers(-3, 0))
@settings(deadline=None, max_examples=30)
def test_a_comparison_space_has_at_least_one_dimension(
    form: tuple[int, list[tuple[int, int, int]]], dim: int
) -> None:
    count, edges = form
    assume(union_find(count, [(i, j) for i, j, _ in edges]) == 1)
    spoilt = [*edges[:-1], (*edges[-1][:2], dim)]
    with pytest.raises(TopologyError, match=f"has dimension {dim}; it must be 1 or more"):
        make(count, spoilt)


def test_the_smallest_part_that_nothing_leads_to_is_named() -> None:
    with pytest.raises(TopologyError, match=r"no path leads from c3, c4 to the others"):
        make(5, [(0, 1, 1), (1, 2, 1), (3, 4, 1)])


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        (Edge("camera", "lidra", 3), "names an unknown client 'lidra'; did you mean 'lidar'?"),
        (Edge("zzz", "lidar", 3), "names an unknown client 'zzz'; known: camera, lidar"),
        (Edge("lidar", "lidar", 3), "is a self-loop"),
    ],
)
def test_edges_that_cannot_be_are_named(edge: Edge, message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        Topology(("camera", "lidar"), (Edge("camera", "lidar", 3), edge))
    assert message in str(caught.value)
    assert f"{edge.source}-{edge.target}" in str(caught.value)


@pytest.mark.parametrize(
    ("count", "graph", "message"),
    [
        (
            4,
            {"topology": "small-world", "neighbours": 3},
            "even number of neighbours below the 4 clients, not 3",
        ),
        (
            4,
            {"topology": "small-world", "neighbours": 4},
            "even number of neighbours below the 4 clients, not 4",
        ),
        (
            30,
            {"topology": "random", "probability": 0.001},
            "no connected random graph of 30 clients",
        ),
        (3, {"topology": "star", "centre": "c9"}, "unknown client 'c9'; known: c0, c1, c2"),
    ],
)
def test_descriptions_that_no_graph_fits_are_refused(
    count: int, graph: dict[str, Any], message: str
) -> None:
    with pytest.raises(TopologyError) as caught:
        build(count, **graph)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
