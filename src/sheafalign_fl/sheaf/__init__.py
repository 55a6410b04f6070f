"""Cellular sheaf of a federation: maps, objective, Laplacian."""

from sheafalign_fl.sheaf.laplacian import coboundary, sheaf_laplacian
from sheafalign_fl.sheaf.maps import EdgeMaps, IdentityMaps, LinearMaps, OrthogonalMaps, edge_maps
from sheafalign_fl.sheaf.objective import (
    EdgeTerms,
    contrastive_loss,
    cross_reconstruction_loss,
    edge_terms,
    laplacian_loss,
    reconstruction_loss,
)

__all__ = [
    "EdgeMaps",
    "EdgeTerms",
    "IdentityMaps",
    "LinearMaps",
    "OrthogonalMaps",
    "coboundary",
    "contrastive_loss",
    "cross_reconstruction_loss",
    "edge_maps",
    "edge_terms",
    "laplacian_loss",
    "reconstruction_loss",
    "sheaf_laplacian",
]
