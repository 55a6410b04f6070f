"""Encoders of inputs on a grid: pictures, depth, LiDAR and radar maps, channel state, skeletons."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from sheafalign_fl.encoders.blocks import (
    CellsHead,
    ConvEncoder,
    Residual,
    conv,
    norm,
    separable,
    shrink,
)


class CameraEncoder(ConvEncoder):
    """Camera pictures: (B, C, H, W) -> (B, dim), for H, W >= 9; C may be frames x channels."""

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (24, 48, 80),
        blocks: int = 2,
        grid: int = 4,
    ) -> None:
        """Halve both sides once per entry of `widths`; pool to at most `grid` x `grid` cells."""
        strides = [(2, 2)] * len(widths)
        super().__init__(
            "camera",
            input_shape,
            dim,
            widths=widths,
            strides=strides,
            kernel=(3, 3),
            grid=(grid, grid),
            blocks=blocks,
        )


class DepthEncoder(ConvEncoder):
    """Depth images: (B, C, H, W) -> (B, dim), for H and W of 9 or more.

    Smaller than a camera's: there is no texture.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        grid: int = 4,
    ) -> None:
        """Halve both sides once per entry of `widths`; pool to at most `grid` x `grid` cells."""
        strides = [(2, 2)] * len(widths)
        super().__init__(
            "depth",
            input_shape,
            dim,
            widths=widths,
            strides=strides,
            kernel=(3, 3),
            grid=(grid, grid),
            blocks=blocks,
        )


class RangeImageEncoder(ConvEncoder):
    """LiDAR range images, few rows, many columns: (B, C, H, W) -> (B, dim), for H >= 5, W >= 33."""

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (16, 24, 48, 80),
        blocks: int = 1,
        grid: Sequence[int] = (2, 8),
    ) -> None:
        """Shorten rows by 4, then by 2; columns are shortened in the last two stages only.

        Elevation and azimuth are absolute, so the first convolution sees them. `grid` is cells down
        and across.
        """
        across = [(1, 4), *[(1, 2)] * (len(widths) - 3)]
        strides = [*across, (2, 2), (2, 2)][-len(widths) :]
        super().__init__(
            "range-image",
            input_shape,
            dim,
            widths=widths,
            strides=strides,
            kernel=(3, 5),
            grid=grid,
            blocks=blocks,
            coordinates=True,
        )


class RadarEncoder(ConvEncoder):
    """Range-angle or range-Doppler maps, log magnitude: (B, C, H, W) -> (B, dim), for H, W >= 9."""

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        grid: int = 4,
    ) -> None:
        """Halve both sides once for each entry of `widths`; pool to at most `grid` x `grid` cells.

        Range, angle and speed are absolute, so the first convolution sees each place's position.
        """
        super().__init__(
            "radar",
            input_shape,
            dim,
            widths=widths,
            strides=[(2, 2)] * len(widths),
            kernel=(5, 5),
            grid=(grid, grid),
            blocks=blocks,
            coordinates=True,
        )


class CsiEncoder(ConvEncoder):
    """Channel state of L links or antennas, S subcarriers, T times: (B, L, S, T) -> (B, dim).

    The longer of S and T has to be 17 or more; the other may be 1.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (24, 48, 80),
        blocks: int = 1,
        grid: int = 4,
    ) -> None:
        """Halve the longer axis once for each entry of `widths`, both where they are about equal.

        So 114 subcarriers at 10 times and 30 subcarriers at 500 times both end as a map that is
        about square.
        """
        strides = _towards_square(input_shape[1:], len(widths))
        super().__init__(
            "csi",
            input_shape,
            dim,
            widths=widths,
            strides=strides,
            kernel=(3, 3),
            grid=(grid, grid),
            blocks=blocks,
        )


def _towards_square(sizes: Sequence[int], stages: int) -> list[list[int]]:
    """Return strides for each stage: 2 along axes that are longer than half the longest, else 1."""
    left, strides = list(sizes), []
    for _ in range(stages):
        strides.append([2 if 2 * size > max(left) else 1 for size in left])
        left = [-(-size // step) for size, step in zip(left, strides[-1], strict=True)]
    return strides


class _MixJoints(nn.Linear):
    """Learnt mixing over joints: (B, C, J, T) -> (B, C, K, T)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(2, 3)).transpose(2, 3)


class SkeletonEncoder(nn.Module):
    """Skeletons of D coordinates, J joints, T times: (B, D, J, T) -> (B, dim), for T >= 9."""

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (24, 48, 64),
        kernel: int = 5,
        parts: int = 4,
        grid: int = 4,
    ) -> None:
        """Mix joints and halve time once per entry of `widths`, then mix joints into `parts`.

        `parts` counts parts of the body. No skeleton has to be given: which joints belong together
        is learnt.
        """
        super().__init__()
        coordinates, joints, times = input_shape
        window, halve = (1, kernel), (1, 2)
        (left,) = shrink("skeleton", [times], [[2]] * len(widths))
        layers: list[nn.Module] = [conv(coordinates, widths[0], window, halve)]
        for inputs, outputs in pairwise(widths):
            mix = nn.Sequential(norm(inputs), _MixJoints(joints, joints), nn.GELU())
            layers += [
                Residual(mix, inputs, inputs, (1, 1)),
                separable(inputs, outputs, window, halve),
            ]
        self.layers = nn.Sequential(*layers, _MixJoints(joints, parts), norm(widths[-1]), nn.GELU())
        self.head = CellsHead(widths[-1], (parts, left), (parts, grid), dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        return self.head(self.layers(x))  # type: ignore[no-any-return]
