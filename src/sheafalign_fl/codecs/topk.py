"""The K largest values of each event's embedding, with their places; the rest decodes to 0."""

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.codecs.base import Codec
from sheafalign_fl.errors import NotFiniteError, ProtocolError

_LARGEST_DIM = 65536


class TopKCodec(Codec):
    """All places (ascending per event; 1 byte each, 2 if dim > 256), then all values as float16."""

    def __init__(self, kept: int) -> None:
        """Keep `kept` values of each event, or all of them where there are fewer."""
        self.name, self._kept = f"top-{kept}", kept

    def encode(self, values: NDArray[np.floating]) -> bytes:
        """Return places and values; of equal values the first is kept."""
        count = min(self._kept, values.shape[1])
        # What is not a number counts as the largest, so that a client that diverged does not look
        # sound.
        sizes = np.where(np.isnan(values), np.inf, np.abs(values))
        largest = np.argsort(-sizes, axis=1, kind="stable")[:, :count]
        places = np.sort(largest, axis=1)
        limit = np.finfo(np.float16).max
        kept = np.clip(np.take_along_axis(values, places, axis=1), -limit, limit).astype("<f2")
        packed: bytes = places.astype(self._place_type(values.shape[1])).tobytes() + kept.tobytes()
        return packed

    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        """Return the values at their places and 0 elsewhere, as float32."""
        self.check_length(payload, events, dim)
        count, kind = min(self._kept, dim), self._place_type(dim)
        places = (
            np.frombuffer(payload, dtype=kind, count=events * count)
            .reshape(events, count)
            .astype(np.intp)
        )
        kept = np.frombuffer(payload, dtype="<f2", offset=places.size * kind.itemsize).reshape(
            events, count
        )
        if (places >= dim).any() or (np.diff(places, axis=1) <= 0).any():
            raise ProtocolError(f"a {self.name} payload whose places are not ascending below {dim}")
        if not np.isfinite(kept).all():
            raise NotFiniteError(f"a {self.name} payload holds values that are not finite")
        values = np.zeros((events, dim), dtype=np.float32)
        np.put_along_axis(values, places, kept.astype(np.float32), axis=1)
        return values

    def payload_bytes(self, events: int, dim: int) -> int:
        """Return events * min(K, dim) * (2 + bytes of a place)."""
        return events * min(self._kept, dim) * (2 + self._place_type(dim).itemsize)

    def _place_type(self, dim: int) -> "np.dtype[np.unsignedinteger]":
        if dim > _LARGEST_DIM:
            raise ProtocolError(
                f"{self.name} has places for at most {_LARGEST_DIM} dimensions, not {dim}"
            )
        return np.dtype("<u1" if dim <= 256 else "<u2")
