"""The objective on one edge, as one of its ends sees it (DESIGN section 2; arXiv 2510.20540, section III).

Every term needs of the neighbour only the VALUES z_ji. Its gradient with respect to a client's own parameters is
therefore the gradient of the joint objective, which is why decentralised training equals joint training.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sheafalign_fl.config.schema import ObjectiveSettings
from sheafalign_fl.sheaf.group import symmetric_cross_entropy
from sheafalign_fl.sheaf.maps import EdgeMaps


def laplacian_loss(z_ij: Tensor, z_ji: Tensor, *, normalised: bool = False) -> Tensor:
    """Return mean_b ||z_ij - z_ji||_2^2: the edge's share of the sheaf Laplacian's quadratic form h^T L h.

    Parameters
    ----------
    z_ij, z_ji
        Comparison embeddings, shape (B, d_e).
    normalised
        Compare directions only: both sides are scaled to unit length first.
    """
    if normalised:
        z_ij, z_ji = F.normalize(z_ij, dim=1), F.normalize(z_ji, dim=1)
    return (z_ij - z_ji).square().sum(dim=1).mean()


def contrastive_loss(
    z_ij: Tensor, z_ji: Tensor, temperature: float | Tensor, same: Tensor | None = None
) -> Tensor:
    """Return the symmetric InfoNCE over the B x B cosine similarities / tau, positives on the diagonal.

    Parameters
    ----------
    z_ij, z_ji
        Comparison embeddings, shape (B, d_e); row b of both is the same event.
    temperature
        tau > 0: smaller values punish the hardest negatives more.
    same
        (B, B), symmetric and false on the diagonal: pairs that are the same event twice, which are
        left out of the negatives; None: all others are negatives.
    """
    logits = F.normalize(z_ij, dim=1) @ F.normalize(z_ji, dim=1).T / temperature
    if same is not None:
        logits = logits.masked_fill(same, -torch.inf)
    return symmetric_cross_entropy(logits)


def reconstruction_loss(
    maps: EdgeMaps, z_ij: Tensor, h_i: Tensor, *, stop_gradient: bool = False
) -> Tensor:
    """Return MSE(Q_ij z_ij, h_i), the mean over events and dimensions of the squared error.

    With `stop_gradient` both are constants, so that it trains the dual map and leaves the encoder to alignment.
    """
    if stop_gradient:
        z_ij, h_i = z_ij.detach(), h_i.detach()
    return F.mse_loss(maps.lift(z_ij), h_i)


def cross_reconstruction_loss(maps: EdgeMaps, z_ji: Tensor, h_i: Tensor) -> Tensor:
    """Return MSE(Q_ij z_ji, h_i) with the gradient stopped at h_i: it trains the dual map alone.

    It teaches Q_ij what a client needs when its own sensor is missing: its embedding, out of the neighbour's.
    """
    return F.mse_loss(maps.lift(z_ji), h_i.detach())


@dataclass(frozen=True)
class EdgeTerms:
    """The terms of one edge as client i sees them, scalars."""

    laplacian: Tensor
    contrastive: Tensor
    reconstruction: Tensor
    cross_reconstruction: Tensor
    total: Tensor


def edge_terms(
    objective: ObjectiveSettings,
    maps: EdgeMaps,
    h_i: Tensor,
    z_ij: Tensor,
    z_ji: Tensor,
    group: Tensor | None = None,
    same: Tensor | None = None,
) -> EdgeTerms:
    """Return all terms of one edge and their weighted sum.

    Parameters
    ----------
    h_i, z_ij
        This client's embeddings (B, d_i) and comparison embeddings (B, d_e) of the events that both ends have.
    z_ji
        The neighbour's comparison embeddings (B, d_e), as received; treated as a constant.
    group
        The edge's share of a contrastive term that compares all clients at once (`sheafalign_fl.sheaf.group`), which
        then stands for the edge's own.
    same
        Pairs of events that are no negatives of each other; see `contrastive_loss`.

    Notes
    -----
    A term of weight 0 is computed without gradient, because a run's losses are always shown in full.
    """
    z_ji = z_ji.detach()
    normalised, stop = objective.normalised_laplacian, objective.stop_gradient
    weighted: dict[str, tuple[float, Callable[[], Tensor]]] = {
        "laplacian": (
            objective.laplacian,
            lambda: laplacian_loss(z_ij, z_ji, normalised=normalised),
        ),
        "contrastive": (
            objective.contrastive,
            lambda: (
                contrastive_loss(z_ij, z_ji, maps.temperature(objective.temperature), same)
                if group is None
                else group
            ),
        ),
        "reconstruction": (
            objective.reconstruction,
            lambda: reconstruction_loss(maps, z_ij, h_i, stop_gradient=stop),
        ),
        "cross_reconstruction": (
            objective.cross_reconstruction,
            lambda: cross_reconstruction_loss(maps, z_ji, h_i),
        ),
    }
    terms: dict[str, Tensor] = {}
    total = h_i.new_zeros(())
    for name, (weight, compute) in weighted.items():
        with torch.set_grad_enabled(weight > 0 and torch.is_grad_enabled()):
            terms[name] = compute()
        if weight > 0:
            total = total + weight * terms[name]
    return EdgeTerms(**terms, total=total)
