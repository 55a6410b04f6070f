"""An encoder of sequences of unequal length, for which padding is as if it were not there."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sheafalign_fl.encoders.blocks import positive


class SequenceEncoder(nn.Module):
    """Signals of unequal length: (B, C + 1, T) -> (B, dim); the last channel says what is there.

    That channel is 1 where a sample is, and 0 behind an event's end, where all others are 0 too. No
    layer mixes what is there with what is not: norms are those of one time step, the places behind
    an end are set to 0 after each convolution (as its own padding is), and cells divide an event's
    own length. So an event has one embedding, however far it was padded and whatever the batch.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (32, 64, 96),
        kernel: int = 5,
        grid: int = 8,
    ) -> None:
        """Halve time once for each entry of `widths`; pool to `grid` cells of an event's length."""
        super().__init__()
        channels = input_shape[0] - 1
        if channels < 1:
            raise ValueError("sequence inputs have a channel and the mask at least")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernels must be odd, not {kernel}")
        self.grid = positive(grid)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, outputs, kernel, stride=2, padding=kernel // 2)
            for inputs, outputs in pairwise([channels, *widths])
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.head = nn.Linear(widths[-1] * grid + 1, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        there = (x[:, -1:] > 0).to(x.dtype)
        own = there.sum(dim=2)
        length = own
        x = x[:, :-1] * there
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            length = torch.ceil(length / 2)
            x = convolution(x)
            there = (torch.arange(x.shape[2], device=x.device) < length).to(x.dtype).unsqueeze(1)
            x = nn.functional.gelu(norm(x.transpose(1, 2)).transpose(1, 2)) * there
        cells = x @ self._cells(length, x.shape[2]).transpose(1, 2)
        # Cells are of an event's own length, so what that is has to be said beside them.
        made: Tensor = self.head(torch.cat([cells.flatten(1), torch.log1p(own)], dim=1))
        return made

    def _cells(self, length: Tensor, steps: int) -> Tensor:
        """Return weights (B, grid, steps): the means of equal parts of each event's own length.

        Cell k of n has the steps from floor(k length / n) to ceil((k + 1) length / n), as in
        `torch.nn.AdaptiveAvgPool1d`.
        """
        cell = torch.arange(self.grid, device=length.device)
        step = torch.arange(steps, device=length.device)
        first = torch.floor(cell * length / self.grid).unsqueeze(2)
        end = torch.ceil((cell + 1) * length / self.grid).unsqueeze(2)
        inside = ((step >= first) & (step < end)).to(length.dtype)
        return inside / inside.sum(dim=2, keepdim=True).clamp(min=1)
