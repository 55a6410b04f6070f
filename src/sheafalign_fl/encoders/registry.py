"""Finding an encoder by name, by input shape, or by dotted path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sheafalign_fl.config.policy import policy_in_force
from sheafalign_fl.config.registry import Registry
from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.encoders.clouds import PointsEncoder
from sheafalign_fl.encoders.grids import (
    CameraEncoder,
    CsiEncoder,
    DepthEncoder,
    RadarEncoder,
    RangeImageEncoder,
    SkeletonEncoder,
)
from sheafalign_fl.encoders.lines import BeamEncoder, InertialEncoder, LinearEncoder, ScanEncoder
from sheafalign_fl.encoders.networks import ImageEncoder, SignalEncoder, VectorEncoder
from sheafalign_fl.encoders.sequences import SequenceEncoder
from sheafalign_fl.encoders.streams import AudioEncoder, VideoEncoder
from sheafalign_fl.errors import ConfigError

EncoderFactory = Callable[..., nn.Module]
"""``factory(input_shape, dim, **options) -> Module`` that maps (B, *input_shape) to (B, dim)."""


@dataclass(frozen=True)
class EncoderInfo:
    """An encoder: a built-in one, or one of the user's own.

    Attributes
    ----------
    name
        What configurations and data sources call it.
    factory
        Makes it.
    shapes
        The inputs that it takes, without the batch axis, such as ``("(C, H, W)",)``; empty where
        that is for the encoder itself to say.
    made_for
        Which sensors it is for.
    example
        The shape of a typical input.
    masked
        It takes events of unequal length, whose last channel says what is there.
    """

    name: str
    factory: EncoderFactory
    shapes: tuple[str, ...]
    made_for: str
    example: tuple[int, ...]
    masked: bool = False

    def takes(self, axes: int) -> bool:
        """Say whether inputs of so many axes are among `shapes`."""
        return any(len(shape.strip("(,)").split(",")) == axes for shape in self.shapes)


_BUILT_IN = {
    info.name: info
    for info in (
        EncoderInfo("vector", VectorEncoder, ("(F,)",), "measured values", (64,)),
        EncoderInfo("signal", SignalEncoder, ("(C, T)",), "any 1-D signal", (6, 128)),
        EncoderInfo("image", ImageEncoder, ("(C, H, W)",), "any small image", (3, 32, 32)),
        EncoderInfo("camera", CameraEncoder, ("(C, H, W)",), "camera pictures", (3, 64, 64)),
        EncoderInfo("depth", DepthEncoder, ("(C, H, W)",), "depth cameras", (1, 64, 64)),
        EncoderInfo(
            "range-image", RangeImageEncoder, ("(C, H, W)",), "LiDAR range images", (2, 16, 512)
        ),
        EncoderInfo(
            "points",
            PointsEncoder,
            ("(F, N)", "(T, F, N)"),
            "LiDAR or radar point clouds",
            (4, 5, 128),
        ),
        EncoderInfo("scan", ScanEncoder, ("(C, A)",), "LiDAR scans of one ring", (1, 360)),
        EncoderInfo(
            "radar", RadarEncoder, ("(C, H, W)",), "range-angle or range-Doppler maps", (1, 64, 64)
        ),
        EncoderInfo("beam", BeamEncoder, ("(B,)", "(T, B)"), "power of radio beams", (64,)),
        EncoderInfo(
            "inertial", InertialEncoder, ("(C, T)",), "accelerometers, gyroscopes", (6, 128)
        ),
        EncoderInfo(
            "skeleton", SkeletonEncoder, ("(D, J, T)",), "joints of a body in time", (3, 20, 64)
        ),
        EncoderInfo("csi", CsiEncoder, ("(L, S, T)",), "Wi-Fi channel state", (3, 114, 10)),
        EncoderInfo(
            "video", VideoEncoder, ("(T, C, H, W)",), "video, any pictures in time", (8, 3, 64, 64)
        ),
        EncoderInfo(
            "sequence",
            SequenceEncoder,
            ("(C + 1, T)",),
            "signals of unequal length",
            (7, 128),
            masked=True,
        ),
        EncoderInfo("audio", AudioEncoder, ("(C, T)",), "sound, as a waveform", (1, 16_000)),
        EncoderInfo(
            "linear", LinearEncoder, ("(F,)",), "features of a frozen foundation model", (768,)
        ),
    )
}
ENCODERS: Registry[EncoderInfo] = Registry(
    "encoder",
    _BUILT_IN,
    lambda path, factory: EncoderInfo(path, factory, (), "your own", ()),
    also=("auto",),
)
"""The built-in encoders by name."""
_BY_AXES = {1: "vector", 2: "signal", 3: "image", 4: "video"}
"""Number of input axes -> what `auto` is where the data source recommends nothing."""


def encoder_name(encoder: str, axes: int, preferred: str | None = None) -> str:
    """Return what `encoder`, which may be auto, means for inputs of so many axes.

    That is what the data source has `preferred`, or else goes by the axes; auto if nothing does.
    """
    if encoder != "auto":
        return encoder
    return preferred if preferred not in (None, "auto") else _BY_AXES.get(axes, "auto")


def build_encoder(
    client: str, settings: ClientSettings, input_shape: Sequence[int], preferred: str | None = None
) -> nn.Module:
    """Return a new encoder for `client`, drawn from torch's global generator and checked to work.

    Where the client's encoder is auto, it is the one that the data source has `preferred`, or else
    goes by the shape.

    Raises
    ------
    ConfigError
        The encoder is unknown or cannot be imported, an option is wrong, the input's shape does not
        fit, it uses batch norm (whose running statistics would be updated twice for each batch), or
        its output is not (B, dim).
    """
    name, shown, origin = settings.encoder, settings.encoder, ""
    if name == "auto":
        name = encoder_name(name, len(input_shape), preferred)
        if preferred is not None:
            shown, origin = name, " (which the data source recommends)"
    where = f"client '{client}': encoder '{shown}'{origin}"
    factory = _factory(where, name, tuple(input_shape))
    _check_size(where, name, factory, settings, tuple(input_shape))
    try:
        encoder = factory(tuple(input_shape), settings.dim, **settings.encoder_options)
    except Exception as error:  # whatever the user's own code raises
        raise ConfigError(
            f"{where}: cannot be made with options {settings.encoder_options}: {error}"
        ) from None
    if not isinstance(encoder, nn.Module):
        raise ConfigError(
            f"{where}: the factory returned {type(encoder).__name__}, not a torch.nn.Module"
        )
    if any(isinstance(module, _BatchNorm) for module in encoder.modules()):
        raise ConfigError(
            f"{where}: uses batch norm, which a repeated forward pass would change; "
            "use GroupNorm instead"
        )
    _check_output(where, encoder, tuple(input_shape), settings.dim)
    return encoder


def _factory(where: str, name: str, input_shape: tuple[int, ...]) -> EncoderFactory:
    if name == "auto":
        raise ConfigError(
            f"{where}: no built-in encoder takes inputs of shape {input_shape}; "
            "give one of your own"
        )
    info = ENCODERS.resolve(name, where)
    if info.shapes and not info.takes(len(input_shape)):
        shapes = " or ".join(info.shapes)
        raise ConfigError(f"{where}: takes inputs {shapes}, but the data has shape {input_shape}")
    return info.factory


def _check_size(
    where: str,
    name: str,
    factory: EncoderFactory,
    settings: ClientSettings,
    input_shape: tuple[int, ...],
) -> None:
    """Refuse a built-in encoder that is larger than the policy allows, before it takes memory."""
    policy = policy_in_force()
    if policy.own_machine or ":" in name:
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            made = factory(input_shape, settings.dim, **settings.encoder_options)
    except Exception as error:  # a wrong option, whatever torch says of it
        raise ConfigError(
            f"{where}: cannot be made with options {settings.encoder_options}: {error}"
        ) from None
    size = sum(parameter.numel() for parameter in made.parameters())
    if size > policy.limits.parameters:
        raise ConfigError(
            f"{where}: has {size} parameters, but this machine's policy allows "
            f"{policy.limits.parameters}"
        )


def _check_output(where: str, encoder: nn.Module, input_shape: tuple[int, ...], dim: int) -> None:
    probe = torch.zeros(2, *input_shape)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    try:
        with torch.no_grad():
            output: Any = encoder(probe)
    except Exception as error:  # whatever the user's own code raises
        raise ConfigError(f"{where}: fails on inputs of shape {input_shape}: {error}") from None
    if any(not torch.equal(value, before[name]) for name, value in encoder.state_dict().items()):
        raise ConfigError(
            f"{where}: a forward pass changes its state, which a repeated one would change again"
        )
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != (2, dim):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(f"{where}: must return (B, {dim}) but for B = 2 returned {shape}")
