"""Restriction maps P_ij : R^{d_i} -> R^{d_e} and dual maps Q_ij : R^{d_e} -> R^{d_i}.

They are those of DESIGN section 1. A family decides what the maps may be. Batches are rows, so a
map with matrix P sends h of shape (B, d_i) to h P^T.
"""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from sheafalign_fl.config.registry import Registry
from sheafalign_fl.config.schema import LEAST_TEMPERATURE, MapSettings
from sheafalign_fl.errors import ConfigError


class EdgeMaps(nn.Module):
    """The pair (P_ij, Q_ij) that client i owns for its edge to j."""

    def __init__(self, dim: int, edge_dim: int) -> None:
        """Make maps between the node stalk R^dim and the comparison space R^edge_dim."""
        super().__init__()
        self.dim, self.edge_dim = dim, edge_dim
        self.log_temperature: nn.Parameter | None = None

    def learn_temperature(self, initial: float) -> None:
        """Make log tau of this edge a parameter that starts from `initial`.

        Call it before the optimiser is made.
        """
        self.log_temperature = nn.Parameter(torch.tensor(math.log(initial)))

    def temperature(self, fixed: float) -> float | Tensor:
        """Return tau of this edge's contrastive term: learnt, or `fixed`."""
        return fixed if self.log_temperature is None else self.log_temperature.exp()

    def limit_temperature(self) -> None:
        """Bring a learnt tau back to `LEAST_TEMPERATURE` if a step took it below.

        The parameter is limited and not what is computed from it, whose gradient would be 0 there
        for ever.
        """
        if self.log_temperature is not None:
            with torch.no_grad():
                self.log_temperature.clamp_(min=math.log(LEAST_TEMPERATURE))

    def restriction(self) -> Tensor:
        """Return P_ij, shape (d_e, d_i)."""
        raise NotImplementedError

    def dual(self) -> Tensor:
        """Return Q_ij, shape (d_i, d_e)."""
        raise NotImplementedError

    def restrict(self, h: Tensor) -> Tensor:
        """Return comparison embeddings P_ij h, shape (B, d_e), of embeddings h, shape (B, d_i)."""
        return h @ self.restriction().T

    def lift(self, z: Tensor) -> Tensor:
        """Return Q_ij z, shape (B, d_i), for z of shape (B, d_e)."""
        return z @ self.dual().T


class LinearMaps(EdgeMaps):
    """Two free matrices, the paper's family."""

    def __init__(self, dim: int, edge_dim: int, initial: str) -> None:
        """Draw the initial values from torch's global generator.

        Parameters
        ----------
        initial
            ``normal``: the paper's N(0, 0.1^2); ``xavier``: uniform Glorot; ``orthogonal``:
            orthonormal rows or columns, with Q = P^T, so that reconstruction starts as a
            projection.
        """
        super().__init__(dim, edge_dim)
        self.P = nn.Parameter(torch.empty(edge_dim, dim))
        self.Q = nn.Parameter(torch.empty(dim, edge_dim))
        if initial == "normal":
            nn.init.normal_(self.P, std=0.1)
            nn.init.normal_(self.Q, std=0.1)
        elif initial == "xavier":
            nn.init.xavier_uniform_(self.P)
            nn.init.xavier_uniform_(self.Q)
        else:
            nn.init.orthogonal_(self.P)
            with torch.no_grad():
                self.Q.copy_(self.P.T)

    def restriction(self) -> Tensor:
        """Return the free matrix P_ij."""
        return self.P

    def dual(self) -> Tensor:
        """Return the free matrix Q_ij."""
        return self.Q


class OrthogonalMaps(EdgeMaps):
    """P_ij with orthonormal rows (or columns, where d_e > d_i) at every step, and Q_ij = P_ij^T.

    P is the first rows or columns of the Cayley transform (I - A)(I + A)^-1 of a free
    skew-symmetric A, times a fixed random orthogonal matrix, so every value of the parameters gives
    an orthogonal map and Adam needs no projection.
    """

    base: Tensor

    def __init__(self, dim: int, edge_dim: int) -> None:
        """Draw the fixed factor from torch's global generator; A starts at 0."""
        super().__init__(dim, edge_dim)
        size = max(dim, edge_dim)
        self.A = nn.Parameter(torch.zeros(size, size))
        self.register_buffer("base", nn.init.orthogonal_(torch.empty(edge_dim, dim)))

    def restriction(self) -> Tensor:
        """Return P_ij."""
        skew = self.A - self.A.T
        identity = torch.eye(len(skew), dtype=skew.dtype, device=skew.device)
        rotation = cast(Tensor, torch.linalg.solve(identity + skew, identity - skew))
        return self.base @ rotation if self.dim >= self.edge_dim else rotation @ self.base

    def dual(self) -> Tensor:
        """Return P_ij^T."""
        return self.restriction().T


class IdentityMaps(EdgeMaps):
    """P_ij = Q_ij = I: a constant sheaf, which is single-space alignment (ImageBind, CLIP)."""

    identity: Tensor

    def __init__(self, dim: int, edge_dim: int) -> None:
        """Refuse dimensions that differ."""
        if dim != edge_dim:
            raise ConfigError(
                f"maps: identity maps need d_e = d_i on every edge, but d_e = {edge_dim} and d_i = "
                f"{dim}"
            )
        super().__init__(dim, edge_dim)
        self.register_buffer("identity", torch.eye(dim), persistent=False)

    def restriction(self) -> Tensor:
        """Return the identity matrix."""
        return self.identity

    def dual(self) -> Tensor:
        """Return the identity matrix."""
        return self.identity

    def restrict(self, h: Tensor) -> Tensor:
        """Return h itself."""
        return h

    def lift(self, z: Tensor) -> Tensor:
        """Return z itself."""
        return z


FAMILIES: Registry[Callable[[int, int, str], EdgeMaps]] = Registry(
    "map family",
    {
        "linear": LinearMaps,
        "orthogonal": lambda dim, edge_dim, initial: OrthogonalMaps(dim, edge_dim),
        "identity": lambda dim, edge_dim, initial: IdentityMaps(dim, edge_dim),
        "shared": LinearMaps,  # the same ones towards every neighbour
    },
    lambda path, function: cast(Callable[[int, int, str], EdgeMaps], function),
)
"""`maps.family` -> maps of (d_i, d_e, kind of initial values)."""


def edge_maps(
    settings: MapSettings, dim: int, edge_dim: int, learnable_temperature: float | None = None
) -> EdgeMaps:
    """Return new maps of the family that `settings` names, drawn from torch's global generator.

    Parameters
    ----------
    learnable_temperature
        Where a learnable tau starts from; None if tau is fixed.
    """
    maps = FAMILIES.resolve(settings.family, "maps.family")(dim, edge_dim, settings.initial)
    if not isinstance(maps, EdgeMaps):
        raise ConfigError(f"maps: '{settings.family}' gave {type(maps).__name__}, not EdgeMaps")
    if learnable_temperature is not None:
        maps.learn_temperature(learnable_temperature)
    return maps
