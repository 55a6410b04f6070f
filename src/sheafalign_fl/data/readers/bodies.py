"""People: keypoints, skeletons, inertial and depth recordings, radar and LiDAR points of a body."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers.base import (
    Array,
    BadFileError,
    finite,
    read_bytes,
    read_mat,
    read_npy,
)
from sheafalign_fl.data.readers.clouds import even_points
from sheafalign_fl.data.readers.pictures import shrunk_depth

_SMALLEST, _LARGEST = 1e-30, 1e9
"""Of what a sensor's binary file can hold, beside 0: metres, metres a second, intensities."""


@dataclass(frozen=True)
class BinaryPoints:
    """A fixed number of points of a binary cloud, (columns, points).

    The file is float64, `columns` numbers for each point. An empty file is a frame in which nothing
    was detected: all points are zero.
    """

    columns: int
    points: int
    version: int = 2

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one `.bin` file."""
        content = read_bytes(files[0])
        if len(content) % (8 * self.columns):
            raise BadFileError(
                f"has {len(content)} bytes; it must be float64, "
                f"{self.columns} numbers for each point"
            )
        if not content:
            return np.zeros((self.columns, self.points), dtype=np.float32)
        cloud = finite(np.frombuffer(content, dtype="<f8").reshape(-1, self.columns), "values")
        size = np.abs(cloud[cloud != 0])
        if (
            size.max(initial=0.0) > _LARGEST or size.min(initial=1.0) < _SMALLEST
        ):  # text, or another order of bytes
            raise BadFileError(
                "holds numbers that nothing measures; it must be little-endian float64"
            )
        return even_points(cloud, self.points)


@dataclass(frozen=True)
class Keypoints:
    """Body keypoints in a picture, (2, joints): pixels from their centre, divided by their size.

    So the values do not depend on where a person stands, nor on the camera's resolution. The file
    is an `.npy` of shape (joints, 2 or more): columns after the second (confidence) are not used.
    """

    joints: int = 17
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one `.npy` file."""
        values = read_npy(files[0], 2)
        if values.shape[0] != self.joints or values.shape[1] < 2:
            raise BadFileError(f"it has shape {values.shape}; it must be ({self.joints}, 2)")
        return centred(finite(values[:, :2].astype(np.float64), "coordinates").T)


def centred(body: Array) -> NDArray[np.float32]:
    """Return `body` (D, J, ...) from its joints' mean, in units of their RMS distance from it."""
    offset = body - body.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(offset).sum(axis=0).mean())
    return np.asarray(offset / max(size, 1e-9), dtype=np.float32)


@dataclass(frozen=True)
class InertialRecording:
    """A whole recording, (6, samples), at even steps in time.

    Rows are acceleration (g) and angular velocity (degrees/s).
    """

    samples: int = 128
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read `d_iner` (T, 6) of one `.mat` file."""
        values = finite(read_mat(files[0], "d_iner", 2).astype(np.float64), "samples")
        if values.shape[1] != 6 or len(values) < 2:
            raise BadFileError(
                f"d_iner has shape {values.shape}; it must be samples (2 or more), 6 channels"
            )
        return resampled(values.T, self.samples)


@dataclass(frozen=True)
class SkeletonRecording:
    """A whole recording, (3, joints, frames), at even steps in time.

    Joints are measured from their mean, in units of the skeleton's size.
    """

    frames: int = 48
    joints: int = 20
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read `d_skel` (20, 3, T) of one `.mat` file."""
        values = finite(read_mat(files[0], "d_skel", 3).astype(np.float64), "coordinates")
        if values.shape[:2] != (self.joints, 3):
            raise BadFileError(
                f"d_skel has shape {values.shape}; it must be {self.joints} joints, 3, frames"
            )
        body = np.moveaxis(values, 1, 0)
        centre = body.mean(
            axis=(1, 2), keepdims=True
        )  # of the whole recording: steps and jumps stay in it
        size = np.sqrt(np.square(body - body.mean(axis=1, keepdims=True)).sum(axis=0).mean())
        return resampled((body - centre) / max(float(size), 1e-9), self.frames)


@dataclass(frozen=True)
class DepthRecording:
    """A whole recording, (frames, height, width) in metres, its frames at even steps in time.

    Where nothing was measured it is 0.
    """

    frames: int = 8
    height: int = 48
    width: int = 64
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read `d_depth` (240, 320, T) of one `.mat` file, in millimetres."""
        values = read_mat(files[0], "d_depth", 3)
        chosen = np.arange(self.frames) * (values.shape[2] - 1) // max(self.frames - 1, 1)
        frames = [
            finite(values[:, :, index].astype(np.float64), "pixels") / 1000.0 for index in chosen
        ]
        return np.stack([shrunk_depth(frame, self.height, self.width) for frame in frames])


def resampled(values: Array, count: int) -> NDArray[np.float32]:
    """Return `values` (..., T) at `count` even steps from end to end, linearly interpolated."""
    length = values.shape[-1]
    place = np.linspace(0.0, length - 1.0, count)
    below = np.minimum(place.astype(np.int64), max(length - 2, 0))
    share = place - below
    above = np.minimum(below + 1, length - 1)
    mixed = values[..., below] * (1 - share) + values[..., above] * share
    return np.asarray(mixed, dtype=np.float32)
