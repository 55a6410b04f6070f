"""Cellular sheaf of a federation: maps, objective, Laplacian."""

from sheafalign_fl.sheaf.laplacian import (
    Spectrum,
    coboundary,
    diffused,
    sheaf_laplacian,
    spectrum,
)
from sheafalign_fl.sheaf.maps import EdgeMaps, IdentityMaps, LinearMaps, OrthogonalMaps, edge_maps
from sheafalign_fl.sheaf.objective import (
    contrastive_loss,
    covariance_loss,
    cross_reconstruction_loss,
    laplacian_loss,
    procrustes_loss,
    reconstruction_loss,
    variance_loss,
)
from sheafalign_fl.sheaf.terms import (
    LOSS_TERMS,
    EdgeBatch,
    EdgeTerms,
    LossTerm,
    WeightedTerm,
    edge_terms,
    joint_edge_terms,
    weighted_terms,
)

__all__ = [
    "LOSS_TERMS",
    "EdgeBatch",
    "EdgeMaps",
    "EdgeTerms",
    "IdentityMaps",
    "LinearMaps",
    "LossTerm",
    "OrthogonalMaps",
    "Spectrum",
    "WeightedTerm",
    "coboundary",
    "contrastive_loss",
    "covariance_loss",
    "cross_reconstruction_loss",
    "diffused",
    "edge_maps",
    "edge_terms",
    "joint_edge_terms",
    "laplacian_loss",
    "procrustes_loss",
    "reconstruction_loss",
    "sheaf_laplacian",
    "spectrum",
    "variance_loss",
    "weighted_terms",
]
