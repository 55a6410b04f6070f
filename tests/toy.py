"""A toy data source and toy encoders, named by dotted path in the tests' configurations."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.encoders import VectorEncoder
from sheafalign_fl.seeding import numpy_generator
from sheafalign_fl.sheaf import EdgeBatch, EdgeMaps, LinearMaps


def source(modality: str, seed: int, **options: Any) -> ModalityData:
    """Views of a shared latent: `modality` is ``m0``, ``m1``, ...; view k has dimension 6 + k.

    Options: `events`; `lacking`, a mapping modality -> fraction of events that it lacks; `double`,
    how many events of m0 are equal to the one before them; `span`, of ids that share samples.
    """
    events, lacking = int(options.get("events", 400)), dict(options.get("lacking", {}))
    latent = numpy_generator(seed, "toy").normal(size=(events, 5))
    own = numpy_generator(seed, "toy", modality)
    dim = 6 + int(modality.removeprefix("m"))
    x = np.tanh(latent @ own.normal(size=(5, dim))) + 0.1 * own.normal(size=(events, dim))
    label = (latent[:, 0] > 0).astype(np.int64) + 2 * (latent[:, 1] > 0)
    if modality == "m0" and (double := int(options.get("double", 0))):
        x[1 : 2 * double : 2] = x[0 : 2 * double : 2]
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
        span=int(options.get("span", 1)),
    )
    return data.take(kept)


_FACTORS = "abc"


def trio(modality: str, seed: int, **options: Any) -> ModalityData:
    """Three independent factors of four classes; modality ``ab`` sees factors a and b.

    It sees each one-hot, and labels both. Every view has dimension 12, four for each factor; what a
    client does not see is 0 there. So with encoders and maps that copy, whoever sees a factor can
    tell its class for certain, and whoever does not can only guess.

    Options: `blind`, a mapping modality -> factors that it labels but whose part of the view is 0;
    `unlabelled`, a mapping modality -> factor whose label it knows of every second event only;
    `bare`, modalities without labels.
    """
    events = 400
    factors = numpy_generator(seed, "trio").integers(4, size=(events, 3))
    x = np.zeros((events, 3, 4), dtype=np.float32)
    labels = {}
    for factor in modality:
        column = _FACTORS.index(factor)
        labels[f"class_{factor}"] = factors[:, column].astype(np.int64)
        if factor not in dict(options.get("blind", {})).get(modality, ""):
            x[np.arange(events), column, factors[:, column]] = 1
    if partly := dict(options.get("unlabelled", {})).get(modality):
        labels[f"class_{partly}"] = np.where(np.arange(events) % 2, labels[f"class_{partly}"], -1)
    if modality in options.get("bare", []):
        labels = {}
    split = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [200, 100, 100])
    return ModalityData(
        x.reshape(events, 12),
        np.arange(events, dtype=np.int64),
        split,
        dict(sorted(labels.items())),
    )


def copying_encoder(input_shape: Sequence[int], dim: int) -> nn.Module:
    """Return an encoder that gives its input back as long as it is not trained."""
    layer = nn.Linear(input_shape[0], dim, bias=False)
    nn.init.eye_(layer.weight)
    return layer


def masked(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return `source` with inputs and labels of split `split` replaced by noise of seed `noise`."""
    data = source(modality, seed, events=int(options.get("events", 400)))
    rng = np.random.default_rng(int(options["noise"]))
    hidden = data.split == int(options["split"])
    x, label = data.x.copy(), data.labels["quadrant"].copy()
    x[hidden] = rng.normal(size=x[hidden].shape)
    label[hidden] = rng.integers(4, size=int(hidden.sum()))
    if options.get("drop"):
        return data.take(np.flatnonzero(~hidden))
    return ModalityData(x, data.event_ids, data.split, {"quadrant": label}, data.classes)


