"""What a client's learning is made of: encoder, maps, optimiser, learning rate, device.

All initial values are functions of the seed and of names alone. Modules draw from torch's global
generator, which is borrowed for them, one client at a time.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from sheafalign_fl.config.registry import Registry
from sheafalign_fl.config.schema import Settings, TrainingSettings
from sheafalign_fl.encoders import build_encoder
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.seeding import torch_seeded
from sheafalign_fl.sheaf.maps import EdgeMaps, edge_maps

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_GENERATOR_LOCK = threading.Lock()


@contextmanager
def own_generator(seed: int, purpose: str, *keys: int | str) -> Iterator[None]:
    """Hold torch's global generator alone, seeded by all arguments, and restore it afterwards."""
    with _GENERATOR_LOCK, torch_seeded(seed, purpose, *keys):
        yield


def new_encoder(
    client: str, settings: Settings, input_shape: tuple[int, ...], preferred: str | None = None
) -> nn.Module:
    """Return the encoder of `client`; its initial weights depend on (seed, client) alone.

    `preferred` is what its data source recommends (`ModalityData.encoder`).
    """
    with own_generator(settings.seed, "encoder", client):
        return build_encoder(client, settings.clients[client], input_shape, preferred)


def new_maps(client: str, neighbour: str, edge_dim: int, settings: Settings) -> EdgeMaps:
    """Return `client`'s maps towards `neighbour`, which depend on (seed, client, neighbour)."""
    objective = settings.objective
    learnt = objective.temperature if objective.learnable_temperature else None
    with own_generator(settings.seed, "maps", client, neighbour):
        return edge_maps(settings.maps, settings.clients[client].dim, edge_dim, learnt)


def client_maps(
    client: str, neighbours: Mapping[str, int], settings: Settings
) -> dict[str, EdgeMaps]:
    """Return `client`'s maps towards each of `neighbours` (neighbour -> d_e).

    Shared ones are one module, which depends on (seed, client) and stands under every neighbour.

    Raises
    ------
    ConfigError
        They cannot be made, or are to be shared by edges of different dimensions.
    """
    if settings.maps.family != "shared" or not neighbours:
        return {name: new_maps(client, name, dim, settings) for name, dim in neighbours.items()}
    if len(dims := set(neighbours.values())) > 1:
        raise ConfigError(
            f"maps.family: shared needs one dimension on all edges of '{client}', not "
            f"{', '.join(map(str, sorted(dims)))}"
        )
    return dict.fromkeys(neighbours, new_maps(client, "", next(iter(dims)), settings))


OPTIMISERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry(
    "optimiser",
    {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD},
    lambda path, factory: cast(Callable[..., torch.optim.Optimizer], factory),
)


def new_optimiser(
    parameters: Sequence[nn.Parameter], settings: TrainingSettings
) -> torch.optim.Optimizer:
    """Return the optimiser that `settings` names; element by element, so no client needs another's.

    Scalars (a learnt temperature) are not decayed: that would pull tau towards 1.
    """
    arrays = [parameter for parameter in parameters if parameter.ndim > 0]
    scalars = [parameter for parameter in parameters if parameter.ndim == 0]
    groups: list[dict[str, Any]] = [{"params": arrays, "weight_decay": settings.weight_decay}]
    if scalars:
        groups.append({"params": scalars, "weight_decay": 0.0})
    make = OPTIMISERS.resolve(settings.optimiser, "training.optimiser")
    return make(groups, lr=settings.learning_rate)


def learning_rate(settings: TrainingSettings, exchange: int) -> float:
    """Return the learning rate of `exchange`.

    It rises evenly over the warm-up, which may be none. From the full rate it then stays, or falls
    to 0 along half a cosine.
    """
    full, rising = settings.learning_rate, round(settings.warmup * settings.exchanges)
    if exchange < rising:
        return full * (exchange + 1) / (rising + 1)
    if settings.decay == "none":
        return full
    angle = math.pi * (exchange - rising) / (settings.exchanges - rising)
    return full * 0.5 * (1 + math.cos(angle))


def resolve_device(device: str) -> torch.device:
    """Return the device that auto, cpu or cuda means on this machine.

    Raises
    ------
    ConfigError
        cuda was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for but torch finds no CUDA device; use device: auto or cpu"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
