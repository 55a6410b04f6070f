"""Small data sets in MNIST's files, written by the tests themselves."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
TRAIN, TEST = 90, 60
CLASSES = 10


def idx(array: Pixels) -> bytes:
    """Return `array` in the IDX format, spelled out from its definition."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(
        struct.pack(">I", size) for size in array.shape
    )
    return header + array.tobytes()


def made(seed: int = 0, train: int = TRAIN, test: int = TEST) -> dict[str, Pixels]:
    """Return file name -> content: images of noise, so that no two are alike, and labels."""
    generator = np.random.default_rng(seed)
    return {
        "train-images-idx3-ubyte": generator.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": generator.integers(0, CLASSES, train, dtype=np.uint8),
        "t10k-images-idx3-ubyte": generator.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": generator.integers(0, CLASSES, test, dtype=np.uint8),
    }


def write(folder: Path, files: dict[str, Pixels], *, gzipped: bool) -> Path:
    """Write `files` into `folder`, plain or gzipped as Debian has them; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in files.items():
        content = idx(array)
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder
