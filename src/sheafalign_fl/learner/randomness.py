"""Whether a module may draw random numbers: then it needs a generator that can be replayed."""

from torch import nn

_OURS = ("sheafalign_fl.encoders.", "sheafalign_fl.sheaf.")
_DETERMINISTIC: frozenset[type[nn.Module]] = frozenset(
    {
        *(nn.Identity, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Flatten, nn.Unflatten),
        *(nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag),
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Fold, nn.Unfold),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        *(nn.LPPool1d, nn.LPPool2d, nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle),
        *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d),
        *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ConstantPad1d, nn.ConstantPad2d),
        *(nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm),
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
        *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.GLU),
        *(nn.Softplus, nn.Softsign, nn.Softmax, nn.LogSoftmax, nn.LogSigmoid),
    }
)
"""Modules of torch's own that draw nothing in a forward pass; a subclass of one may."""


def may_draw(module: nn.Module) -> bool:
    """Return whether `module`, or any module inside it, might draw random numbers.

    Only what is known not to is believed not to: modules of torch named above and those of our own
    encoders and maps, as they are, without hooks and without a forward pass that was put in their
    place.
    """
    return not all(_draws_nothing(part) for part in module.modules())


def _draws_nothing(part: nn.Module) -> bool:
    kind = type(part)
    known = kind in _DETERMINISTIC or kind.__module__.startswith(_OURS)
    altered = part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
    return known and not altered
