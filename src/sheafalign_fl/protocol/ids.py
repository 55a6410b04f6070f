"""Event ids and masks over them, as bytes for the wire."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONGEST_ID = 256


def encode_ids(ids: NDArray[Any]) -> bytes:
    """Return event ids as bytes: ``i`` and little-endian int64, or ``U`` and JSON."""
    if ids.dtype.kind == "U":
        return b"U" + json.dumps(ids.tolist()).encode()
    return b"i" + ids.astype("<i8").tobytes()


def decode_ids(data: bytes) -> NDArray[Any]:
    """Return the ids that `encode_ids` made `data` from."""
    if data[:1] == b"U":
        ids = json.loads(data[1:])
        # An array of texts takes the space of its longest for each of them.
        if not all(isinstance(item, str) and len(item) <= _LONGEST_ID for item in ids):
            raise ValueError(f"an event id that is no text of at most {_LONGEST_ID} characters")
        return np.array(ids, dtype=np.str_)
    return np.frombuffer(data[1:], dtype="<i8").astype(np.int64)


def unpack_mask(text: str, count: int) -> NDArray[np.bool_]:
    """Return the mask of `count` events that hexadecimal `text` holds, eight events a byte."""
    packed = bytes.fromhex(text)
    mask = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
    if len(packed) != -(-count // 8) or mask[count:].any():
        raise ValueError(f"a mask that is not over {count} events")
    return mask[:count].astype(np.bool_)
