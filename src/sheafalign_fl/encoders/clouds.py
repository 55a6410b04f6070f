"""Encoder of point clouds: each point alone, then all in any order, then frames in their order."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sheafalign_fl.encoders.blocks import CellsHead, norm, separable

_COORDINATES = 3


class PointsEncoder(nn.Module):
    """PointNet: (B, F, N) or (B, T, F, N) -> (B, dim), for N points of F features.

    The first three features are coordinates. The order of points is of no account. A point whose
    features are all 0 is padding and of no account either, so clouds of different sizes fit into
    one array; a cloud without points is allowed.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (64, 128),
        hidden: int = 128,
        grid: int = 4,
    ) -> None:
        """Make a layer per point for each entry of `widths`, one per frame and one across frames.

        The layer per frame has `hidden` units. A point is given with and without its cloud's
        centre, so that both shape and place are seen. Frames are pooled to at most `grid` spans.
        """
        super().__init__()
        frames, features, points = (1, *input_shape)[-3:]
        if features < _COORDINATES or points < 1 or frames < 1:
            raise ValueError(
                f"points need at least {_COORDINATES} features (coordinates first), "
                f"1 point and 1 frame, not {features}, {points} and {frames}"
            )
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([features + _COORDINATES, *widths]):
            layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU()]
        self.point = nn.Sequential(*layers)
        self.frame = nn.Sequential(
            nn.Linear(2 * widths[-1], hidden), nn.LayerNorm(hidden), nn.GELU()
        )
        # One frame alone is normalised already, and a group norm over one place could leave nothing
        # of it.
        mixing = (
            [separable(hidden, hidden, (3,), (1,)), norm(hidden), nn.GELU()] if frames > 1 else []
        )
        self.frames = nn.Sequential(*mixing)
        self.head = CellsHead(hidden, (frames,), (grid,), dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        points = (x if x.ndim == 4 else x.unsqueeze(1)).transpose(2, 3)  # (B, T, N, F)
        real = (points != 0).any(dim=3, keepdim=True).to(x.dtype)
        count = real.sum(dim=2, keepdim=True).clamp(min=1)
        places = points[..., :_COORDINATES]
        centre = (places * real).sum(dim=2, keepdim=True) / count
        h = self.point(torch.cat([points, places - centre], dim=3)) * real
        # ReLU leaves nothing below 0, so the zeros of padding change no maximum.
        pooled = torch.cat([h.amax(dim=2), h.sum(dim=2) / count.squeeze(2)], dim=2)
        frames = self.frame(pooled).transpose(1, 2)  # (B, hidden, T)
        return self.head(self.frames(frames))  # type: ignore[no-any-return]
