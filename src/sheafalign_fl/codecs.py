"""Codecs: comparison embeddings to bytes and back.

A codec is a small class; `codec(name)` finds it. What a codec needs to decode besides shape is inside its bytes.
"""

import difflib
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import ConfigError, ProtocolError


class Codec(ABC):
    """Encodes float arrays of shape (events, dim), row-major."""

    name: str

    @abstractmethod
    def encode(self, values: NDArray[np.floating]) -> bytes:
        """Return the payload of `values`, shape (events, dim)."""

    @abstractmethod
    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        """Return the array of shape (events, dim) that `payload` holds.

        Raises
        ------
        ProtocolError
            The payload has the wrong length for the shape, or holds values that are not finite.
        """

    @abstractmethod
    def payload_bytes(self, events: int, dim: int) -> int:
        """Return the exact length of a payload; for checking frames, never for accounting."""


class FloatCodec(Codec):
    """Plain little-endian floating point: events * dim * itemsize bytes."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name = name
        self._dtype = np.dtype(dtype).newbyteorder("<")

    def encode(self, values: NDArray[np.floating]) -> bytes:
        """Return the values as they are, rounded to the codec's precision and clipped to its range."""
        limit = np.finfo(self._dtype).max
        encoded: NDArray[np.floating] = np.clip(values, -limit, limit).astype(self._dtype)
        return encoded.tobytes()

    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        """Return the values in the codec's own precision."""
        expected = self.payload_bytes(events, dim)
        if len(payload) != expected:
            raise ProtocolError(
                f"a {self.name} payload of {events} x {dim} has {expected} bytes; this one has {len(payload)}"
            )
        values = np.frombuffer(payload, dtype=self._dtype).reshape(events, dim)
        if not np.isfinite(values).all():
            raise ProtocolError(f"a {self.name} payload holds values that are not finite")
        return values.astype(self._dtype.newbyteorder("="))

    def payload_bytes(self, events: int, dim: int) -> int:
        """Return events * dim * itemsize."""
        return events * dim * self._dtype.itemsize


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (FloatCodec("float64", "f8"), FloatCodec("float32", "f4"), FloatCodec("float16", "f2"))
}


def codec(name: str) -> Codec:
    """Return the codec called `name`; raise `ConfigError` with a suggestion if there is none."""
    if name not in CODECS:
        close = difflib.get_close_matches(name, CODECS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(CODECS)}"
        raise ConfigError(f"codec: unknown codec '{name}'; {hint}")
    return CODECS[name]
