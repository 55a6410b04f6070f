"""What a codec is."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import NotFiniteError, ProtocolError

LARGEST_BFLOAT16 = float(np.array(0x7F7F0000, dtype=np.uint32).view(np.float32))


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

    def check_length(self, payload: bytes, events: int, dim: int) -> None:
        """Raise `ProtocolError` unless `payload` has the length of (events, dim) embeddings."""
        expected = self.payload_bytes(events, dim)
        if len(payload) != expected:
            raise ProtocolError(
                f"a {self.name} payload of {events} x {dim} has {expected} bytes; "
                f"this one has {len(payload)}"
            )


def round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of float32 `values`, rounded to nearest, ties to even.

    Finite values stay finite.
    """
    bits = np.clip(values, -LARGEST_BFLOAT16, LARGEST_BFLOAT16).astype("<f4").view("<u4")
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded


def from_bfloat16(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the float32 values of bfloat16 bit patterns."""
    return (halves.astype("<u4") << 16).view("<f4").astype(np.float32)


def row_scales(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return bit patterns of the smallest bfloat16 not below `values`, which are not negative.

    Rounded up, so that a row that is divided by its scale never exceeds its range; what a row of
    ordinary embeddings cannot have (a scale below the normal range) counts as 0.
    """
    bits = np.clip(values, 0, LARGEST_BFLOAT16).astype("<f4").view("<u4")
    upper = ((bits + 0xFFFF) >> 16).astype("<u2")
    return np.where(from_bfloat16(upper) < np.finfo(np.float32).tiny, 0, upper).astype("<u2")


def read_scales(name: str, payload: bytes, events: int) -> NDArray[np.float32]:
    """Return the scales, shape (events, 1), at the start of `payload`.

    Raises
    ------
    ProtocolError
        A scale is negative or not finite.
    """
    scales = from_bfloat16(np.frombuffer(payload, dtype="<u2", count=events))
    if not np.isfinite(scales).all() or np.signbit(scales).any():
        raise NotFiniteError(f"a {name} payload holds a scale that is negative or not finite")
    return scales[:, None]
