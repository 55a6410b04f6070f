"""What encoders are made of: norms, convolutions, residual blocks, a whole convolutional network.

All of it treats an event alone (no batch norm) and draws nothing (no dropout), so that a repeated
forward pass is the same to the bit.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}
_MEANS: dict[int, Callable[..., nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d}
_CELLS: dict[int, Callable[..., nn.Module]] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}

Block = Callable[[int, int, Sequence[int], Sequence[int]], nn.Module]
"""``block(inputs, outputs, kernel, stride)``: (B, inputs, *sizes) ->
(B, outputs, *ceil(sizes / stride))."""


def norm(channels: int) -> nn.GroupNorm:
    """Return a group norm of as many groups as fit, 8 at most."""
    groups = next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)


def positive(grid: int) -> int:
    """Return `grid`; raise `ValueError` unless it is 1 or more."""
    if grid < 1:
        raise ValueError(f"grid must be 1 or more, not {grid}")
    return grid


def shrink(what: str, sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """Return what `strides`, one after the other, leave of `sizes`: ceil(size / stride) each time.

    Raises
    ------
    ValueError
        Fewer than two cells would be left of an axis that they shorten, or there is nothing along
        one.
    """
    left = list(sizes)
    least = [1] * len(left)
    for stride in strides:
        left = [-(-size // step) for size, step in zip(left, stride, strict=True)]
        least = [size * step for size, step in zip(least, stride, strict=True)]
    least = [size + 1 if size > 1 else 1 for size in least]
    if any(size < smallest for size, smallest in zip(sizes, least, strict=True)):
        needed, given = (" x ".join(map(str, numbers)) for numbers in (least, sizes))
        raise ValueError(
            f"{what} inputs must be {needed} or larger, not {given}; fewer widths need less"
        )
    return left


def conv(
    inputs: int,
    outputs: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    *,
    groups: int = 1,
    padding: str = "zeros",
) -> nn.Module:
    """Return a convolution along as many axes as `kernel` has entries; size -> ceil(size / stride).

    Raises
    ------
    ValueError
        An entry of `kernel` is even or below 1.
    """
    if any(size < 1 or size % 2 == 0 for size in kernel):
        raise ValueError(f"kernels must be odd, not {' x '.join(map(str, kernel))}")
    margins = tuple(size // 2 for size in kernel)
    kind = _CONVOLUTIONS[len(kernel)]
    return kind(
        inputs, outputs, tuple(kernel), tuple(stride), margins, groups=groups, padding_mode=padding
    )


class Residual(nn.Module):
    """``shortcut(x) + layers(x)``.

    Where size or width change, the shortcut is a mean and a pointwise convolution.
    """

    def __init__(self, layers: nn.Module, inputs: int, outputs: int, stride: Sequence[int]) -> None:
        """Take `layers` that map (B, inputs, *sizes) to (B, outputs, *ceil(sizes / stride))."""
        super().__init__()
        ones = [1] * len(stride)
        shortcut: list[nn.Module] = []
        if list(stride) != ones:
            shortcut.append(_MEANS[len(stride)](tuple(stride), ceil_mode=True))
        if inputs != outputs:
            shortcut.append(conv(inputs, outputs, ones, ones))
        self.shortcut = nn.Sequential(*shortcut)
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, *ceil(sizes / stride))."""
        return self.shortcut(x) + self.layers(x)  # type: ignore[no-any-return]


def separable(
    inputs: int,
    outputs: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    *,
    padding: str = "zeros",
) -> Residual:
    """Return a residual block that mixes places channel-wise, then channels place-wise."""
    ones = [1] * len(kernel)
    layers = nn.Sequential(
        conv(inputs, inputs, kernel, stride, groups=inputs, padding=padding),
        norm(inputs),
        conv(inputs, 2 * outputs, ones, ones),
        nn.GELU(),
        conv(2 * outputs, outputs, ones, ones),
    )
    return Residual(layers, inputs, outputs, stride)


def full(inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int]) -> Residual:
    """Return a residual block of two convolutions that mix places and channels at once."""
    ones = [1] * len(kernel)
    first, second = conv(inputs, outputs, kernel, stride), conv(outputs, outputs, kernel, ones)
    return Residual(nn.Sequential(first, norm(outputs), nn.GELU(), second), inputs, outputs, stride)


class CellsHead(nn.Sequential):
    """Means over a grid of cells, one linear layer: (B, width, *sizes) -> (B, dim).

    Cells instead of one global mean keep where and when things are, which is what other sensors of
    the event see too.
    """

    def __init__(self, width: int, sizes: Sequence[int], grid: Sequence[int], dim: int) -> None:
        """Make `grid` cells along the axes, or as many as `sizes` has places where that is less."""
        cells = tuple(min(positive(most), size) for most, size in zip(grid, sizes, strict=True))
        pool = _CELLS[len(cells)](cells)
        places = int(torch.Size(cells).numel())
        super().__init__(pool, nn.Flatten(), nn.Linear(width * places, dim))


class ConvEncoder(nn.Module):
    """Convolutional network: (B, C, *sizes) -> (B, dim), for one or two axes after the channels."""

    def __init__(
        self,
        what: str,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernel: Sequence[int],
        grid: Sequence[int],
        blocks: int = 1,
        block: Block = separable,
        coordinates: bool = False,
        **padding: Any,
    ) -> None:
        """Make a convolution, `blocks` blocks per further entry of `widths`, then a grid of cells.

        Parameters
        ----------
        what
            The encoder's name, for messages.
        input_shape
            (C, *sizes).
        widths, strides
            Channels of each stage, and the strides with which it begins.
        kernel, grid
            Of all convolutions, and of the cells; one entry for each axis of `sizes`.
        blocks, block
            How many residual blocks a stage has, the first with the stride, and their kind.
        coordinates
            Give the first convolution each place's position (-1 to 1) too, for axes that mean
            something absolute, such as range and angle.
        padding
            ``padding="circular"`` where the ends of the axis meet.
        """
        super().__init__()
        channels, *sizes = input_shape
        left = shrink(what, sizes, strides)
        self.register_buffer("places", _places(sizes) if coordinates else None, persistent=False)
        layers = [
            conv(channels + coordinates * len(sizes), widths[0], kernel, strides[0], **padding)
        ]
        layers += [norm(widths[0]), nn.GELU()]
        for (inputs, outputs), stride in zip(pairwise(widths), strides[1:], strict=True):
            layers.append(block(inputs, outputs, kernel, stride, **padding))
            layers += [
                block(outputs, outputs, kernel, [1] * len(sizes), **padding)
                for _ in range(blocks - 1)
            ]
        self.layers = nn.Sequential(*layers, norm(widths[-1]), nn.GELU())
        self.head = CellsHead(widths[-1], left, grid, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        if isinstance(self.places, Tensor):
            x = torch.cat([x, self.places.expand(x.shape[0], *self.places.shape)], dim=1)
        return self.head(self.layers(x))  # type: ignore[no-any-return]


def _places(sizes: Sequence[int]) -> Tensor:
    """Return each place's position along each axis, from -1 to 1; shape (axes, *sizes)."""
    axes = [torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1) for size in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
