"""Codecs: comparison embeddings to bytes and back.

A codec is a small class; `codec(name)` finds it. What a codec needs to decode besides shape is
inside its bytes.
"""

from sheafalign_fl.codecs.base import Codec
from sheafalign_fl.codecs.floats import FloatCodec
from sheafalign_fl.codecs.registry import CODECS, codec, known_codec

__all__ = ["CODECS", "Codec", "FloatCodec", "codec", "known_codec"]
