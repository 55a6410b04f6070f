"""Event ids and masks over them, and the JSON that they travel in, as bytes for the wire.

A few bytes of JSON can be a large object, and a text that is long makes an array of texts wide: so
the number of its parts is counted before it is parsed, and the array's size before it is made.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONGEST_ID = 256
_MOST_TEXTS = 2**20
"""Of one list of ids; an array of integers may have as many as its bytes hold."""
_MOST_ARRAYS = 2**26
"""Bytes that all lists of one message may take as arrays."""
_MOST_PARTS = 2**17
"""Commas, colons and brackets of a message's JSON, in which all long lists are text."""


def encode_ids(ids: NDArray[Any]) -> bytes:
    """Return event ids as bytes: ``i`` and little-endian int64, or ``U`` and JSON."""
    if ids.dtype.kind == "U":
        return b"U" + json.dumps(ids.tolist()).encode()
    return b"i" + ids.astype("<i8").tobytes()


def decode_ids(data: bytes, most: int = _MOST_ARRAYS) -> NDArray[Any]:
    """Return the ids that `encode_ids` made `data` from.

    Raises
    ------
    ValueError
        They are none, or take more than `most` bytes.
    """
    if data[:1] == b"U":
        if data.count(b",") >= _MOST_TEXTS:
            raise ValueError(f"more than {_MOST_TEXTS} event ids that are text")
        ids = json.loads(data[1:])
        if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
            raise ValueError("event ids that are no list of texts")
        # An array of texts takes the space of its longest for each of them.
        longest = max(map(len, ids), default=0)
        if longest > _LONGEST_ID or 4 * longest * len(ids) > most:
            raise ValueError(
                f"{len(ids)} event ids of up to {longest} characters; one may have {_LONGEST_ID}, "
                f"and together they may take {most} bytes"
            )
        return np.array(ids, dtype=np.str_)
    if data[:1] != b"i" or len(data) - 1 > most:
        raise ValueError(f"{len(data)} bytes that are no event ids, or too many")
    return np.frombuffer(data[1:], dtype="<i8").astype(np.int64)


def decode_lists(lists: Mapping[Any, str]) -> dict[Any, NDArray[Any]]:
    """Return name -> ids out of hexadecimal texts, which together take no more than is allowed."""
    found: dict[str, NDArray[Any]] = {}
    room = _MOST_ARRAYS
    for name, text in lists.items():
        found[name] = decode_ids(bytes.fromhex(text), room)
        room -= found[name].nbytes
    return found


def counted(data: bytes) -> bytes:
    """Return a peer's JSON as it is; raise `ValueError` if it is of more parts than is allowed."""
    if sum(data.count(mark) for mark in (b",", b":", b"[", b"{")) > _MOST_PARTS:
        raise ValueError(f"JSON of more than {_MOST_PARTS} parts")
    return data


def unpack_mask(text: str, count: int) -> NDArray[np.bool_]:
    """Return the mask of `count` events that hexadecimal `text` holds, eight events a byte."""
    packed = bytes.fromhex(text)
    mask = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
    if len(packed) != -(-count // 8) or mask[count:].any():
        raise ValueError(f"a mask that is not over {count} events")
    return mask[:count].astype(np.bool_)
