"""Small encoders for edge devices: vectors, 1-D signals, images.

All are independent of the batch (no batch norm: the protocol may run a batch's forward pass twice)
and deterministic (no dropout), so that a recomputed forward pass is the same to the bit.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from sheafalign_fl.encoders.blocks import norm, positive


class VectorEncoder(nn.Module):
    """Multilayer perceptron: (B, F) -> (B, dim)."""

    def __init__(
        self, input_shape: Sequence[int], dim: int, *, hidden: int = 256, depth: int = 2
    ) -> None:
        """Make `depth` hidden layers of `hidden` units, each with LayerNorm and GELU."""
        super().__init__()
        widths = [input_shape[0], *[hidden] * depth]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        return self.layers(x)  # type: ignore[no-any-return]


class SignalEncoder(nn.Module):
    """1-D convolutional network: (B, C, T) -> (B, dim), for T of 4 or more."""

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (32, 64, 128),
        kernel: int = 5,
        grid: int = 8,
    ) -> None:
        """Make one strided convolution per entry of `widths`, then pool along the axis.

        There are at most `grid` cells along it. Cells instead of one global mean keep when things
        happen, which is what another sensor of the event sees too.
        """
        super().__init__()
        layers: list[nn.Module] = []
        length = input_shape[1]
        for inputs, outputs in pairwise([input_shape[0], *widths]):
            layers += [
                nn.Conv1d(inputs, outputs, kernel, stride=2, padding=kernel // 2),
                norm(outputs),
                nn.GELU(),
            ]
            length = (length + 1) // 2
        cells = min(positive(grid), length)
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(cells), nn.Flatten())
        self.head = nn.Linear(widths[-1] * cells, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        return self.head(self.layers(x))  # type: ignore[no-any-return]


class ImageEncoder(nn.Module):
    """2-D convolutional network: (B, C, H, W) -> (B, dim), for H and W of 4 or more."""

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        grid: int = 4,
    ) -> None:
        """Make one strided convolution per entry of `widths`, then pool to cells.

        There are at most `grid` x `grid` of them. Cells instead of one global mean keep where
        things are, which is what other sensors see too.
        """
        super().__init__()
        layers: list[nn.Module] = []
        height, width = input_shape[1], input_shape[2]
        for inputs, outputs in pairwise([input_shape[0], *widths]):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), norm(outputs), nn.GELU()]
            height, width = (height + 1) // 2, (width + 1) // 2
        cells = (min(positive(grid), height), min(grid, width))
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(cells), nn.Flatten())
        self.head = nn.Linear(widths[-1] * cells[0] * cells[1], dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        return self.head(self.layers(x))  # type: ignore[no-any-return]
