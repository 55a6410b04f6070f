"""Encoders of inputs on one axis: LiDAR scans, beams, inertial signals, features already made."""

from collections.abc import Sequence

from torch import Tensor, nn

from sheafalign_fl.encoders.blocks import ConvEncoder, full


class ScanEncoder(ConvEncoder):
    """Scans of one ring, or any angular profile: (B, C, A) -> (B, dim), for A of 9 or more.

    C may be frames x channels.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (32, 64, 96),
        kernel: int = 7,
        blocks: int = 2,
        grid: int = 12,
        circular: bool = False,
    ) -> None:
        """Halve the angles once for each entry of `widths`; pool to at most `grid` sectors.

        `circular` is for scans all around: their ends meet.
        """
        super().__init__(
            "scan",
            input_shape,
            dim,
            widths=widths,
            strides=[(2,)] * len(widths),
            kernel=(kernel,),
            grid=(grid,),
            blocks=blocks,
            padding="circular" if circular else "zeros",
        )


class BeamEncoder(ConvEncoder):
    """Power of B' >= 5 beams, at one time or T times: (B, B') or (B, T, B') -> (B, dim)."""

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (32, 64),
        kernel: int = 5,
        blocks: int = 2,
        grid: int = 16,
    ) -> None:
        """Take times as channels; halve the beams once for each entry of `widths`.

        They are pooled to at most `grid` sectors.
        """
        super().__init__(
            "beam",
            (1, *input_shape)[-2:],
            dim,
            widths=widths,
            strides=[(2,)] * len(widths),
            kernel=(kernel,),
            grid=(grid,),
            blocks=blocks,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        return super().forward(x if x.ndim == 3 else x.unsqueeze(1))


class InertialEncoder(ConvEncoder):
    """Accelerometers, gyroscopes and the like: (B, C, T) -> (B, dim), for T of 9 or more."""

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (32, 64, 96),
        kernel: int = 5,
        blocks: int = 1,
        grid: int = 8,
    ) -> None:
        """Halve time once for each entry of `widths`, in residual blocks of full convolutions.

        It is pooled to `grid` spans.
        """
        super().__init__(
            "inertial",
            input_shape,
            dim,
            widths=widths,
            strides=[(2,)] * len(widths),
            kernel=(kernel,),
            grid=(grid,),
            blocks=blocks,
            block=full,
        )


class LinearEncoder(nn.Linear):
    """One linear layer for features that a frozen foundation model has made: (B, F) -> (B, dim)."""

    def __init__(self, input_shape: Sequence[int], dim: int) -> None:
        """Make the layer; there are no options."""
        super().__init__(input_shape[0], dim)
