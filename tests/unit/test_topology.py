"""Every topology against its definition."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import parse_settings
from sheafalign_fl.errors import TopologyError
from sheafalign_fl.protocol.topology import Topology, build_topology


def build(count: int, seed: int = 0, **graph: Any) -> Topology:
    names = [f"c{index}" for index in range(count)]
    return build_topology(parse_settings({"seed": seed, "clients": names, "graph": graph}))


def pairs(topology: Topology) -> set[frozenset[int]]:
    return {frozenset((int(edge.source[1:]), int(edge.target[1:]))) for edge in topology.edges}


@given(st.integers(2, 12))
@settings(deadline=None, max_examples=11)
def test_regular_topologies_have_the_edges_of_their_definition(count: int) -> None:
    everyone = range(count)
    assert pairs(build(count, topology="complete")) == {
        frozenset((i, j)) for i in everyone for j in everyone if i < j
    }
    assert pairs(build(count, topology="path")) == {frozenset((i, i + 1)) for i in range(count - 1)}
    ring = {frozenset((i, (i + 1) % count)) for i in everyone}
    assert pairs(build(count, topology="ring")) == ring
    hub = count // 2
    star = build(count, topology="star", centre=f"c{hub}")
    assert pairs(star) == {frozenset((hub, i)) for i in everyone if i != hub}


def connected(topology: Topology) -> bool:
    reached, frontier = {topology.clients[0]}, [topology.clients[0]]
    while frontier:
        for neighbour in topology.neighbours(frontier.pop()):
            if neighbour not in reached:
                reached.add(neighbour)
                frontier.append(neighbour)
    return reached == set(topology.clients)


@given(st.integers(6, 25), st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_random_topologies_are_connected_and_come_from_the_seed(count: int, seed: int) -> None:
    for graph in (
        {"topology": "random", "probability": 0.4},
        {"topology": "small-world", "probability": 0.3},
    ):
        one = build(count, seed, **graph)
        assert connected(one)
        assert one == build(count, seed, **graph)
    assert len(build(count, seed, topology="small-world").edges) == 2 * count
    assert {pairs_frozen(build(count, other, topology="random")) for other in range(6)} != {
        pairs_frozen(one)
    }


def pairs_frozen(topology: Topology) -> frozenset[frozenset[int]]:
    return frozenset(pairs(topology))


def test_neighbours_see_the_same_dimension_from_both_ends() -> None:
    edges = [{"between": ["c0", "c1"], "dim": 3}, {"between": ["c2", "c1"]}]
    topology = build(3, topology="edges", edges=edges, dim=9)
    assert topology.neighbours("c1") == {"c0": 3, "c2": 9}
    assert topology.neighbours("c0") == {"c1": 3}
    assert [edge.other("c1") for edge in topology.edges_of("c1")] == ["c0", "c2"]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([["c0", "c1"], ["c1", "cc2"]], "unknown client 'cc2'; did you mean 'c2'"),
        ([["c0", "c0"]], "self-loop"),
        ([["c0", "c1"], ["c1", "c0"], ["c1", "c2"]], "given twice"),
        ([["c0", "c1"]], "no path leads from c2"),
    ],
)
def test_impossible_graphs_are_refused(edges: list[list[str]], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        build(3, topology="edges", edges=[{"between": pair} for pair in edges])


def test_a_hub_that_is_no_client_is_refused() -> None:
    with pytest.raises(TopologyError, match="unknown client 'd0'"):
        build(3, topology="star", centre="d0")
