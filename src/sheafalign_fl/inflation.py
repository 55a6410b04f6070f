"""Compressed data from a peer, which is not believed about its size."""

import zlib


def inflate(data: bytes, most: int) -> bytes:
    """Return zlib's `data` uncompressed; raise `ValueError` if it is damaged or above `most` bytes.

    No more memory is taken than that.
    """
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, most)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof:
        more = "is cut short" if len(found) < most else f"is larger than {most} bytes"
        raise ValueError(f"compressed data that {more}")
    return found
