"""Encoders of what is long in time: video and sound."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sheafalign_fl.encoders.blocks import CellsHead, ConvEncoder, full, norm


class VideoEncoder(nn.Module):
    """Pictures in time: (B, T, C, H, W) -> (B, dim), for H and W of 9 or more.

    Every frame goes through one small convolutional network, then convolutions along time mix them:
    a fraction of the work of convolutions in three axes, and of their memory.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        hidden: int = 64,
        kernel: int = 3,
        grid: int = 4,
        spans: int = 4,
    ) -> None:
        """Halve pictures once for each entry of `widths`, pool them to `grid` x `grid` cells.

        A frame becomes `hidden` numbers, and time is pooled to at most `spans` spans.
        """
        super().__init__()
        self.frames = ConvEncoder(
            "video",
            input_shape[1:],
            hidden,
            widths=widths,
            strides=[(2, 2)] * len(widths),
            kernel=(kernel, kernel),
            grid=(grid, grid),
        )
        self.time = nn.Sequential(full(hidden, hidden, (kernel,), (1,)), norm(hidden), nn.GELU())
        self.head = CellsHead(hidden, input_shape[:1], (spans,), dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        frames: Tensor = self.frames(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.head(self.time(frames.transpose(1, 2)))  # type: ignore[no-any-return]


class AudioEncoder(ConvEncoder):
    """Sound, as waveforms: (B, C, T) -> (B, dim), by way of a logarithmic spectrogram.

    The spectrogram is fixed, not learnt: Hann windows, power in bands that are even on the mel
    scale, in dB with a floor 80 dB below that of noise of unit variance.
    """

    bands: Tensor
    window: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        dim: int,
        *,
        rate: float = 16_000.0,
        frame: int = 512,
        hop: int = 256,
        bands: int = 48,
        widths: Sequence[int] = (16, 32, 64),
        kernel: int = 3,
        grid: int = 5,
    ) -> None:
        """Make a spectrogram of `bands` bands, and convolutions over bands and time.

        Parameters
        ----------
        rate
            Samples a second; places the bands on the mel scale, nothing else.
        frame, hop
            Samples of a window, and from one to the next; the input must be long enough for the
            convolutions, which a smaller `hop` mends.
        """
        channels, samples = input_shape
        steps = 1 + (samples - frame) // hop if samples >= frame else 0
        least = (1 << len(widths)) + 1
        if steps < least:
            raise ValueError(
                f"audio inputs must have {frame + (least - 1) * hop} samples or more, not "
                f"{samples}; a smaller frame and hop need fewer"
            )
        super().__init__(
            "audio",
            (channels, bands, steps),
            dim,
            widths=widths,
            strides=[(2, 2)] * len(widths),
            kernel=(kernel, kernel),
            grid=(grid, grid),
            coordinates=True,
        )
        self.hop = hop
        self.register_buffer("window", torch.hann_window(frame), persistent=False)
        self.register_buffer("bands", mel_bands(frame, bands, rate), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings of shape (B, dim)."""
        frames = x.unfold(-1, len(self.window), self.hop)
        power = torch.fft.rfft(frames * self.window).abs().square() / self.window.square().sum()
        decibels = 10 * torch.log10(F.linear(power, self.bands) + 1e-8)
        return super().forward(decibels.transpose(-1, -2) / 20)


def mel_bands(frame: int, bands: int, rate: float) -> Tensor:
    """Return weights (bands, frame // 2 + 1) of triangular bands that are even on the mel scale.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy, 1987). Each band's weights have the sum 1; a band
    too narrow for any bin has the bin nearest to its middle.
    """
    highest = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    mel = torch.linspace(0, float(highest), bands + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = torch.linspace(0, rate / 2, frame // 2 + 1, dtype=torch.float64)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    weights = torch.minimum(rising, falling).clamp(min=0)
    nearest = F.one_hot((bins - middle).abs().argmin(dim=1), len(bins)).to(weights)
    weights = torch.where(weights.sum(dim=1, keepdim=True) > 0, weights, nearest)
    return (weights / weights.sum(dim=1, keepdim=True)).float()
