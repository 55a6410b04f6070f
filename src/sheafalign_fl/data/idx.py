"""The IDX format of MNIST and Fashion-MNIST: unsigned bytes of any shape, plain or gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError

_UNSIGNED_BYTE = 0x08


def read_idx(folder: Path, name: str, axes: int) -> NDArray[np.uint8]:
    """Return the array in `folder`/`name` or `folder`/`name`.gz, which has to have `axes` axes.

    Raises
    ------
    DataError
        The file is absent, cannot be read, or is no IDX file of unsigned bytes with that many axes.
    """
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise DataError(f"{folder} lacks the file {name} (or {name}.gz)")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    start = 4 + 4 * axes
    if (
        len(content) < start
        or content[:2] != b"\0\0"
        or content[2] != _UNSIGNED_BYTE
        or content[3] != axes
    ):
        raise DataError(f"{path} is no IDX file of unsigned bytes with {axes} axes")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if len(content) != start + math.prod(shape):
        raise DataError(
            f"{path} should hold {math.prod(shape)} values after its header; "
            f"it has {len(content) - start}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
