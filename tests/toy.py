"""A toy data source and toy encoders, named by dotted path in the tests' configurations."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.seeding import numpy_generator


def source(modality: str, seed: int, **options: Any) -> ModalityData:
    """Views of a shared latent: `modality` is ``m0``, ``m1``, ...; every view has dimension 6 + its number.

    Options: `events`, and `lacking`, a mapping modality -> fraction of events that it lacks.
    """
    events, lacking = int(options.get("events", 400)), dict(options.get("lacking", {}))
    latent = numpy_generator(seed, "toy").normal(size=(events, 5))
    own = numpy_generator(seed, "toy", modality)
    dim = 6 + int(modality.removeprefix("m"))
    x = np.tanh(latent @ own.normal(size=(5, dim))) + 0.1 * own.normal(size=(events, dim))
    label = (latent[:, 0] > 0).astype(np.int64) + 2 * (latent[:, 1] > 0)
    split = np.zeros(events, dtype=np.uint8)
    split[events // 2 : 3 * events // 4] = 1
    split[3 * events // 4 :] = 2
    kept = np.flatnonzero(own.random(events) >= float(lacking.get(modality, 0.0)))
    data = ModalityData(
        x.astype(np.float32),
        np.arange(events, dtype=np.int64) * 7 + 3,
        split,
        {"quadrant": label},
        {"quadrant": ("a", "b", "c", "d")},
    )
    return data.take(kept)


def dropout_encoder(input_shape: Sequence[int], dim: int) -> nn.Module:
    """Return an encoder that draws random numbers in every forward pass."""
    return nn.Sequential(nn.Linear(input_shape[0], 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, dim))


class Dawdling(nn.Module):
    """An encoder that sleeps once: in its `nth` forward pass in training, counted in a file that all processes see."""

    def __init__(self, input_shape: Sequence[int], dim: int, *, count: str, nth: int, seconds: float) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], dim)
        self.count, self.nth, self.seconds = Path(count), nth, seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a linear map of the input, sooner or later."""
        if torch.is_grad_enabled():
            with self.count.open("ab") as file:
                file.write(b".")
            if self.count.stat().st_size == self.nth:
                time.sleep(self.seconds)
        embedded: torch.Tensor = self.layer(x)
        return embedded


class Exploding(nn.Module):
    """An encoder whose loss explodes: its output is infinite."""

    def __init__(self, input_shape: Sequence[int], dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return infinity wherever the input is not 0."""
        exploded: torch.Tensor = self.layer(x) * torch.where(x.abs().sum() > 0, torch.inf, 1.0)
        return exploded
