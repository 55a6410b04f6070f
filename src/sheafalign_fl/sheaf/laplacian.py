"""Coboundary and sheaf Laplacian of a whole federation: diagnostics and test oracle.

Training never needs them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Oriented(Protocol):
    """An edge, oriented source -> target, with the dimension of its comparison space."""

    @property
    def source(self) -> str:
        """The end whose maps have the sign +1."""

    @property
    def target(self) -> str:
        """The other end."""

    @property
    def dim(self) -> int:
        """d_e."""


class Graph(Protocol):
    """What the Laplacian has to know of a topology."""

    @property
    def clients(self) -> Sequence[str]:
        """The nodes, in the order of the blocks."""

    @property
    def edges(self) -> Sequence[Oriented]:
        """The edges, in the order of the blocks."""


def coboundary(topology: Graph, restrictions: Mapping[tuple[str, str], Tensor]) -> Tensor:
    """Return delta, shape (sum of d_e, sum of d_i).

    (delta h)_e = P_ij h_i - P_ji h_j for e = {i, j} oriented i -> j.

    Parameters
    ----------
    topology
        The graph; the order of its clients and edges gives the blocks.
    restrictions
        (i, j) -> P_ij of shape (d_e, d_i), for both directions of every edge.
    """
    columns = {client: _stalk_dim(client, restrictions) for client in topology.clients}
    offsets, position = {}, 0
    for client, dim in columns.items():
        offsets[client], position = position, position + dim
    blocks = []
    for edge in topology.edges:
        block = torch.zeros(edge.dim, position, dtype=restrictions[edge.source, edge.target].dtype)
        for client, other, sign in (
            (edge.source, edge.target, 1.0),
            (edge.target, edge.source, -1.0),
        ):
            start = offsets[client]
            block[:, start : start + columns[client]] = sign * restrictions[client, other]
        blocks.append(block)
    return torch.cat(blocks)


def sheaf_laplacian(topology: Graph, restrictions: Mapping[tuple[str, str], Tensor]) -> Tensor:
    """Return L = delta^T delta, for which h^T L h = sum_e ||z_ij - z_ji||^2."""
    delta = coboundary(topology, restrictions)
    return delta.T @ delta


def _stalk_dim(client: str, restrictions: Mapping[tuple[str, str], Tensor]) -> int:
    return next(P.shape[1] for (source, _), P in restrictions.items() if source == client)
