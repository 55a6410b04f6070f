"""LiDAR: point clouds as points, as range images, and as a scan by angle.

Clouds are `.ply` files, or `.mat` files with one array of points: x, y, z, and intensity if any.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers.base import Array, BadFileError, finite, read_mat
from sheafalign_fl.data.readers.ply import read_ply


def read_cloud(path: Path) -> Array:
    """Return the points of a `.ply` or `.mat` file, (N, 4) float64: x, y, z (m) and intensity.

    Raises
    ------
    BadFileError
        The file is neither, or holds something else.
    """
    if path.suffix.lower() != ".mat":
        return read_ply(path)
    data = finite(read_mat(path, None, 2).astype(np.float64), "coordinates")
    if data.shape[1] == 2 or data.shape[0] == 2:
        raise BadFileError("is a scan of ranges and angles; its modality is lidar-scan")
    if data.shape[1] not in (3, 4):
        raise BadFileError(f"has shape {data.shape}; it must be points, of x, y, z (intensity)")
    return np.pad(data, ((0, 0), (0, 4 - data.shape[1])))


@dataclass(frozen=True)
class CloudPoints:
    """A fixed number of points of a cloud, (4, points): x, y, z in metres, intensity from 0 to 1.

    Points are taken at even steps through the file, which is in the order of the scan, so they
    cover all of it; a cloud with fewer repeats some.
    """

    points: int = 256
    brightest: float = 65535.0
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one `.ply` or `.mat` file."""
        cloud = read_cloud(files[0])
        return even_points(cloud * np.array([1.0, 1.0, 1.0, 1.0 / self.brightest]), self.points)


def even_points(cloud: Array, count: int) -> NDArray[np.float32]:
    """Return `count` points of `cloud` (N, F) at even steps, (F, count).

    Raises
    ------
    BadFileError
        The cloud has no points.
    """
    if len(cloud) == 0:
        raise BadFileError("holds no points")
    rows = np.arange(count) * len(cloud) // count
    return np.ascontiguousarray(cloud[rows].T, dtype=np.float32)


@dataclass(frozen=True)
class RangeImage:
    """A cloud seen from its sensor, (2, rows, columns): the nearest point's range (m), intensity.

    Columns are azimuths over the whole turn from -pi to pi (atan2(y, x)), rows are elevations from
    high to low. Where nothing was hit the range is 0.
    """

    rows: int = 16
    columns: int = 128
    highest: float = 22.5
    lowest: float = -22.5
    brightest: float = 65535.0
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one `.ply` or `.mat` file."""
        cloud = read_cloud(files[0])
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


SCAN_SPAN = (-2.0941, 1.5621)
"""Angles (rad) of the first and the last return of DeepSense 6G's scanner, which has 216."""
_RETURNS = 216
_WHOLE_TURN = 2 * np.pi * (1 - 1 / _RETURNS)


@dataclass(frozen=True)
class AngleScan:
    """A horizontal scan, (1, angles): the range (m) at each of `angles` even steps; 0: no return.

    The file is a `.mat` with a row (or a column) for each return: range (m) and angle (rad). Each
    return goes to the step nearest to its angle, the nearest range first where there are several.
    """

    angles: int = _RETURNS
    first: float = SCAN_SPAN[0]
    last: float = SCAN_SPAN[1]
    """Angles of the first and the last step (rad)."""
    version: int = 2

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one `.mat` file."""
        distance, angle = read_scan(files[0])
        beside = (2 * np.pi - (self.last - self.first)) / 2  # angles may go on after a whole turn
        angle = self.first - beside + (angle - self.first + beside) % (2 * np.pi)
        place = (angle - self.first) / (self.last - self.first) * (self.angles - 1)
        if ((place < -_BESIDE) | (place > self.angles - 1 + _BESIDE)).any():
            raise BadFileError(
                f"has angles from {angle.min():.4f} to {angle.max():.4f} rad, but the scanner's "
                f"are from {self.first:.4f} to {self.last:.4f}"
            )
        step = np.clip(np.round(place), 0, self.angles - 1).astype(np.int64)
        hit = distance > 0
        nearest = np.full(self.angles, np.inf)
        np.minimum.at(nearest, step[hit], distance[hit])
        return np.where(np.isfinite(nearest), nearest, 0.0).astype(np.float32)[None]


_BESIDE = 2.0
"""Steps that an angle may lie beyond the ends."""


def read_scan(path: Path) -> tuple[Array, Array]:
    """Return ranges (m) and angles (rad) of all returns of a scan, also of those without range.

    Raises
    ------
    BadFileError
        The file is no `.mat` file of returns.
    """
    data = finite(read_mat(path, None, 2).astype(np.float64), "values")
    if data.shape[1] != 2 and data.shape[0] == 2:
        data = data.T
    if data.shape[1] != 2:
        raise BadFileError(
            f"data has shape {data.shape}; it must have two columns, range and angle"
        )
    return data[:, 0], data[:, 1]


def scan_span(paths: Iterable[Path]) -> tuple[float, float]:
    """Return the angles of a scanner's first and last return (rad), as some of its scans say.

    DeepSense 6G's own where they cover most of these and nothing else; so a few scans whose outer
    returns are absent do not shift all others.
    """
    ends: list[float] = []
    for path in paths:
        try:
            _, angle = read_scan(path)
        except BadFileError:  # said by whoever reads all of them
            continue
        ends += [float(angle.min()), float(angle.max())]
    if not ends or min(ends) == max(ends):
        return SCAN_SPAN
    first, last = round(min(ends), 4), round(max(ends), 4)
    if last - first > _WHOLE_TURN:
        return -np.pi, _WHOLE_TURN - np.pi
    low, high = SCAN_SPAN
    inside = low - 1e-3 <= first and last <= high + 1e-3
    return SCAN_SPAN if inside and last - first > 0.9 * (high - low) else (first, last)
