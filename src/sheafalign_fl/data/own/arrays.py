"""The arrays of one modality's file: which there may be, and their values."""

import difflib
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.npz_file import check_values, read_arrays, read_if_there
from sheafalign_fl.data.tables.recordings import Recording, find_recordings, read_recording
from sheafalign_fl.errors import DataError
from sheafalign_fl.listing import listed

KNOWN = ("x", "event_id", "time", "sequence", "length", "split", "label")
_MEANT = {
    "x": ("X", "data", "values", "signal", "samples", "features", "inputs", "images"),
    "event_id": ("id", "ids", "event", "events", "event_ids", "index", "frame"),
    "time": ("t", "times", "timestamp", "timestamps", "stamp", "seconds", "date", "datetime"),
    "sequence": ("sequences", "seq", "session", "sessions", "recording", "subject", "group"),
    "length": ("lengths", "len", "samples_of", "duration"),
    "split": ("splits", "fold", "set", "subset", "partition"),
    "label": ("labels", "y", "Y", "target", "targets", "class", "classes", "annotation"),
}
"""Array -> what people call it."""
_PRIVATE = "_"
_OFTEN, _FAR, _LARGE = 3, 10.0, 99.0


def read_modality(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a modality's file by name, without those whose names begin with _.

    Raises
    ------
    DataError
        The file cannot be read, has no `x`, or has an array that means nothing here.
    """
    arrays = read_arrays(path, ())
    check_names(arrays, path)
    if "x" not in arrays:
        raise DataError(f"{path}: lacks the array 'x'; it has {', '.join(arrays) or 'nothing'}")
    return {name: values for name, values in arrays.items() if not name.startswith(_PRIVATE)}


def present(folder: Path) -> list[str]:
    """Return the modalities that a folder has, sorted."""
    return sorted({*_files(folder)} | {*find_recordings(folder)})


def file_of(folder: Path, modality: str) -> Path:
    """Return where the `.npz` of a modality is, or would be.

    A name is the same however its accents are coded (a Mac's file names have them apart), and
    whether its file ends in .npz or .NPZ.
    """
    path = folder / f"{modality}.npz"
    return path if path.is_file() else _files(folder).get(one_form(modality), path)


def _files(folder: Path) -> dict[str, Path]:
    """Return the `.npz` files of a folder by name; links that lead nowhere are none."""
    found = (path for path in listed(folder) if path.suffix.lower() == ".npz" and path.is_file())
    return {one_form(path.stem): path for path in found}


def one_form(name: str) -> str:
    """Return a modality's name in the one way of coding its accents that names are compared in."""
    return unicodedata.normalize("NFC", name)


def recording_of(folder: Path, modality: str) -> Recording:
    """Return a modality that is `present`: its `.npz` file, or else what stands for one.

    Raises
    ------
    DataError
        Its files cannot be read, or are not as they should be.
    """
    path = file_of(folder, modality)
    if path.is_file():
        return Recording(path, read_modality(path))
    return read_recording(folder, modality)


def array_of(folder: Path, modality: str, name: str) -> NDArray[Any] | None:
    """Return one array of a modality; None where it is absent or cannot be read."""
    path = file_of(folder, modality)
    if path.is_file():
        return read_if_there(path, name)
    try:
        return read_recording(folder, modality).arrays.get(name)
    except DataError:  # said to its own client
        return None


def check_names(names: Iterable[str], path: Path) -> None:
    """Raise `DataError` for the first array that means nothing here, with what may be meant."""
    for name in names:
        if name in KNOWN or is_label(name) or name.startswith(_PRIVATE):
            continue
        raise DataError(
            f"{path}: unknown array '{name}'; {_suggestion(name)} An array of your own that is not"
            f" to be used needs a name that begins with {_PRIVATE}"
        )


def is_label(name: str) -> bool:
    """Return whether an array of this name holds labels."""
    return name == "label" or (name.startswith("label_") and name != "label_")


def numbers(x: NDArray[Any], path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return x as float32 or, where that would lose digits, float64, and which samples are finite.

    Scaling comes before the step to float32: of a latitude in degrees, of pressure in pascals or
    of a counter float32 keeps little of what varies.
    """
    values = check_values(x, path)
    if not values.size:
        what = "there are no events" if not len(x) else f"an event of x has no numbers ({x.shape})"
        raise DataError(f"{path}: {what}")
    with np.errstate(invalid="ignore"):
        fits = np.abs(values) <= np.finfo(np.float32).max
    return values, fits.reshape(len(values), -1).all(axis=1)


def stand_in(x: NDArray[Any]) -> float | None:
    """Return a number that seems to stand for missing values, such as -9999; None without any.

    It is the least or the largest, occurs at least three times, and is further from the next one
    than all others together are wide.
    """
    for end in (float(x.min()), float(x.max())):
        there = x == end
        rest = x[~there]
        if int(there.sum()) < _OFTEN or not rest.size:
            continue
        low, high = float(rest.min()), float(rest.max())
        away = low - end if end < low else end - high
        if abs(end) >= _LARGE and away > _FAR * max(high - low, 1e-12):
            return end
    return None


def _suggestion(name: str) -> str:
    lower = name.lower()
    for known, others in _MEANT.items():
        if lower == known or name in others or lower in others:
            return f"did you mean '{known}'?"
    close = difflib.get_close_matches(lower, [*KNOWN, *sum(_MEANT.values(), ())], n=1)
    if close:
        meant = next((k for k, others in _MEANT.items() if close[0] in others), close[0])
        return f"did you mean '{meant}'?"
    return f"known: {', '.join(KNOWN)}, label_NAME."
