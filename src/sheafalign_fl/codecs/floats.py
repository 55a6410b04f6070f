"""Floating-point codecs: every value on its own."""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.codecs.base import Codec, from_bfloat16, round_to_bfloat16
from sheafalign_fl.errors import NotFiniteError


class FloatCodec(Codec):
    """Plain little-endian floating point: events * dim * itemsize bytes."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name = name
        self._dtype = np.dtype(dtype).newbyteorder("<")

    def encode(self, values: NDArray[np.floating]) -> bytes:
        """Return the values as they are, rounded to the codec's precision, clipped to its range."""
        limit = np.finfo(self._dtype).max
        encoded: NDArray[np.floating] = np.clip(values, -limit, limit).astype(self._dtype)
        return encoded.tobytes()

    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        """Return the values in the codec's own precision."""
        self.check_length(payload, events, dim)
        values = np.frombuffer(payload, dtype=self._dtype).reshape(events, dim)
        if not np.isfinite(values).all():
            raise NotFiniteError(f"a {self.name} payload holds values that are not finite")
        return values.astype(self._dtype.newbyteorder("="))

    def payload_bytes(self, events: int, dim: int) -> int:
        """Return events * dim * itemsize."""
        return events * dim * self._dtype.itemsize


class BFloat16Codec(Codec):
    """The upper half of a float32: its whole range at 8 bits of precision, 2 bytes a value."""

    name = "bfloat16"

    def encode(self, values: NDArray[np.floating]) -> bytes:
        """Return the values rounded to nearest, ties to even."""
        limit = np.finfo(np.float32).max
        return round_to_bfloat16(np.clip(values, -limit, limit).astype(np.float32)).tobytes()

    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        """Return the values as float32."""
        self.check_length(payload, events, dim)
        values = from_bfloat16(np.frombuffer(payload, dtype="<u2").reshape(events, dim))
        if not np.isfinite(values).all():
            raise NotFiniteError("a bfloat16 payload holds values that are not finite")
        return values

    def payload_bytes(self, events: int, dim: int) -> int:
        """Return 2 * events * dim."""
        return 2 * events * dim
