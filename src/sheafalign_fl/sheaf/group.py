"""Contrastive terms that compare all clients of an event at once, in one shared space.

They are baselines of the literature. They need the embeddings of every other client, so a
federation that uses them has a complete graph, and each client is charged for sending to all
others. As on an edge, a client needs only the VALUES of the others for its own gradient.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from sheafalign_fl.config.registry import Registry
from sheafalign_fl.config.schema import ObjectiveSettings

_SMALLEST_VOLUME = 1e-6
"""Squared, of an area too: keeps the square root's gradient finite where embeddings coincide."""


def symmetric_cross_entropy(logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean of the row-wise and column-wise cross entropies, positives on the diagonal.

    Parameters
    ----------
    logits
        Shape (B, B). Minus infinity: the event is left out of its row and column's choice.
    smoothing
        Label smoothing: the target is 1 - smoothing on the diagonal, plus smoothing spread evenly
        over all events that are not left out.
    """
    return (row_cross_entropy(logits, smoothing) + row_cross_entropy(logits.T, smoothing)) / 2


def row_cross_entropy(logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean of the row-wise cross entropies, as `symmetric_cross_entropy` says."""
    if smoothing:
        return _smoothed(logits, smoothing)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def _smoothed(logits: Tensor, smoothing: float) -> Tensor:
    """Return the row-wise cross entropy; torch's own is infinite where a logit is left out."""
    surprise = -F.log_softmax(logits, dim=1)
    there = logits > -torch.inf
    spread = surprise.masked_fill(~there, 0).sum(dim=1) / there.sum(dim=1)
    return ((1 - smoothing) * surprise.diagonal() + smoothing * spread).mean()


def centroid_loss(
    embeddings: Sequence[Tensor], temperature: float, smoothing: float = 0.0
) -> Tensor:
    """Return the sum over clients of the symmetric InfoNCE with the centroid (arXiv 2410.02086).

    Parameters
    ----------
    embeddings
        One tensor (B, d) for each client; row b of all is the same event. The centroid of an event
        is the mean of its unit vectors.
    temperature
        tau > 0.
    smoothing
        Label smoothing, as in `symmetric_cross_entropy`.
    """
    units = [F.normalize(embedding, dim=1) for embedding in embeddings]
    centroid = F.normalize(torch.stack(units).mean(dim=0), dim=1)
    losses = [symmetric_cross_entropy(centroid @ unit.T / temperature, smoothing) for unit in units]
    return torch.stack(losses).sum()


def volume_loss(embeddings: Sequence[Tensor], temperature: float, smoothing: float = 0.0) -> Tensor:
    """Return the contrastive loss over volumes (GRAM, arXiv 2412.11959, equations 5 to 7).

    The first client is the anchor. The logit of anchor b and the other clients' event c is minus
    the volume of the parallelotope that their unit vectors span, the square root of their Gram
    determinant, over tau.

    Parameters
    ----------
    embeddings
        One tensor (B, d) for each client; row b of all is the same event.
    temperature
        tau > 0.
    smoothing
        Label smoothing, as in `symmetric_cross_entropy`.
    """
    anchor, *others = (F.normalize(embedding, dim=1) for embedding in embeddings)
    rest = torch.stack(others, dim=1)
    towards = torch.einsum("bd,cnd->bcn", anchor, rest)
    among = torch.einsum("cnd,cmd->cnm", rest, rest).expand(len(anchor), -1, -1, -1)
    first = torch.cat([torch.ones_like(towards[..., :1]), towards], dim=2).unsqueeze(2)
    gram = torch.cat([first, torch.cat([towards.unsqueeze(3), among], dim=3)], dim=2)
    volume = (torch.linalg.det(gram).clamp(min=0) + _SMALLEST_VOLUME).sqrt()
    return symmetric_cross_entropy(-volume / temperature, smoothing)


def area_loss(embeddings: Sequence[Tensor], temperature: float, smoothing: float = 0.0) -> Tensor:
    """Return the contrastive loss over areas of triangles (TRIANGLE, arXiv 2509.24734, section 3).

    The first client is the anchor. The logit of anchor b and the other two clients' event c is
    minus the area of the triangle whose corners are their three unit vectors, over tau:
    sqrt(|u|^2 |v|^2 - <u, v>^2) / 2 with u and v from the anchor's corner to the other two.

    Parameters
    ----------
    embeddings
        Three tensors (B, d), one a client; row b of all is the same event. Of fewer, where a client
        is absent, there is no triangle and the loss is 0.
    temperature
        tau > 0.
    smoothing
        Label smoothing, as in `symmetric_cross_entropy`.

    Notes
    -----
    The paper's code leaves out the square root; this is its equation.
    """
    if len(embeddings) != 3:
        return embeddings[0].new_zeros(())
    anchor, one, other = (F.normalize(embedding, dim=1) for embedding in embeddings)
    to_one, to_other = anchor @ one.T, anchor @ other.T
    between = (one * other).sum(dim=1)
    u_u, v_v, u_v = 2 - 2 * to_one, 2 - 2 * to_other, 1 - to_one - to_other + between
    area = ((u_u * v_v - u_v.square()).clamp(min=0) + _SMALLEST_VOLUME).sqrt() / 2
    return symmetric_cross_entropy(-area / temperature, smoothing)


def product_loss(
    embeddings: Sequence[Tensor], temperature: float, smoothing: float = 0.0
) -> Tensor:
    """Return the mean over anchors of Symile's contrastive loss (arXiv 2411.01053, section 3).

    Every client is the anchor once. The logit of an anchor x and one embedding of each of the
    others is their multilinear inner product sum_k x_k y_k z_k ... over tau. A negative of an event
    takes the others' embeddings from other events, of which each client's are shifted by another
    number of rows: the order of a batch is random, so that is one of the paper's shuffles, but the
    same at all clients and in every step.

    Parameters
    ----------
    embeddings
        One tensor (B, d) for each of M clients; row b of all is the same event.
    temperature
        tau > 0. Products of unit vectors shrink with d and M, so they are multiplied by
        d^((M - 2) / 2): vectors of equal entries have product 1, and of two it is the cosine. The
        paper learns this scale.
    smoothing
        Label smoothing, as in `symmetric_cross_entropy`.
    """
    units = [F.normalize(embedding, dim=1) for embedding in embeddings]
    events, dim = units[0].shape
    scale = dim ** ((len(units) - 2) / 2) / temperature
    diagonal = torch.eye(events, dtype=torch.bool, device=units[0].device)
    losses = []
    for position, anchor in enumerate(units):
        others = [*units[:position], *units[position + 1 :]]
        true = torch.stack(others).prod(dim=0)
        mixed = torch.stack([own.roll(k, 0) for k, own in enumerate(others)]).prod(dim=0)
        positives = (anchor * true).sum(dim=1)
        logits = torch.where(diagonal, positives[:, None], anchor @ mixed.T)
        losses.append(row_cross_entropy(scale * logits, smoothing))
    return torch.stack(losses).mean()


GroupLoss = Callable[..., Tensor]
GROUP_LOSSES: Registry[GroupLoss] = Registry(
    "contrast",
    {
        "centroid": centroid_loss,
        "volume": volume_loss,
        "area": area_loss,
        "product": product_loss,
    },
    lambda path, function: cast(GroupLoss, function),
    also=("pairs",),
)
"""`objective.contrast` -> loss of (embeddings of all clients in the configuration's order, tau),
and of label smoothing where that is set."""


def contrast_of_all(objective: ObjectiveSettings, embeddings: Sequence[Tensor]) -> Tensor:
    """Return the contrast of all clients, unweighted, that ``objective.contrast`` names.

    Parameters
    ----------
    embeddings
        One tensor (B, d) for each client, in the configuration's order.
    """
    smoothing = [objective.label_smoothing] if objective.label_smoothing else []
    loss = GROUP_LOSSES.resolve(objective.contrast)
    return loss(embeddings, objective.temperature, *smoothing)
