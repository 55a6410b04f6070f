"""Radio links and positions: beam power, Wi-Fi CSI, GPS."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers.base import Array, BadFileError, Mended, finite, read_mat, read_text

_EARTH_RADIUS = 6_371_008.8
_FAINTEST = 1e-12


@dataclass(frozen=True)
class BeamPower:
    """Received power of every beam, (beams,), in dB; the file has one linear power a line."""

    beams: int = 64
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one text file; sweeps with NaN are a known fault of DeepSense 6G."""
        power = _numbers(files[0])
        if len(power) != self.beams:
            raise BadFileError(
                f"has {len(power)} lines; it must have {self.beams}, one for each beam"
            )
        missing = int(np.isnan(power).sum())
        if missing:
            raise BadFileError(f"has no power (NaN) in {missing} of {self.beams} beams", known=True)
        if not np.isfinite(power).all() or (power < 0).any():
            raise BadFileError("holds powers that are negative or infinite")
        return (10 * np.log10(np.maximum(power, _FAINTEST))).astype(np.float32)


@dataclass(frozen=True)
class Position:
    """The user's position, (2,): metres to the east and to the north of the unit.

    Files: the user's and the unit's; without the latter, metres from the whole degrees below, which float32 holds to a
    centimetre.
    """

    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read text files with latitude and longitude in degrees."""
        latitude, longitude = _coordinates(files[0])
        origin, meridian = (
            _coordinates(files[1]) if len(files) > 1 else (np.floor(latitude), np.floor(longitude))
        )
        north = np.radians(latitude - origin) * _EARTH_RADIUS
        east = (
            np.radians((longitude - meridian + 180) % 360 - 180)
            * _EARTH_RADIUS
            * np.cos(np.radians(origin))
        )
        return np.array([east, north], dtype=np.float32)


@dataclass(frozen=True)
class ChannelState:
    """Amplitudes of a Wi-Fi channel, (links, subcarriers, samples), in the file's own unit.

    The file is a `.mat` whose array `CSIamp` has this shape. Infinite and missing amplitudes, a known fault of MM-Fi,
    are interpolated along the subcarriers; a frame with more than a fifth of them is left out.
    """

    links: int = 3
    subcarriers: int = 114
    samples: int = 10
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32] | Mended:
        """Read one `.mat` file."""
        amplitude = read_mat(files[0], "CSIamp", 3).astype(np.float64)
        wanted = (self.links, self.subcarriers, self.samples)
        if amplitude.shape != wanted:
            raise BadFileError(f"CSIamp has shape {amplitude.shape}; it must be {wanted}")
        bad = ~np.isfinite(amplitude)
        if bad.mean() > 0.2:
            raise BadFileError(
                f"has NaN or infinity in {bad.mean():.0%} of its amplitudes", known=True
            )
        whole = interpolated(amplitude, bad) if bad.any() else amplitude
        result = finite(whole, "amplitudes").astype(np.float32)
        return Mended(result, "NaN and infinite amplitudes interpolated") if bad.any() else result


def interpolated(values: Array, bad: NDArray[np.bool_]) -> Array:
    """Return `values` (L, S, T) with `bad` ones replaced: linearly along S, or by the median where all of S is bad."""
    result = values.copy()
    median = float(np.median(values[~bad]))
    places = np.arange(values.shape[1])
    for link, sample in np.argwhere(bad.any(axis=1)):
        missing = bad[link, :, sample]
        line = values[link, :, sample]
        good = ~missing
        result[link, missing, sample] = (
            np.interp(places[missing], places[good], line[good]) if good.any() else median
        )
    return result


def _numbers(path: Path) -> Array:
    try:
        return np.array(read_text(path).split(), dtype=np.float64)
    except ValueError:
        raise BadFileError("holds something else than numbers") from None


def _coordinates(path: Path) -> tuple[float, float]:
    try:
        values = _numbers(path)
    except BadFileError as error:
        raise BadFileError(error.reason, file=path) from None
    if (
        len(values) != 2
        or not np.isfinite(values).all()
        or abs(values[0]) > 90
        or abs(values[1]) > 360
    ):
        raise BadFileError("must hold two lines: latitude and longitude in degrees", file=path)
    return float(values[0]), float(values[1])
