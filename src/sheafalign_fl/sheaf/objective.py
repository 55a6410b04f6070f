"""The formulas of the objective's terms (DESIGN section 2; arXiv 2510.20540, section III).

`sheafalign_fl.sheaf.terms` says what they are called, how they are weighed and added up.
"""

from torch import Tensor
from torch.nn import functional as F

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
        logits = logits.masked_fill(same, -float("inf"))
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
