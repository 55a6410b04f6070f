"""A share as one graph: from raw events to h and to z for every neighbour, scaling inside."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from sheafalign_fl.data.normalisation import Scaling
from sheafalign_fl.data.own.axes import raw_shape, turn
from sheafalign_fl.learner.factories import DTYPES
from sheafalign_fl.shares.share import Share
from sheafalign_fl.sheaf.maps import EdgeMaps

EMBEDDING = "embedding"


class Graph(nn.Module):
    """Maps raw events x, (B, *raw_shape), to h (B, d_i) and all z_ij (B, d_e).

    Attributes
    ----------
    input_shape
        Of a raw event, with its axes as in the files that training read.
    input_dtype
        float64 where there is a scaling, which is applied before anything is rounded, as in
        training; else the encoder's.
    outputs
        Names of what `forward` returns, in its order: "embedding", and "z_J" of each neighbour J.
    """

    mean: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        encoder: nn.Module,
        maps: Mapping[str, EdgeMaps],
        scaling: Scaling | None,
        shape: tuple[int, ...],
        *,
        layout: str = "",
        dtype: torch.dtype = torch.float32,
        unequal: bool = False,
    ) -> None:
        """Freeze an encoder in evaluation, and the restriction maps as they are now.

        Parameters
        ----------
        shape
            Of an event as the encoder takes it, of unequal ones without what says where they end.
        layout
            Axes of a raw event where channels are not first.
        dtype
            The encoder's.
        unequal
            Raw events are NaN behind their ends; the encoder's last channel says what is there.
        """
        super().__init__()
        self.encoder = encoder
        self.input_shape = raw_shape(shape, layout)
        self._made, self._axes = turn(layout) if layout else (False, ())
        self._unequal = unequal
        self.input_dtype = dtype if scaling is None else torch.float64
        self.outputs = (EMBEDDING, *(f"z_{neighbour}" for neighbour in maps))
        self._dtype = dtype
        for name in ("mean", "scale"):
            value = None if scaling is None else torch.from_numpy(getattr(scaling, name)).double()
            self.register_buffer(name, value)
        self._restrict = nn.ModuleList(_frozen(own) for own in maps.values())
        self.requires_grad_(False).eval()

    @classmethod
    def of(cls, share: Share) -> Self:
        """Return the graph of a share; where all share one space, h is what is compared."""
        maps = {} if share.facts.shared_space else share.maps
        facts = share.facts
        return cls(
            share.encoder, maps, share.scaling, facts.event_shape,
            layout=facts.layout, dtype=DTYPES[facts.dtype], unequal=facts.unequal,
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return h and the z of all neighbours, float32."""
        if self._axes:
            x = (x.unsqueeze(1) if self._made else x).permute(0, *(1 + axis for axis in self._axes))
        if self.mean is not None and self.scale is not None:
            x = ((x - self.mean) / self.scale).float().to(self._dtype)
        if self._unequal:
            behind = torch.isnan(x).all(dim=1, keepdim=True)
            x = torch.where(behind, torch.zeros_like(x), x)
            x = torch.cat([x, (~behind).to(x.dtype)], dim=1)
        h = self.encoder(x)
        return tuple(made.float() for made in (h, *(restrict(h) for restrict in self._restrict)))


class _Matrix(nn.Module):
    """h -> P h for a P that is computed once: a family may need what no graph can say."""

    weight: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", matrix.detach().clone())

    def forward(self, h: Tensor) -> Tensor:
        return h @ self.weight.T


class _Own(nn.Module):
    """h -> z by what a map family of the user's own does."""

    def __init__(self, maps: EdgeMaps) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, h: Tensor) -> Tensor:
        return self.maps.restrict(h)


def _frozen(maps: EdgeMaps) -> nn.Module:
    linear = type(maps).restrict is EdgeMaps.restrict
    return _Matrix(maps.restriction()) if linear else _Own(maps)
