"""The federation graph: clients, edges with their comparison-space dimension, neighbours."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import networkx as nx

from sheafalign_fl.config.mending import closest
from sheafalign_fl.config.registry import Registry
from sheafalign_fl.config.schema import GraphSettings, Settings
from sheafalign_fl.errors import TopologyError
from sheafalign_fl.seeding import derive


@dataclass(frozen=True, order=True)
class Edge:
    """An edge e = {source, target}, oriented source -> target, with comparison space R^dim."""

    source: str
    target: str
    dim: int

    def other(self, client: str) -> str:
        """Return the end of the edge that is not `client`."""
        return self.target if client == self.source else self.source


@dataclass(frozen=True)
class Topology:
    """A connected simple graph over named clients.

    Raises
    ------
    TopologyError
        On construction: an edge names an unknown client, is a self-loop or a duplicate, has
        dim < 1, or the graph is not connected.
    """

    clients: tuple[str, ...]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        seen: set[frozenset[str]] = set()
        for edge in self.edges:
            _check_edge(edge, self.clients)
            if (ends := frozenset((edge.source, edge.target))) in seen:
                raise TopologyError(f"graph: the edge {edge.source}-{edge.target} is given twice")
            seen.add(ends)
        parts: list[set[str]] = [set(part) for part in nx.connected_components(self.graph)]
        if len(parts) > 1:
            smallest = min((sorted(part) for part in parts), key=lambda part: (len(part), part))
            lonely = ", ".join(smallest)
            raise TopologyError(
                f"graph: it is not connected; no path leads from {lonely} to the others"
            )

    def without(self, clients: Collection[str]) -> "Topology":
        """Return the graph of the other clients; raise `TopologyError` if it falls apart."""
        return Topology(
            tuple(client for client in self.clients if client not in clients),
            tuple(e for e in self.edges if e.source not in clients and e.target not in clients),
        )

    @cached_property
    def graph(self) -> "nx.Graph[str]":
        """The same as a networkx graph, with `dim` on every edge."""
        graph: nx.Graph[str] = nx.Graph()
        graph.add_nodes_from(self.clients)
        graph.add_edges_from((edge.source, edge.target, {"dim": edge.dim}) for edge in self.edges)
        return graph

    @cached_property
    def _neighbours(self) -> Mapping[str, tuple[Edge, ...]]:
        found: dict[str, list[Edge]] = {client: [] for client in self.clients}
        for edge in self.edges:
            found[edge.source].append(edge)
            found[edge.target].append(edge)
        return {client: tuple(edges) for client, edges in found.items()}

    def edges_of(self, client: str) -> tuple[Edge, ...]:
        """Return the edges that `client` is an end of, in the order of `edges`."""
        return self._neighbours[client]

    def neighbours(self, client: str) -> dict[str, int]:
        """Return neighbour -> d_e, in the order of `edges`."""
        return {edge.other(client): edge.dim for edge in self.edges_of(client)}


def build_topology(settings: Settings) -> Topology:
    """Build the graph that `settings.graph` describes over `settings.clients`, in written order.

    Random graphs are a function of (seed, number of clients); a draw that is not connected is drawn
    again.
    """
    clients = tuple(settings.clients)
    graph = settings.graph
    if graph.topology == "edges":
        edges = tuple(Edge(*edge.between, edge.dim or graph.dim) for edge in graph.edges)
        return Topology(clients, edges)
    pairs = sorted(tuple(sorted(pair)) for pair in _pairs(graph, clients, settings.seed))
    return Topology(clients, tuple(Edge(clients[a], clients[b], graph.dim) for a, b in pairs))


def _pairs(graph: GraphSettings, clients: Sequence[str], seed: int) -> Iterable[tuple[int, int]]:
    pairs = TOPOLOGIES.resolve(graph.topology, "graph.topology")(clients, graph, seed)
    if graph.topology in TOPOLOGIES:
        return pairs
    try:
        found = [(int(a), int(b)) for a, b in pairs]
    except (TypeError, ValueError) as error:
        raise TopologyError(f"graph: '{graph.topology}' returned no pairs: {error}") from None
    if any(not 0 <= end < len(clients) for pair in found for end in pair):
        raise TopologyError(f"graph: '{graph.topology}' names a client that there is not")
    return found


def _ring(clients: Sequence[str], graph: GraphSettings, seed: int) -> Iterable[tuple[int, int]]:
    count = len(clients)
    found = nx.cycle_graph(count) if count > 2 else nx.path_graph(count)
    return list(found.edges)


def _star(clients: Sequence[str], graph: GraphSettings, seed: int) -> Iterable[tuple[int, int]]:
    centre = _index_of(graph.centre, clients) if graph.centre is not None else 0
    return [(centre, other) for other in range(len(clients)) if other != centre]


TopologyFunction = Callable[[Sequence[str], GraphSettings, int], Iterable[tuple[int, int]]]
"""Of (clients, settings, seed): pairs of indices into the clients."""
TOPOLOGIES: Registry[TopologyFunction] = Registry(
    "topology",
    {
        "complete": lambda clients, *_: list(nx.complete_graph(len(clients)).edges),
        "ring": _ring,
        "star": _star,
        "path": lambda clients, *_: list(nx.path_graph(len(clients)).edges),
        "random": lambda clients, graph, seed: list(
            _random_graph(len(clients), graph.probability, seed).edges
        ),
        "small-world": lambda clients, graph, seed: list(
            _small_world(len(clients), graph, seed).edges
        ),
    },
    lambda path, function: cast(TopologyFunction, function),
    also=("edges",),
)
"""The kinds of graph that are drawn; beside them there is the list under `graph.edges`."""


def _random_graph(count: int, probability: float, seed: int) -> "nx.Graph[int]":
    for attempt in range(1000):
        found = nx.gnp_random_graph(count, probability, seed=derive(seed, "graph", attempt) % 2**32)
        if nx.is_connected(found):
            return found
    raise TopologyError(
        f"graph: no connected random graph of {count} clients in 1000 draws at probability "
        f"{probability}; raise it"
    )


def _small_world(count: int, graph: GraphSettings, seed: int) -> "nx.Graph[int]":
    if graph.neighbours % 2 or not graph.neighbours < count:
        raise TopologyError(
            f"graph: small-world needs an even number of neighbours below the {count} clients, not "
            f"{graph.neighbours}"
        )
    return nx.connected_watts_strogatz_graph(
        count, graph.neighbours, graph.probability, tries=1000, seed=derive(seed, "graph") % 2**32
    )


def _index_of(client: str, clients: Sequence[str]) -> int:
    if client not in clients:
        raise TopologyError(f"graph: unknown client '{client}'{_suggest(client, clients)}")
    return clients.index(client)


def _check_edge(edge: Edge, clients: Sequence[str]) -> None:
    for end in (edge.source, edge.target):
        if end not in clients:
            raise TopologyError(
                f"graph: the edge {edge.source}-{edge.target} names an unknown client "
                f"'{end}'{_suggest(end, clients)}"
            )
    if edge.source == edge.target:
        raise TopologyError(
            f"graph: the edge {edge.source}-{edge.target} is a self-loop; an edge joins two clients"
        )
    if edge.dim < 1:
        raise TopologyError(
            f"graph: the edge {edge.source}-{edge.target} has dimension {edge.dim}; it must be 1 "
            "or more"
        )


def _suggest(name: str, known: Sequence[str]) -> str:
    close = closest(name, known)
    return f"; did you mean '{close}'?" if close else f"; known: {', '.join(known)}"
