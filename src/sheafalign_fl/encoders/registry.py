"""Finding an encoder by name, by input shape, or by dotted path."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.encoders.networks import ImageEncoder, SignalEncoder, VectorEncoder
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.plugins import load_attribute

EncoderFactory = Callable[..., nn.Module]
"""``factory(input_shape, dim, **options) -> Module`` that maps (B, *input_shape) to (B, dim)."""

ENCODERS: dict[str, tuple[EncoderFactory, int, str]] = {
    "vector": (VectorEncoder, 1, "(F,)"),
    "signal": (SignalEncoder, 2, "(C, T)"),
    "image": (ImageEncoder, 3, "(C, H, W)"),
}
"""Name -> (factory, number of input axes, what these are)."""


def build_encoder(client: str, settings: ClientSettings, input_shape: Sequence[int]) -> nn.Module:
    """Return a new encoder for `client`, drawn from torch's global generator, and check that it works.

    Raises
    ------
    ConfigError
        The encoder is unknown or cannot be imported, an option is wrong, the input's shape does not fit, it uses batch
        norm (whose running statistics would be updated twice for each batch), or its output is not (B, dim).
    """
    where = f"client '{client}': encoder '{settings.encoder}'"
    factory = _factory(where, settings.encoder, tuple(input_shape))
    try:
        encoder = factory(tuple(input_shape), settings.dim, **settings.encoder_options)
    except Exception as error:  # whatever the user's own code raises
        raise ConfigError(f"{where}: cannot be made with options {settings.encoder_options}: {error}") from None
    if not isinstance(encoder, nn.Module):
        raise ConfigError(f"{where}: the factory returned {type(encoder).__name__}, not a torch.nn.Module")
    if any(isinstance(module, _BatchNorm) for module in encoder.modules()):
        raise ConfigError(
            f"{where}: uses batch norm, which a repeated forward pass would change; use GroupNorm instead"
        )
    _check_output(where, encoder, tuple(input_shape), settings.dim)
    return encoder


def _factory(where: str, name: str, input_shape: tuple[int, ...]) -> EncoderFactory:
    if name == "auto":
        for factory, axes, _ in ENCODERS.values():
            if axes == len(input_shape):
                return factory
        raise ConfigError(f"{where}: no built-in encoder takes inputs of shape {input_shape}; give one of your own")
    if name in ENCODERS:
        factory, axes, meaning = ENCODERS[name]
        if axes != len(input_shape):
            raise ConfigError(f"{where}: takes inputs {meaning}, but the data has shape {input_shape}")
        return factory
    if ":" in name:
        return load_attribute(name, where)  # type: ignore[no-any-return]
    close = difflib.get_close_matches(name, ["auto", *ENCODERS], n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: auto, {', '.join(ENCODERS)}, or package.module:factory"
    raise ConfigError(f"{where}: unknown encoder; {hint}")


def _check_output(where: str, encoder: nn.Module, input_shape: tuple[int, ...], dim: int) -> None:
    probe = torch.zeros(2, *input_shape)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    try:
        with torch.no_grad():
            output: Any = encoder(probe)
    except Exception as error:  # whatever the user's own code raises
        raise ConfigError(f"{where}: fails on inputs of shape {input_shape}: {error}") from None
    if any(not torch.equal(value, before[name]) for name, value in encoder.state_dict().items()):
        raise ConfigError(f"{where}: a forward pass changes its state, which a repeated one would change again")
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != (2, dim):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(f"{where}: must return (B, {dim}) but for B = 2 returned {shape}")
