"""The frame that carries comparison embeddings from one client to one neighbour.

A frame is a header of fixed layout, the two names, and the payload::

    magic "SAF1" | purpose u8 | codec-name length u8 | source length u8 | destination length u8
    exchange u32 | first u32 | events u32 | dim u32 | payload length u32 | crc32 u32
    codec name | source | destination | seal | payload

The seal is there if the highest bit of the purpose is set: nonce and tag of an encrypted payload
(`seal`). All integers are little-endian. `exchange` counts batches; in an evaluation `first` is the
position of the first event. The checksum covers everything before and after itself, so a truncated
or altered frame is refused, never trained on.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.codecs import codec as find_codec
from sheafalign_fl.codecs import known_codec
from sheafalign_fl.errors import ConfigError, ProtocolError
from sheafalign_fl.protocol.verbs import PURPOSES, Purpose

_MAGIC = b"SAF1"
_HEADER = struct.Struct("<4sBBBBIIIII")
_CHECKSUM = struct.Struct("<I")
_SEALED = 0x80
SEAL_BYTES = 28
"""A nonce of 12 bytes and a tag of 16."""


@dataclass(frozen=True)
class Frame:
    """Encoded comparison embeddings z_ij of a batch, from client i = source to j = destination."""

    purpose: Purpose
    exchange: int
    source: str
    destination: str
    codec: str
    events: int
    dim: int
    payload: bytes
    first: int = 0
    seal: bytes = b""
    """Nonce and tag of an encrypted payload, which has the length of the plain one; empty if it is
    plain."""

    @classmethod
    def of(
        cls,
        purpose: Purpose,
        exchange: int,
        source: str,
        destination: str,
        codec: str,
        values: NDArray[np.floating],
    ) -> "Frame":
        """Encode `values`, shape (events, dim), into a frame."""
        events, dim = values.shape
        return cls(
            purpose,
            exchange,
            source,
            destination,
            codec,
            events,
            dim,
            find_codec(codec).encode(values),
        )

    def pack(self) -> bytes:
        """Return the frame as bytes."""
        head, names = self._head(), self._names()
        checksum = _checksum(head, names, self.seal, self.payload)
        return b"".join((head, _CHECKSUM.pack(checksum), names, self.seal, self.payload))

    def header(self) -> bytes:
        """Return what a seal binds: everything but payload, seal and checksum."""
        return self._head() + self._names()

    def _names(self) -> bytes:
        return self.codec.encode() + self.source.encode() + self.destination.encode()

    def _head(self) -> bytes:
        codec, source, destination = (
            self.codec.encode(),
            self.source.encode(),
            self.destination.encode(),
        )
        return _HEADER.pack(
            _MAGIC,
            PURPOSES.index(self.purpose) | (_SEALED if self.seal else 0),
            len(codec),
            len(source),
            len(destination),
            self.exchange,
            self.first,
            self.events,
            self.dim,
            len(self.payload),
        )

    @classmethod
    def unpack(cls, data: bytes) -> "Frame":
        """Return the frame that `data` holds.

        Raises
        ------
        ProtocolError
            `data` is no frame, is truncated or altered, names an unknown codec, or its payload has
            the wrong length.
        """
        start = _HEADER.size + _CHECKSUM.size
        if len(data) < start or not data.startswith(_MAGIC):
            raise ProtocolError(f"{len(data)} bytes that are no frame")
        _, purpose, *lengths, exchange, first, events, dim, size = _HEADER.unpack_from(data)
        names_end = start + sum(lengths)
        seal_end = names_end + (SEAL_BYTES if purpose & _SEALED else 0)
        if len(data) != seal_end + size:
            raise ProtocolError(f"a frame of {len(data)} bytes that should have {seal_end + size}")
        names, seal, payload = data[start:names_end], data[names_end:seal_end], data[seal_end:]
        if (
            _checksum(data[: _HEADER.size], names, seal, payload)
            != _CHECKSUM.unpack_from(data, _HEADER.size)[0]
        ):
            raise ProtocolError("a frame whose checksum does not match its content")
        cut = lengths[0], lengths[0] + lengths[1]
        codec, source, destination = names[: cut[0]], names[cut[0] : cut[1]], names[cut[1] :]
        if (kind := purpose & ~_SEALED) >= len(PURPOSES):
            raise ProtocolError(f"a frame with unknown purpose {purpose}")
        try:
            texts = source.decode(), destination.decode(), codec.decode()
        except UnicodeDecodeError:
            raise ProtocolError("a frame whose names are no text") from None
        frame = cls(PURPOSES[kind], exchange, *texts, events, dim, payload, first, seal)
        frame._check_payload()
        return frame

    def _check_payload(self) -> None:
        try:
            expected = known_codec(self.codec).payload_bytes(self.events, self.dim)
        except ConfigError:
            raise ProtocolError(f"a frame with unknown codec '{self.codec}'") from None
        if len(self.payload) != expected:
            raise ProtocolError(
                f"a frame whose payload has {len(self.payload)} bytes, not {expected}"
            )

    def values(self) -> NDArray[np.floating]:
        """Return the decoded embeddings, shape (events, dim); raise `ProtocolError` if sealed."""
        if self.seal:
            raise ProtocolError(f"the frame from '{self.source}' to '{self.destination}' is sealed")
        return known_codec(self.codec).decode(self.payload, self.events, self.dim)


def _checksum(*parts: bytes) -> int:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value
