"""Radio links and positions: beam power, Wi-Fi CSI, GPS."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers.base import (
    Array,
    BadFileError,
    Mended,
    finite,
    read_mat,
    read_npy,
    read_text,
)

_EARTH_RADIUS = 6_371_008.8
_FAINTEST = 1e-12


@dataclass(frozen=True)
class BeamPower:
    """Received power of every beam, (beams,), dB, from linear power in a text, `.npy` or `.mat`."""

    beams: int = 64
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32]:
        """Read one file; sweeps with NaN are a known fault of DeepSense 6G."""
        power = read_sweep(files[0])
        if len(power) != self.beams:
            raise BadFileError(
                f"has {len(power)} powers; it must have {self.beams}, one for each beam"
            )
        return self.decibels(power)

    def decibels(self, power: Array) -> NDArray[np.float32]:
        """Return one sweep (beams,) of linear power in dB; raise `BadFileError` if it has none."""
        missing = int(np.isnan(power).sum())
        if missing:
            raise BadFileError(f"has no power (NaN) in {missing} of {self.beams} beams", known=True)
        if not np.isfinite(power).all() or (power < 0).any():
            raise BadFileError("holds powers that are negative or infinite")
        return (10 * np.log10(np.maximum(power, _FAINTEST))).astype(np.float32)


def read_sweep(path: Path) -> Array:
    """Return the powers of one sweep (beams,) as its file has them; raise `BadFileError`."""
    ending = path.suffix.lower()
    if ending == ".npy":
        values = read_npy(path, None)
    elif ending == ".mat":
        values = read_mat(path, None, 2)
    else:
        return _numbers(path)
    if values.size != max(values.shape):
        raise BadFileError(f"has shape {values.shape}; it must be the powers of one sweep")
    return np.asarray(values.ravel(), dtype=np.float64)


@dataclass(frozen=True)
class Position:
    """The user's position, (2,): metres to the east and to the north of the unit.

    Files: the user's and the unit's; without the latter, metres from the whole degrees below, which
    float32 holds to a centimetre.
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
    """A Wi-Fi channel, (links, subcarriers, samples): its amplitudes, in the file's own unit.

    The file is a `.mat` whose array `CSIamp` has this shape. Infinite and missing values, a known
    fault of MM-Fi, are interpolated along the subcarriers; a frame with more than a fifth of them
    is left out. With `phase` the phases (`CSIphase`, radians) follow as further links, see `level`.
    """

    links: int = 3
    subcarriers: int = 114
    samples: int = 10
    phase: bool = False
    version: int = 1

    def __call__(self, *files: Path) -> NDArray[np.float32] | Mended:
        """Read one `.mat` file."""
        amplitude, bad = self._array(files[0], "CSIamp", "amplitudes")
        if not self.phase:
            result = finite(amplitude, "amplitudes").astype(np.float32)
            return Mended(result, "NaN and infinite amplitudes interpolated") if bad else result
        phase, bad_phase = self._array(files[0], "CSIphase", "phases")
        both = np.concatenate([amplitude, level(phase)])
        result = finite(both, "amplitudes and phases").astype(np.float32)
        if bad or bad_phase:
            return Mended(result, "NaN and infinite amplitudes or phases interpolated")
        return result

    def _array(self, path: Path, key: str, what: str) -> tuple[Array, bool]:
        """Return a whole array, and whether some of it had to be interpolated."""
        values = read_mat(path, key, 3).astype(np.float64)
        wanted = (self.links, self.subcarriers, self.samples)
        if values.shape != wanted:
            raise BadFileError(f"{key} has shape {values.shape}; it must be {wanted}")
        bad = ~np.isfinite(values)
        if bad.mean() > 0.2:
            raise BadFileError(f"has NaN or infinity in {bad.mean():.0%} of its {what}", known=True)
        return (interpolated(values, bad), True) if bad.any() else (values, False)


def level(phase: Array) -> Array:
    """Return `phase` (L, S, T) in radians, unwrapped along S, without its mean and its slope there.

    A receiver's clocks add an offset and a slope over the subcarriers that change with every
    packet (Sen et al., "You are facing the Mona Lisa", MobiSys 2012); what is left is the channel.
    """
    whole = np.unwrap(phase, axis=1)
    place = np.arange(phase.shape[1], dtype=np.float64)[None, :, None]
    place = (place - place.mean()) / max(float(place.std()), 1e-9)
    centred = whole - whole.mean(axis=1, keepdims=True)
    slope = (centred * place).mean(axis=1, keepdims=True)
    return np.asarray(centred - slope * place, dtype=np.float64)


def interpolated(values: Array, bad: NDArray[np.bool_]) -> Array:
    """Return `values` (L, S, T) with `bad` ones interpolated linearly along S.

    Where all of S is bad, they become the median of what is not bad.
    """
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
