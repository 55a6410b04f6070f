"""Coboundary and sheaf Laplacian of a whole federation: diagnostics and test oracle.

Training never needs them. What they are worth is measured in docs/sheaf.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
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


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues of a sheaf Laplacian and its kernel, the harmonic space (global sections)."""

    values: NDArray[np.float64]
    """Ascending, one for each dimension of all stalks together."""
    tolerance: float
    """Singular values of the coboundary up to here count as 0: the largest of them, times the
    larger of its sides, times the rounding error of the maps' own precision."""
    harmonic: int
    """Dimension of the kernel with that tolerance."""
    counted: int
    """What the kernel has at least, whatever the maps are: sum of d_i less sum of d_e, or 0."""
    parts: Mapping[str, float]
    """Client -> which part of its stalk is harmonic, between 0 and 1: the trace of the kernel's
    projector over its block, over d_i."""


def spectrum(topology: Graph, restrictions: Mapping[tuple[str, str], Tensor]) -> Spectrum:
    """Return the spectrum of L, by singular values of delta in double precision.

    Parameters
    ----------
    topology, restrictions
        As for `coboundary`.
    """
    delta = coboundary(topology, restrictions)
    rounding = torch.finfo(delta.dtype).eps
    _, singular, right = torch.linalg.svd(delta.double(), full_matrices=True)
    largest = float(singular.max()) if len(singular) else 0.0
    tolerance = largest * max(delta.shape) * rounding
    rank = int((singular > tolerance).sum())
    width = delta.shape[1]
    values = np.zeros(width)
    values[width - len(singular) :] = np.sort(singular.numpy() ** 2)
    density = right[rank:].square().sum(dim=0)
    parts, start = {}, 0
    for client in topology.clients:
        dim = _stalk_dim(client, restrictions)
        parts[client] = float(density[start : start + dim].sum()) / dim
        start += dim
    edge_dims = sum(edge.dim for edge in topology.edges)
    return Spectrum(values, tolerance, width - rank, max(0, width - edge_dims), parts)


def diffused(
    topology: Graph,
    restrictions: Mapping[tuple[str, str], Tensor],
    h: Mapping[str, Tensor],
    steps: int,
    rate: float,
) -> dict[str, Tensor]:
    """Return h after `steps` times h <- h - rate L h, each client from its neighbours alone.

    (L h)_i is the sum over neighbours j of P_ij^T (P_ij h_i - P_ji h_j), so a step needs of every
    neighbour its z_ji as it is by then: one exchange of comparison embeddings each.

    Parameters
    ----------
    topology, restrictions
        As for `coboundary`.
    h
        Client -> embeddings of the same events, shape (B, d_i).
    rate
        Below 2 over the largest eigenvalue of L, or it diverges.
    """
    now = dict(h)
    for _ in range(steps):
        flows = {client: torch.zeros_like(values) for client, values in now.items()}
        for edge in topology.edges:
            one, other = edge.source, edge.target
            P_ij, P_ji = restrictions[one, other], restrictions[other, one]
            gap = now[one] @ P_ij.T - now[other] @ P_ji.T
            flows[one] = flows[one] + gap @ P_ij
            flows[other] = flows[other] - gap @ P_ji
        now = {client: values - rate * flows[client] for client, values in now.items()}
    return now


def _stalk_dim(client: str, restrictions: Mapping[tuple[str, str], Tensor]) -> int:
    return next(P.shape[1] for (source, _), P in restrictions.items() if source == client)
