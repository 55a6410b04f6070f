"""Finding a codec by its name."""

import re
from typing import Any

from sheafalign_fl.codecs.base import Codec
from sheafalign_fl.codecs.floats import BFloat16Codec, FloatCodec
from sheafalign_fl.codecs.integers import IntegerCodec
from sheafalign_fl.codecs.sign import SignCodec
from sheafalign_fl.codecs.topk import TopKCodec
from sheafalign_fl.config.registry import Registry

_TOP = re.compile(r"top-([1-9][0-9]{0,4})")
_MOST_KEPT = 65536


def _top(name: str) -> Codec | None:
    match = _TOP.fullmatch(name)
    return TopKCodec(int(match[1])) if match and int(match[1]) <= _MOST_KEPT else None


def _own(path: str, made: Any) -> Codec:
    """Return the user's own codec: an instance, or what the class or function at `path` makes."""
    found = made if isinstance(made, Codec) else made()
    if not isinstance(found, Codec):
        raise TypeError(f"it gave {type(found).__name__}, not a Codec")
    return found


CODECS: Registry[Codec] = Registry(
    "codec",
    {
        codec.name: codec
        for codec in (
            FloatCodec("float64", "f8"),
            FloatCodec("float32", "f4"),
            FloatCodec("float16", "f2"),
            BFloat16Codec(),
            IntegerCodec("int8", 8),
            IntegerCodec("int4", 4),
            SignCodec(),
        )
    },
    _own,
    also=("top-16",),
    family=_top,
)
"""The codecs without a parameter; beside them there is ``top-K`` for every K from 1 to 65536."""


def codec(name: str) -> Codec:
    """Return the codec a setting names; raise `ConfigError` with a suggestion if there is none."""
    return CODECS.resolve(name, "codec")


def known_codec(name: str) -> Codec:
    """Return the codec that a frame names, without importing anything; else raise `ConfigError`."""
    return CODECS.find(name, "codec")
