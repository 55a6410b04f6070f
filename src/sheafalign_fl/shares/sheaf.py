"""The sheaf that a run has learnt, out of the shares of all its clients."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from sheafalign_fl.errors import DataError
from sheafalign_fl.learner import state
from sheafalign_fl.learner.factories import DTYPES, own_generator
from sheafalign_fl.shares import folder as share_folder
from sheafalign_fl.shares.facts import ShareFacts
from sheafalign_fl.sheaf.laplacian import Spectrum, spectrum
from sheafalign_fl.sheaf.maps import FAMILIES, EdgeMaps, edge_maps

_MOST_DIMS = 2048
"""Of all stalks together: a decomposition takes a second or two then."""


@dataclass(frozen=True)
class LearntEdge:
    """An edge, oriented as the clients are ordered."""

    source: str
    target: str
    dim: int
    """d_e."""


@dataclass(frozen=True)
class LearntSheaf:
    """Graph and restriction maps, as `sheafalign_fl.sheaf.laplacian` takes them."""

    clients: tuple[str, ...]
    edges: tuple[LearntEdge, ...]
    restrictions: Mapping[tuple[str, str], Tensor]
    """(i, j) -> P_ij, shape (d_e, d_i)."""

    def spectrum(self) -> Spectrum:
        """Return eigenvalues and harmonic space of its Laplacian."""
        return spectrum(self, self.restrictions)


def learnt_sheaf(maps: Mapping[str, Mapping[str, EdgeMaps]]) -> LearntSheaf:
    """Return the sheaf of client -> neighbour -> maps.

    Raises
    ------
    DataError
        A neighbour is not among the clients: its half of an edge is missing.
    """
    for client, towards in maps.items():
        if absent := [neighbour for neighbour in towards if neighbour not in maps]:
            raise DataError(
                f"the sheaf needs the shares of all clients; '{client}' has the neighbour "
                f"'{absent[0]}', whose share is not here"
            )
    edges = tuple(
        LearntEdge(one, other, maps[one][other].edge_dim)
        for one, other in combinations(maps, 2)
        if other in maps[one]
    )
    with torch.no_grad():
        restrictions = {
            (client, neighbour): own.restriction().detach().cpu()
            for client, towards in maps.items()
            for neighbour, own in towards.items()
        }
    return LearntSheaf(tuple(maps), edges, restrictions)


def read_sheaf(run: Path) -> LearntSheaf | None:
    """Return the sheaf that lies in a run folder, without making an encoder or importing code.

    None where shares are not there (a deployed run's are on its nodes), its maps are code of the
    user's own, or the stalks are too many to decompose at a glance.

    Raises
    ------
    DataError
        A share is damaged.
    """
    folders = share_folder.share_folders(run)
    facts = {client: share_folder.read_facts(where) for client, where in folders.items()}
    known = {neighbour for found in facts.values() for neighbour in found.neighbours}
    if (
        not facts
        or not known <= set(facts)
        or any(found.maps.family not in FAMILIES for found in facts.values())
        or sum(found.dim for found in facts.values()) > _MOST_DIMS
    ):
        return None
    return learnt_sheaf({client: _read_maps(where) for client, where in folders.items()})


def _read_maps(where: Path) -> dict[str, EdgeMaps]:
    facts, tensors = share_folder.read(where)
    try:
        return {
            name: _filled(facts, dim, state.below(f"maps.{name}.", tensors))
            for name, dim in facts.neighbours.items()
        }
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{where} holds other maps than its facts say: {reason}") from None


def _filled(facts: ShareFacts, dim: int, weights: Mapping[str, Tensor]) -> EdgeMaps:
    with own_generator(0, "share", facts.client):
        maps = edge_maps(facts.maps, facts.dim, dim, 1.0 if facts.temperature else None)
    maps = maps.to(DTYPES[facts.dtype])
    maps.load_state_dict(dict(weights), strict=True)
    return maps
