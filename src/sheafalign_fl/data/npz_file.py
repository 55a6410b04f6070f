"""Reading `.npz` files of the user's, without pickle, so they can hold data and nothing else."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import DataError

_UNREADABLE = (ValueError, OSError, EOFError, zipfile.BadZipFile)


def read_arrays(path: Path, needed: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of the file by name.

    Raises
    ------
    DataError
        The file is no readable archive of plain arrays, or lacks a `needed` one.
    """
    try:
        # Only a zip archive can be an .npz file; NumPy would also take a bare array, under any
        # name.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            arrays = {name: _text(file[name]) for name in file.files}
    except _UNREADABLE as error:
        if "pickle" in str(error).lower():
            raise DataError(
                f"{path}: holds Python objects; save plain arrays of numbers or text"
            ) from None
        raise DataError(f"{path}: is no readable .npz file ({error})") from None
    for name in needed:
        if name not in arrays:
            raise DataError(
                f"{path}: lacks the array '{name}'; it has {', '.join(arrays) or 'nothing'}"
            )
    return arrays


def _text(values: NDArray[Any]) -> NDArray[Any]:
    """Return bytes, as other programs write text, as text."""
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values


def read_if_there(path: Path, name: str) -> NDArray[Any] | None:
    """Return one array of the file; None where it is absent or the file cannot be read."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return _text(np.asarray(file[name])) if name in file.files else None
    except _UNREADABLE:
        return None


def check_values(x: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return x as float32, or as float64 where float32 would lose digits that scaling still needs.

    Raises
    ------
    DataError
        It does not hold real numbers, or has fewer than two axes.
    """
    if x.dtype.kind == "c":
        raise DataError(
            f"{path}: x has dtype {x.dtype}; it must be numbers that are real: save magnitude and "
            "phase, or real and imaginary part, as channels"
        )
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: x has dtype {x.dtype}; it must be numbers")
    if x.ndim < 2:
        column = f"; save a single value as x.reshape({len(x)}, 1)" if x.ndim == 1 else ""
        raise DataError(
            f"{path}: x has shape {x.shape}; the first axis must be events, then at least one more"
            f"{column}"
        )
    return raw_values(x)


def raw_values(x: NDArray[Any]) -> NDArray[np.floating]:
    """Return numbers as float32, or as float64 where float32 would lose digits."""
    exact = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    return x.astype(np.float32 if exact else np.float64, order="C")


def check_length(name: str, values: NDArray[Any], count: int, path: Path) -> None:
    """Raise `DataError` unless `values` has one axis and `count` entries."""
    if values.ndim != 1:
        raise DataError(f"{path}: {name} has shape {values.shape}; it must have one axis")
    if len(values) != count:
        raise DataError(
            f"{path}: {name} has {len(values)} entries but x has {count} events (events are the "
            "first axis of x)"
        )
