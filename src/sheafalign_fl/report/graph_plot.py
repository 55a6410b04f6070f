"""The picture of the federation graph."""

from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sheafalign_fl.config import Settings
from sheafalign_fl.numbers import count_of
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.report.style import CYCLE, GREY, INK, new_figure

_MOST_LABELLED_EDGES = 10, 15
"""If all edges have one dimension, which the title tells already; if they differ."""
_MOST_NAMES = 40
_LARGE = 12

Positions = Mapping[str, NDArray[np.float64]]


def graph_picture(settings: Settings) -> Figure:
    """Draw clients as discs with their stalk dimension d_i, and edges with their dimension d_e.

    Edge dimensions are written on the edges as long as there is room, and else in the title.
    Clients of one modality share a colour.
    """
    topology = build_topology(settings)
    graph = topology.graph
    places = _places(graph)
    count = len(topology.clients)
    figure, (axes,) = new_figure(6.2, 4.6 if count <= _LARGE else 6.0)
    _draw_edges(axes, graph, places)
    modalities = [settings.clients[name].modality or name for name in topology.clients]
    _draw_clients(axes, settings, topology.clients, modalities, places)
    axes.set_axis_off()
    axes.set_aspect("equal")
    _frame(axes, np.array(list(places.values())), margin=0.16 if count <= _LARGE else 0.08)
    dims = sorted({edge.dim for edge in topology.edges})
    spread = f"{dims[0]}" if len(dims) == 1 else f"{dims[0]} to {dims[-1]}"
    axes.set_title(
        f"{count_of(count, 'client')}, {count_of(len(topology.edges), 'edge')}, comparison spaces "
        f"of dimension {spread}"
    )
    return figure


def _frame(axes: Axes, spots: NDArray[np.float64], margin: float) -> None:
    """Leave room for names around `spots` (N, 2), also where they all stand in one line."""
    low, high = spots.min(axis=0), spots.max(axis=0)
    size = float((high - low).max())
    middle, half = (low + high) / 2, np.maximum(high - low, 0.3 * size) / 2 + margin * size
    # Names stand to the left and right, so that the sides need more room than top and bottom.
    axes.set_xlim(middle[0] - half[0] - 0.1 * size, middle[0] + half[0] + 0.1 * size)
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])


def _draw_edges(axes: Axes, graph: "nx.Graph[str]", places: Positions) -> None:
    many = graph.number_of_edges()
    width, alpha = (1.6, 1.0) if many <= 45 else (0.6, max(0.06, min(0.6, 150 / many)))
    lines = nx.draw_networkx_edges(
        graph, places, ax=axes, edge_color=GREY, width=width, alpha=alpha
    )
    lines.set_zorder(1)
    if many > 400:
        # Thousands of paths would make the page heavy; as a picture they are one.
        lines.set_rasterized(True)
    dims = {(source, target): str(dim) for source, target, dim in graph.edges(data="dim")}
    if many <= _MOST_LABELLED_EDGES[len(set(dims.values())) > 1]:
        # Off the middle, where the diagonals of a complete graph would put all labels in one place.
        nx.draw_networkx_edge_labels(
            graph,
            places,
            dims,
            label_pos=0.29 if many > 3 else 0.5,
            font_size=8,
            font_color=INK,
            rotate=False,
            ax=axes,
            bbox={
                "boxstyle": "round,pad=0.22",
                "facecolor": "white",
                "edgecolor": "#d9dee4",
                "linewidth": 0.7,
            },
        )


def _draw_clients(
    axes: Axes,
    settings: Settings,
    clients: Sequence[str],
    modalities: Sequence[str],
    places: Positions,
) -> None:
    count = len(clients)
    kinds = sorted(set(modalities), key=modalities.index)
    shared = 1 < len(kinds) < count and len(kinds) <= len(CYCLE)
    colours = [CYCLE[kinds.index(kind)] if shared else CYCLE[0] for kind in modalities]
    size = 620 if count <= _LARGE else 150 if count <= _MOST_NAMES else 55
    spots = np.array([places[name] for name in clients])
    axes.scatter(
        spots[:, 0], spots[:, 1], s=size, c=colours, edgecolors="white", linewidths=1.5, zorder=3
    )
    if shared:
        for kind, colour in zip(kinds, CYCLE, strict=False):
            axes.scatter([], [], s=60, c=colour, label=kind)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    centre = spots.mean(axis=0)
    for name, spot in zip(clients, spots, strict=True):
        if count <= _LARGE:
            inside = {"ha": "center", "va": "center", "color": "white", "fontsize": 8.5}
            axes.text(spot[0], spot[1], str(settings.clients[name].dim), inside, zorder=4)
        if count <= _MOST_NAMES:
            _name(axes, name, spot, spot - centre, 9.5 if count <= _LARGE else 7)


def _name(
    axes: Axes, name: str, spot: NDArray[np.float64], outward: NDArray[np.float64], size: float
) -> None:
    """Write a client's name beside its disc, on the side that faces away from the others."""
    length = float(np.linalg.norm(outward))
    way = outward / length if length > 1e-6 else np.array([0.7, -0.7])
    sideways, away = abs(way[0]) > 0.35, 17 if size > 8 else 9
    axes.annotate(
        name if len(name) <= 24 else name[:23] + "…",
        (spot[0], spot[1]),
        xytext=(away * way[0], away * way[1]),
        textcoords="offset points",
        ha=("left" if way[0] > 0 else "right") if sideways else "center",
        va="center" if abs(way[1]) < 0.35 else "bottom" if way[1] > 0 else "top",
        fontsize=size,
        fontweight="bold" if size > 8 else "normal",
        zorder=5,
    )


def _places(graph: "nx.Graph[str]") -> Positions:
    """Return where the clients stand.

    A hub stands in the middle, dense and regular graphs on a circle, others by distance.
    """
    names = list(graph)
    degrees = dict(graph.degree())
    hub = max(names, key=lambda name: degrees[name])
    if len(names) > 3 and degrees[hub] == len(names) - 1 == graph.number_of_edges():
        rim = [name for name in names if name != hub]
        return {**_circle(rim), hub: np.zeros(2)}
    dense = graph.number_of_edges() > 0.3 * len(names) * (len(names) - 1) / 2
    ring = all(degree == 2 for degree in degrees.values())
    if len(names) == 2:
        return {name: np.array([x, 0.0]) for name, x in zip(names, (-1.0, 1.0), strict=True)}
    if dense or ring or len(names) == 3:
        # The ring's own order, so that it is drawn without crossings.
        return _circle([edge[0] for edge in nx.find_cycle(graph)] if ring else names)
    places: Positions = nx.kamada_kawai_layout(graph)
    return places


def _circle(names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    return {
        name: np.array([np.cos(angle), np.sin(angle)])
        for name, angle in zip(names, angles, strict=True)
    }
