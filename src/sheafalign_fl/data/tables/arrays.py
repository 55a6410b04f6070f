"""Folders with a file for each event, and sound: from files to the arrays of a recording."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers.base import BadFileError, read_npy
from sheafalign_fl.data.sequences import behind, padded
from sheafalign_fl.errors import DataError
from sheafalign_fl.extras import require

SOUNDS = (".wav", ".flac", ".ogg")
ENDINGS = (".npy", *SOUNDS)
_FRAME, _HOP = 0.025, 0.010
"""Seconds of a frame of a spectrum, and from one to the next."""
BANDS = 64
_FAINTEST = 1e-10


def read_events(folder: Path, files: Sequence[Path]) -> dict[str, NDArray[Any]]:
    """Return the arrays of files that are an event each, in `folder` or in its folders.

    The event's id is the number in the file's name where all names differ in nothing else, or else
    the name. The label is the folder's name where files lie in folders.

    Raises
    ------
    DataError
        A file cannot be read; or files have different shapes, formats or rates.
    """
    endings = sorted({path.suffix.lower() for path in files})
    if len(endings) > 1:
        raise DataError(f"{folder}: holds {' and '.join(endings)} files; one modality has one kind")
    arrays = _stacked(files) if endings == [".npy"] else {"x": _sounds(files)}
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
    arrays["event_id"] = _ids(names)
    parents = [path.parent.name for path in files]
    if all(path.parent != folder for path in files):
        arrays["label"] = np.array(parents)
    return arrays


def read_sound(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return a sound's samples from -1 to 1, the mean of its channels, and its rate in Hz.

    Raises
    ------
    DataError
        The file cannot be read, or the package that reads it is not installed.
    """
    if path.suffix.lower() == ".wav":
        rate, values = _wav(path)
    else:
        rate, values = _other_sound(path)
    if values.size == 0:
        raise DataError(f"{path}: has no samples")
    return (values if values.ndim == 1 else values.mean(axis=1)).astype(np.float32), rate


def spectrum(samples: NDArray[np.float32], rate: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return log power of a sound in bands, (frames, `BANDS`), dB, and frames' middles, seconds.

    Frames are 25 ms, one every 10 ms; bands are even on the mel scale, and each has a bin at least.
    """
    size, hop = max(int(_FRAME * rate), 2), max(int(_HOP * rate), 1)
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    padded = 1 << (max(size, 4 * BANDS) - 1).bit_length()
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size), n=padded, axis=1)))
    mel = np.linspace(0, _mel(rate / 2), BANDS + 1)
    edges = np.round((700 * (10 ** (mel / 2595) - 1)) / (rate / 2) * (power.shape[1] - 1))
    starts = np.minimum(np.maximum(edges[:-1], np.arange(BANDS)), power.shape[1] - 1)
    bands = np.add.reduceat(power, starts.astype(np.int64), axis=1)
    middles = (np.arange(len(frames)) * hop + size / 2) / rate
    return 10 * np.log10(bands + _FAINTEST), middles


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _stacked(files: Sequence[Path]) -> dict[str, NDArray[Any]]:
    """Return x, and length where events are signals (C, T) that differ in T alone."""
    arrays: list[NDArray[Any]] = []
    for path in files:
        try:
            arrays.append(read_npy(path, None))
        except BadFileError as error:
            raise DataError(f"{path}: {error.reason}") from None
        if _differ(arrays[-1].shape, arrays[0].shape):
            raise DataError(
                f"{path}: has shape {arrays[-1].shape}, but {files[0].name} has {arrays[0].shape}; "
                "all events of a modality have one shape"
            )
    if len({array.shape for array in arrays}) == 1:
        return {"x": np.stack(arrays)}
    x = padded(arrays, str(files[0].parent))
    ends = np.array([array.shape[1] for array in arrays])
    return {"x": np.where(behind(ends, x.shape[2])[:, None], 0, x), "length": ends}


def _differ(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Say whether two events differ in more than the length of a signal (C, T)."""
    return one != other and not (len(one) == len(other) == 2 and one[0] == other[0])


def _sounds(files: Sequence[Path]) -> NDArray[np.float32]:
    """Return sounds as (events, 1, samples), the shorter ones with silence at their ends."""
    sounds = []
    first = 0
    for path in files:
        samples, rate = read_sound(path)
        first = first or rate
        if rate != first:
            raise DataError(f"{path}: has {rate} Hz, but {files[0].name} has {first}; use one rate")
        sounds.append(samples)
    x = np.zeros((len(sounds), 1, max(map(len, sounds))), dtype=np.float32)
    for row, samples in enumerate(sounds):
        x[row, 0, : len(samples)] = samples
    return x


def _wav(path: Path) -> tuple[int, NDArray[Any]]:
    require("scipy", "reading .wav files")
    from scipy.io import wavfile

    try:
        rate, values = wavfile.read(path)
    except Exception as error:  # a damaged header leads scipy to a dozen kinds of error
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: is no readable .wav file ({reason})") from None
    if values.dtype.kind == "u":  # 8 bits, whose silence is 128
        return int(rate), (values.astype(np.float64) - 128) / 128
    if values.dtype.kind == "i":
        return int(rate), values / -float(np.iinfo(values.dtype).min)
    return int(rate), values


def _other_sound(path: Path) -> tuple[int, NDArray[Any]]:
    require("soundfile", f"reading {path.suffix.lower()} files")
    import soundfile

    try:
        values, rate = soundfile.read(path)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: is no readable sound ({reason})") from None
    return int(rate), np.asarray(values)


def _ids(names: Sequence[str]) -> NDArray[Any]:
    matches = [re.fullmatch(r"(.*?)(\d{1,18})", name) for name in names]
    if all(matches) and len({match[1] for match in matches if match is not None}) == 1:
        numbers = np.array([int(match[2]) for match in matches if match is not None])
        if len(np.unique(numbers)) == len(numbers):
            return numbers
    return np.array(names)
