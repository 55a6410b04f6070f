"""Finding a codec by its name."""

import re
from functools import lru_cache

from sheafalign_fl.codecs.base import Codec
from sheafalign_fl.codecs.floats import BFloat16Codec, FloatCodec
from sheafalign_fl.codecs.integers import IntegerCodec
from sheafalign_fl.codecs.sign import SignCodec
from sheafalign_fl.codecs.topk import TopKCodec
from sheafalign_fl.config.mending import closest
from sheafalign_fl.errors import ConfigError

CODECS: dict[str, Codec] = {
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
}
"""The codecs without a parameter; beside them there is ``top-K`` for every K from 1 to 65536."""
_TOP = re.compile(r"top-([1-9][0-9]{0,4})")
_MOST_KEPT = 65536


@lru_cache(maxsize=256)
def codec(name: str) -> Codec:
    """Return the codec called `name`; raise `ConfigError` with a suggestion if there is none."""
    if name in CODECS:
        return CODECS[name]
    if (match := _TOP.fullmatch(name)) and int(match[1]) <= _MOST_KEPT:
        return TopKCodec(int(match[1]))
    # top-K is meant by what begins so, and by nothing else: fp16 is no top-16.
    known = [*CODECS, "top-16"] if name.lower().startswith("top") else list(CODECS)
    close = closest(name, known)
    hint = (
        f"did you mean '{close}'?"
        if close
        else f"known: {', '.join(CODECS)}, top-K (such as top-16)"
    )
    raise ConfigError(f"codec: unknown codec '{name}'; {hint}")
