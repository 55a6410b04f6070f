"""FMCW radar: range-angle and range-Doppler maps from raw samples."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers.base import Array, BadFileError, read_mat, read_npy


@dataclass(frozen=True)
class RadarMaps:
    """Two maps of a cube of raw samples, (2, ranges, bins): range-angle and -Doppler; dB, median 0.

    The cube is (antennas, samples, chirps) complex. A transform along the samples gives range,
    along the chirps radial speed, along the antennas the sine of the angle. The mean over chirps is
    kept: it is what stands still.
    """

    ranges: int = 64
    bins: int = 64
    version: int = 2

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one `.npy` or `.mat` file."""
        if files[0].suffix.lower() == ".mat":
            cube = read_mat(files[0], None, 3, kinds="c")
        else:
            cube = read_npy(files[0], 3, kinds="c")
        if cube.shape[0] > cube.shape[1] or cube.shape[0] < 2:
            raise BadFileError(
                f"it has shape {cube.shape}; it must be antennas (2 or more), samples, chirps"
            )
        if not np.isfinite(cube).all():
            raise BadFileError("holds NaN or infinity")
        return maps(cube, self.ranges, self.bins)


def maps(cube: Array, ranges: int, bins: int) -> NDArray[np.float32]:
    """Return range-angle and range-Doppler maps of `cube`, (2, ranges, bins), dB.

    `cube` is (antennas, samples, chirps). Angles are summed over all chirps, Dopplers over all
    antennas. Chirps are made fewer by summing neighbours of the Doppler spectrum's power, so that
    no target falls between two bins.
    """
    _, samples, chirps = cube.shape
    peak = float(max(np.abs(cube.real).max(), np.abs(cube.imag).max()))
    cube = cube / (
        peak or 1.0
    )  # the square of a large single-precision number is infinite, of a small one 0
    window = _hann(samples)[None, :, None] * _hann(chirps)[None, None, :]
    along = np.fft.fft(cube * window, axis=1)[:, : min(ranges, samples)]
    doppler = np.square(np.abs(np.fft.fftshift(np.fft.fft(along, axis=2), axes=2))).sum(axis=0)
    angle = (
        np.square(np.abs(np.fft.fftshift(np.fft.fft(along, n=bins, axis=0), axes=0))).sum(axis=2).T
    )
    missing = ((0, ranges - len(doppler)), (0, 0))  # ranges past the last are noise
    return np.stack(
        [np.pad(_decibels(_fitted(power, bins)), missing) for power in (angle, doppler)]
    )


def _fitted(power: Array, bins: int) -> Array:
    """Return `power` (R, B) at (R, bins): neighbouring bins summed or repeated."""
    if power.shape[1] > bins:
        edges = np.arange(bins) * power.shape[1] // bins
        power = np.add.reduceat(power, edges, axis=1)
    elif power.shape[1] < bins:
        power = power[:, np.arange(bins) * power.shape[1] // bins]
    return power


def _decibels(power: Array) -> NDArray[np.float32]:
    # The median is noise nearly always: relative to it maps do not depend on the receiver's gain.
    floor = max(float(np.median(power)), 1e-30)
    return (10 * np.log10(np.maximum(power / floor, 1e-3))).astype(np.float32)


@lru_cache(maxsize=8)
def _hann(length: int) -> NDArray[np.float32]:
    return np.hanning(length + 2)[1:-1].astype(np.float32)