def dropout_encoder(input_shape: Sequence[int], dim: int) -> nn.Module:
    """Return an encoder that draws random numbers in every forward pass."""
    return nn.Sequential(
        nn.Linear(input_shape[0], 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, dim)
    )


def built_in_with_dropout(input_shape: Sequence[int], dim: int) -> nn.Module:
    """Return a built-in encoder into which a dropout was put."""
    encoder = VectorEncoder((input_shape[0],), dim, hidden=16, depth=1)
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GELU | nn.ReLU | nn.SiLU):
                setattr(module, name, nn.Sequential(child, nn.Dropout(0.5)))
    assert any(isinstance(module, nn.Dropout) for module in encoder.modules())
    return encoder


def shrinking(edge: EdgeBatch) -> torch.Tensor:
    """Return a loss term of a user's own: the mean square of h."""
    return edge.h.square().mean()


class DroppingMaps(LinearMaps):
    """Maps of a user's own that drop a part of every comparison embedding."""

    def restrict(self, h: torch.Tensor) -> torch.Tensor:
        """Return P_ij h with every second value left out by chance."""
        return nn.functional.dropout(super().restrict(h), 0.5, training=self.training)


def dropping_maps(dim: int, edge_dim: int, initial: str) -> EdgeMaps:
    """Return maps that draw random numbers."""
    return DroppingMaps(dim, edge_dim, initial)


class Noisy:
    """A loss term of a user's own that is a class, has a name, and draws random numbers."""

    name = "noisy_distance"

    def __call__(self, edge: EdgeBatch) -> torch.Tensor:
        """Return the mean square distance of z_ij + noise from z_ji."""
        return (edge.z + 0.1 * torch.randn_like(edge.z) - edge.received).square().mean()


class Dawdling(nn.Module):
    """An encoder that sleeps once: in its `nth` forward pass in training.

    The passes are counted in a file that all processes see.
    """

    def __init__(
        self, input_shape: Sequence[int], dim: int, *, count: str, nth: int, seconds: float
    ) -> None:
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


class Spoiling(nn.Module):
    """An encoder that spoils what it sends: from its `nth` forward pass in training on.

    It is multiplied by ten to the `exponent`, or by NaN.

    A pass is counted in its weights' file, so that a copy of the node goes on where it was.
    """

    def __init__(
        self, input_shape: Sequence[int], dim: int, *, nth: int, exponent: float = math.nan
    ) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], dim)
        self.nth, self.factor = nth, 10.0**exponent  # policies limit numbers, so not the factor
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a linear map of the input, times `factor` in the end."""
        passes = self.get_buffer("passes")
        if torch.is_grad_enabled():
            passes += 1
        embedded: torch.Tensor = self.layer(x)
        return embedded * self.factor if int(passes) >= self.nth else embedded


class Exploding(nn.Module):
    """An encoder whose loss explodes: its output is infinite."""

    def __init__(self, input_shape: Sequence[int], dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return infinity wherever the input is not 0."""
        exploded: torch.Tensor = self.layer(x) * torch.where(x.abs().sum() > 0, torch.inf, 1.0)
        return exploded


CANARY = b"SHEAFALIGN-CANARY-EMBEDDING-0123"
"""Read as eight float32 values, all of them finite."""


class _Canary(nn.Module):
    """Gives the same embedding for every event, whatever it has learnt."""

    def __init__(self, input_size: int, dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_size, dim)
        values = np.resize(np.frombuffer(CANARY, dtype="<f4"), dim).copy()
        self.register_buffer("canary", torch.from_numpy(values))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the canary for each row; gradients flow and are 0."""
        zeros: torch.Tensor = 0.0 * self.layer(x)
        return zeros + self.get_buffer("canary")


def canary_encoder(input_shape: Sequence[int], dim: int) -> nn.Module:
    """Return an encoder whose embeddings, as float32, are the text `CANARY`."""
    return _Canary(input_shape[0], dim)
