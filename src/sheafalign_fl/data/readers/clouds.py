"""LiDAR: point clouds as points, as range images, and as a scan by angle."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers.base import Array, BadFileError, finite, read_bytes, read_mat

_PLY_TYPES = {"char", "uchar", "short", "ushort", "int", "uint", "float", "double"} | {
    f"{kind}{bits}"
    for kind, sizes in (("int", (8, 16, 32)), ("uint", (8, 16, 32)), ("float", (32, 64)))
    for bits in sizes
}


def read_ply(path: Path) -> Array:
    """Return the points of an ASCII `.ply`, (N, 4) float64: x, y, z in metres and intensity (0 if it has none).

    Raises
    ------
    BadFileError
        The file is no ASCII PLY file of vertices with x, y and z, or is shorter or longer than its header says.
    """
    head, separator, body = read_bytes(path).partition(b"end_header")
    names, count = _ply_header(head.decode("ascii", "replace").split("\n"), ended=bool(separator))
    try:
        values = np.array(body.split(), dtype=np.float64)
    except ValueError:
        raise BadFileError("holds something else than numbers after its header") from None
    if len(values) != count * len(names):
        raise BadFileError(
            f"holds {len(values)} numbers but its header says {count} points of {len(names)}"
        )
    table = values.reshape(count, len(names))
    intensity = table[:, names.index("intensity")] if "intensity" in names else np.zeros(count)
    points = np.stack([*(table[:, names.index(axis)] for axis in "xyz"), intensity], axis=1)
    return finite(points, "coordinates")


def _ply_header(lines: list[str], *, ended: bool) -> tuple[list[str], int]:
    """Return the names of the properties of a point, and the number of points."""
    words = [line.split() for line in lines if line.strip()]
    if not ended or not words or words[0] != ["ply"]:
        raise BadFileError("is no .ply file")
    if ["format", "ascii", "1.0"] not in words:
        raise BadFileError("is a binary .ply file; only ASCII ones are read")
    elements = [entry for entry in words if entry[0] == "element"]
    if (
        len(elements) != 1
        or len(elements[0]) != 3
        or elements[0][1] != "vertex"
        or not elements[0][2].isdigit()
    ):
        raise BadFileError("must have the one element 'vertex'")
    properties = [entry for entry in words if entry[0] == "property"]
    if any(len(entry) != 3 or entry[1] not in _PLY_TYPES for entry in properties):
        raise BadFileError("has properties that are no single numbers")
    names = [entry[2] for entry in properties]
    if not {"x", "y", "z"} <= set(names):
        raise BadFileError(f"has no x, y and z; it has {', '.join(names) or 'no properties'}")
    return names, int(elements[0][2])


@dataclass(frozen=True)
class CloudPoints:
    """A fixed number of points of a cloud, (4, points): x, y, z in metres, intensity from 0 to 1.

    Points are taken at even steps through the file, which is in the order of the scan, so they cover all of it; a cloud
    with fewer repeats some.
    """

    points: int = 256
    brightest: float = 65535.0
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one ASCII `.ply` file."""
        cloud = read_ply(files[0])
        return even_points(cloud * np.array([1.0, 1.0, 1.0, 1.0 / self.brightest]), self.points)


def even_points(cloud: Array, count: int) -> NDArray[np.float32]:
    """Return `count` points of `cloud` (N, F) at even steps, (F, count); raise `BadFileError` if there are none."""
    if len(cloud) == 0:
        raise BadFileError("holds no points")
    rows = np.arange(count) * len(cloud) // count
    return np.ascontiguousarray(cloud[rows].T, dtype=np.float32)


@dataclass(frozen=True)
class RangeImage:
    """A cloud seen from its sensor, (2, rows, columns): range of the nearest point in metres, and its intensity.

    Columns are azimuths over the whole turn from -pi to pi (atan2(y, x)), rows are elevations from high to low. Where
    nothing was hit the range is 0.
    """

    rows: int = 16
    columns: int = 128
    highest: float = 22.5
    lowest: float = -22.5
    brightest: float = 65535.0
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one ASCII `.ply` file."""
        cloud = read_ply(files[0])
        distance = np.linalg.norm(cloud[:, :3], axis=1)
        cloud, distance = cloud[distance > 0], distance[distance > 0]
        azimuth = np.arctan2(cloud[:, 1], cloud[:, 0])
        elevation = np.degrees(np.arcsin(cloud[:, 2] / distance))
        column = (
            np.floor((azimuth + np.pi) / (2 * np.pi) * self.columns).astype(np.int64) % self.columns
        )
        row = np.floor(
            (self.highest - elevation) / (self.highest - self.lowest) * self.rows
        ).astype(np.int64)
        row = np.clip(row, 0, self.rows - 1)  # what is above or below belongs to the outermost ring
        image = np.zeros((2, self.rows, self.columns), dtype=np.float32)
        far_to_near = np.argsort(-distance, kind="stable")  # the nearest point is written last
        row, column = row[far_to_near], column[far_to_near]
        image[0, row, column] = distance[far_to_near]
        image[1, row, column] = cloud[far_to_near, 3] / self.brightest
        return image


@dataclass(frozen=True)
class AngleScan:
    """A horizontal scan, (1, angles): the nearest range in each of `angles` equal parts of a turn, in metres; 0: none.

    The file is a `.mat` whose array `data` has one row for each return: range (m) and angle (rad).
    """

    angles: int = 216
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one `.mat` file."""
        data = finite(read_mat(files[0], "data", 2).astype(np.float64), "values")
        if data.shape[1] != 2:
            raise BadFileError(
                f"data has shape {data.shape}; it must have two columns, range and angle"
            )
        distance, angle = data[data[:, 0] > 0].T
        cell = np.floor((angle + np.pi) / (2 * np.pi) * self.angles).astype(np.int64) % self.angles
        nearest = np.full(self.angles, np.inf)
        np.minimum.at(nearest, cell, distance)
        return np.where(np.isfinite(nearest), nearest, 0.0).astype(np.float32)[None]
