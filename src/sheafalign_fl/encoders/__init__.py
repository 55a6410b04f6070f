"""Encoders f_i: from a modality's input to the node stalk R^{d_i}."""

from sheafalign_fl.encoders.networks import ImageEncoder, SignalEncoder, VectorEncoder
from sheafalign_fl.encoders.registry import ENCODERS, EncoderInfo, build_encoder

__all__ = [
    "ENCODERS",
    "EncoderInfo",
    "ImageEncoder",
    "SignalEncoder",
    "VectorEncoder",
    "build_encoder",
]
