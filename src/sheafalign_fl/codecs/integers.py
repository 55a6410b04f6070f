"""Integers with a scale per event: all scales (bfloat16), then each event's integers in turn."""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.codecs.base import Codec, from_bfloat16, read_scales, row_scales
from sheafalign_fl.errors import ProtocolError

_LARGEST = 2.0**126
"""Larger values are clipped, so that a scale that was rounded up never takes a decoded value out of
float32's range."""


class IntegerCodec(Codec):
    """Symmetric quantisation of each event's embedding to integers in [-levels, levels].

    Values are rounded half to even. The scale is the event's largest absolute value over `levels`,
    so the error of a value is at most half a scale.
    """

    def __init__(self, name: str, bits: int) -> None:
        """Use `bits` bits a value: 8, or 4 (two values in a byte, the first in the lower half)."""
        self.name = name
        self._bits, self._levels = bits, 2 ** (bits - 1) - 1

    def encode(self, values: NDArray[np.floating]) -> bytes:
        """Return scales and integers."""
        wanted = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)
        scales = row_scales(np.abs(wanted).max(axis=1, initial=0) / np.float32(self._levels))
        steps = from_bfloat16(scales)[:, None]
        ratio = np.divide(wanted, steps, out=np.zeros_like(wanted), where=steps > 0)
        integers = np.clip(np.rint(ratio), -self._levels, self._levels).astype(np.int8)
        return scales.tobytes() + self._packed(integers).tobytes()

    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        """Return scale times integer, as float32."""
        self.check_length(payload, events, dim)
        scales = read_scales(self.name, payload, events)
        integers = self._unpacked(
            np.frombuffer(payload, dtype=np.uint8, offset=2 * events), events, dim
        )
        if (integers < -self._levels).any():
            raise ProtocolError(
                f"a {self.name} payload holds {-self._levels - 1}, which is never sent"
            )
        values = integers * scales.astype(np.float64)
        if np.abs(values).max(initial=0) > np.finfo(np.float32).max:
            raise ProtocolError(f"a {self.name} payload holds values beyond the range of float32")
        return values.astype(np.float32)

    def payload_bytes(self, events: int, dim: int) -> int:
        """Return events * (2 + ceil(dim * bits / 8))."""
        return events * (2 + -(-dim * self._bits // 8))

    def _packed(self, integers: NDArray[np.int8]) -> NDArray[np.uint8]:
        if self._bits == 8:
            return integers.view(np.uint8)
        even = np.pad(integers, ((0, 0), (0, integers.shape[1] % 2))).view(np.uint8) & 0x0F
        return np.ascontiguousarray(even[:, ::2] | (even[:, 1::2] << 4))

    def _unpacked(self, data: NDArray[np.uint8], events: int, dim: int) -> NDArray[np.int8]:
        if self._bits == 8:
            return data.view(np.int8).reshape(events, dim)
        rows = data.reshape(events, -(-dim // 2))
        nibbles = (
            np.stack([rows & 0x0F, rows >> 4], axis=2)
            .reshape(events, 2 * rows.shape[1])
            .astype(np.int8)
        )
        signed = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8)
        if signed[:, dim:].any():
            raise ProtocolError(f"a {self.name} payload whose padding is not 0")
        return signed[:, :dim]
