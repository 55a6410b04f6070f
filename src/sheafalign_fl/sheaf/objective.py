"""The formulas of the objective's terms (DESIGN section 2; arXiv 2510.20540, section III).

`sheafalign_fl.sheaf.terms` says what they are called, how they are weighed and added up.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from sheafalign_fl.sheaf.group import symmetric_cross_entropy
from sheafalign_fl.sheaf.maps import EdgeMaps

_VARIANCE_FLOOR = 1e-4
"""Keeps the square root's gradient finite where all events coincide."""


def laplacian_loss(z_ij: Tensor, z_ji: Tensor, *, normalised: bool = False) -> Tensor:
    """Return mean_b ||z_ij - z_ji||_2^2.

    It is the edge's share of the sheaf Laplacian's quadratic form h^T L h.

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


def procrustes_loss(z_ij: Tensor, z_ji: Tensor) -> Tensor:
    """Return min over orthogonal R of mean_b ||z_ij - R z_ji||_2^2: the edge's Laplacian, rotated.

    R = U V^T, where U S V^T is the singular value decomposition of the batch's cross-covariance
    (orthogonal Procrustes). It is a constant to the gradient: embeddings and rotations are improved
    in turns. From the other end it is the same value, with R^T.

    Source: Sheaf-FRL, the gluing penalty and its closed-form maps for stalks of one dimension; see
    docs/methods.md.

    Parameters
    ----------
    z_ij, z_ji
        Comparison embeddings, shape (B, d_e); row b of both is the same event.
    """
    with torch.no_grad():
        left, _, right = torch.linalg.svd(z_ij.T @ z_ji)
        rotation = left @ right
    return laplacian_loss(z_ij, z_ji @ rotation.T)


def contrastive_loss(
    z_ij: Tensor,
    z_ji: Tensor,
    temperature: float | Tensor,
    same: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Return the symmetric InfoNCE over B x B cosine similarities / tau, positives on the diagonal.

    Parameters
    ----------
    z_ij, z_ji
        Comparison embeddings, shape (B, d_e); row b of both is the same event.
    temperature
        tau > 0: smaller values punish the hardest negatives more.
    same
        (B, B), symmetric and false on the diagonal: pairs that are the same event twice, which are
        left out of the negatives; None: all others are negatives.
    smoothing
        Label smoothing (arXiv 1512.00567): 0 expects the positive alone.
    """
    logits = F.normalize(z_ij, dim=1) @ F.normalize(z_ji, dim=1).T / temperature
    if same is not None:
        logits = logits.masked_fill(same, -float("inf"))
    return symmetric_cross_entropy(logits, smoothing)


def reconstruction_loss(
    maps: EdgeMaps, z_ij: Tensor, h_i: Tensor, *, stop_gradient: bool = False
) -> Tensor:
    """Return MSE(Q_ij z_ij, h_i), the mean over events and dimensions of the squared error.

    With `stop_gradient` both are constants, so that it trains the dual map and leaves the encoder
    to alignment.
    """
    if stop_gradient:
        z_ij, h_i = z_ij.detach(), h_i.detach()
    return F.mse_loss(maps.lift(z_ij), h_i)


def cross_reconstruction_loss(maps: EdgeMaps, z_ji: Tensor, h_i: Tensor) -> Tensor:
    """Return MSE(Q_ij z_ji, h_i) with the gradient stopped at h_i: it trains the dual map alone.

    It teaches Q_ij what a client needs when its own sensor is missing: its embedding, out of the
    neighbour's.
    """
    return F.mse_loss(maps.lift(z_ji), h_i.detach())


def variance_loss(z: Tensor) -> Tensor:
    """Return mean_k max(0, 1 - sqrt(var_b z_k + 1e-4)), the variance term of VICReg.

    Source: Bardes, Ponce, LeCun, arXiv 2105.04906, equations 1 and 2, with gamma = 1.

    Parameters
    ----------
    z
        Comparison embeddings, shape (B, d_e), B of at least 2; the variance divides by B - 1.
    """
    return F.relu(1 - (z.var(dim=0) + _VARIANCE_FLOOR).sqrt()).mean()


def covariance_loss(z: Tensor) -> Tensor:
    """Return the sum over k != l of C_kl^2 / d_e, the covariance term of VICReg.

    C is the covariance matrix over the batch, which divides by B - 1 (arXiv 2105.04906, equations 3
    and 4).

    Parameters
    ----------
    z
        Comparison embeddings, shape (B, d_e), B of at least 2.
    """
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    return off_diagonal.square().sum() / z.shape[1]
