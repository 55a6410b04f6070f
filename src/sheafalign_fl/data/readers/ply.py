"""PLY files of points: ASCII, and binary of either order of bytes."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sheafalign_fl.data.readers.base import Array, BadFileError, finite, read_bytes

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_INTENSITY = ("intensity", "scalar_intensity", "reflectivity", "reflectance")
"""What programs call how bright a point is; the first that a file has."""
_END = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class _Header:
    order: str
    """Of the bytes, as NumPy writes it; empty: ASCII."""
    count: int
    """Of points."""
    names: tuple[str, ...]
    """Of a point's properties, in lower case."""
    kinds: tuple[str, ...]
    """Of the same, as NumPy writes them."""
    more: bool
    """Other elements, such as faces, follow the points."""


def read_ply(path: Path) -> Array:
    """Return the points of a `.ply`, (N, 4) float64: x, y, z and intensity (0 if it has none).

    Raises
    ------
    BadFileError
        The file does not begin with vertices that have x, y and z, or is shorter or longer than its
        header says.
    """
    content = read_bytes(path)
    end = _END.search(content, 0, _LONGEST_HEADER)
    if not content.startswith(b"ply") or end is None:
        raise BadFileError("is no .ply file")
    header = _header(content[: end.start()].decode("ascii", "replace").splitlines())
    read = _binary if header.order else _ascii
    table = read(header, content[end.end() :])
    intensity = next((name for name in _INTENSITY if name in header.names), None)
    points = np.zeros((header.count, 4))
    for column, name in enumerate(("x", "y", "z", intensity)):
        if name is not None:
            points[:, column] = table[:, header.names.index(name)]
    return finite(points, "coordinates")


def _ascii(header: _Header, body: bytes) -> Array:
    width = len(header.names)
    words = body.split()
    if header.more:
        words = words[: header.count * width]
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        raise BadFileError("holds something else than numbers after its header") from None
    if len(values) != header.count * width:
        raise BadFileError(
            f"holds {len(values)} numbers but its header says {header.count} points of {width}"
        )
    return values.reshape(header.count, width)


def _binary(header: _Header, body: bytes) -> Array:
    kind = np.dtype([(f"f{k}", header.order + kind) for k, kind in enumerate(header.kinds)])
    needed = header.count * kind.itemsize
    if len(body) < needed or (len(body) > needed and not header.more):
        raise BadFileError(
            f"holds {len(body)} bytes but its header says {header.count} points of {kind.itemsize}"
        )
    rows = np.frombuffer(body, dtype=kind, count=header.count)
    return np.stack([rows[name].astype(np.float64) for name in kind.names or ()], axis=1)


def _header(lines: list[str]) -> _Header:
    words = [line.split() for line in lines if line.strip()]
    if words[0] != ["ply"]:
        raise BadFileError("is no .ply file")
    orders = [
        entry[1]
        for entry in words
        if entry[0] == "format" and len(entry) == 3 and entry[2] == "1.0" and entry[1] in _ORDERS
    ]
    if len(orders) != 1:
        raise BadFileError(f"must have one format 1.0 of {', '.join(_ORDERS)}")
    elements = [place for place, entry in enumerate(words) if entry[0] == "element"]
    if not elements or words[elements[0]][1:2] != ["vertex"]:
        raise BadFileError("must have the element 'vertex', first")
    count = words[elements[0]][2:]
    if len(count) != 1 or not count[0].isdecimal():
        raise BadFileError("must say how many vertices it has")
    stop = elements[1] if len(elements) > 1 else len(words)
    names, kinds = _properties(words[elements[0] : stop])
    return _Header(_ORDERS[orders[0]], int(count[0]), names, kinds, len(elements) > 1)


def _properties(words: list[list[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names and kinds of the properties of a point."""
    properties = [entry for entry in words if entry[0] == "property"]
    if any(len(entry) != 3 or entry[1] not in _TYPES for entry in properties):
        raise BadFileError("has properties that are no single numbers")
    names = tuple(entry[2].lower() for entry in properties)
    if not {"x", "y", "z"} <= set(names):
        raise BadFileError(f"has no x, y and z; it has {', '.join(names) or 'no properties'}")
    if len(set(names)) != len(names):
        raise BadFileError("has two properties of one name")
    return names, tuple(_TYPES[entry[1]] for entry in properties)
