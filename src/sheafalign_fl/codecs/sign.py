"""One bit a value: the sign, with the event embedding's mean absolute value as scale (bfloat16)."""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.codecs.base import Codec, read_scales, row_scales
from sheafalign_fl.errors import ProtocolError


class SignCodec(Codec):
    """All scales, then each event's signs in turn, 8 in a byte (1: not negative), padded with 0."""

    name = "sign"

    def encode(self, values: NDArray[np.floating]) -> bytes:
        """Return scales and signs."""
        mean = np.abs(values.astype(np.float64)).mean(axis=1)
        scales = row_scales(np.minimum(mean, np.finfo(np.float32).max).astype(np.float32))
        return scales.tobytes() + np.packbits(values >= 0, axis=1).tobytes()

    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        """Return plus or minus the scale, as float32."""
        self.check_length(payload, events, dim)
        scales = read_scales(self.name, payload, events)
        rows = np.frombuffer(payload, dtype=np.uint8, offset=2 * events).reshape(
            events, -(-dim // 8)
        )
        bits = np.unpackbits(rows, axis=1)
        if bits[:, dim:].any():
            raise ProtocolError("a sign payload whose padding is not 0")
        values: NDArray[np.float32] = np.where(bits[:, :dim] > 0, scales, -scales)
        return values

    def payload_bytes(self, events: int, dim: int) -> int:
        """Return events * (2 + ceil(dim / 8))."""
        return events * (2 + -(-dim // 8))
