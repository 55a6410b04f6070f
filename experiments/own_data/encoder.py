"""An encoder of your own: any function that returns a torch module.

The module goes from (B, *input_shape) to (B, dim).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class BandEncoder(nn.Module):
    """Energies of a signal's frequency bands, then a small network."""

    def __init__(self, channels: int, dim: int, bands: int) -> None:
        """Use the first `bands` bins of each channel's spectrum."""
        super().__init__()
        self.bands = bands
        self.layers = nn.Sequential(
            nn.Linear(channels * bands, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, dim) of signals (B, C, T)."""
        energy = torch.fft.rfft(x, dim=2).abs()[:, :, : self.bands]
        return self.layers(torch.log1p(energy).flatten(1))  # type: ignore[no-any-return]


def build(input_shape: Sequence[int], dim: int, *, bands: int = 16) -> nn.Module:
    """Return an encoder for inputs of shape (C, T).

    `bands` comes from `encoder_options` in the configuration.
    """
    return BandEncoder(input_shape[0], dim, bands)
