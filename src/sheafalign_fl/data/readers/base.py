"""What every reader is, and how it says that a file is bad."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.extras import require

Array = NDArray[Any]
"""Arrays of any number type; docstrings give shapes and units."""
_MATLAB_73 = b"MATLAB 7.3"
_LARGEST = float(np.finfo(np.float32).max) / 8
"""Differences of a few such numbers are still float32."""


class BadFileError(Exception):
    """A file cannot be used; `reason` continues a line that names it.

    Attributes
    ----------
    reason
        What is wrong with the file.
    file
        Which file, where a frame has several; None: the first.
    known
        A fault that the data set is known to have: such frames are always left out and counted,
        never a reason to stop.
    """

    def __init__(self, reason: str, *, file: Path | None = None, known: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.file, self.known = reason, file, known


@dataclass(frozen=True)
class Mended:
    """A frame whose file had a known fault that could be made good; `how` says what was done."""

    values: NDArray[np.float32]
    how: str


class Reader(Protocol):
    """From the files of one frame to a float32 array.

    A reader is a frozen dataclass: its `repr` says all that its result depends on beside the files,
    and `version` is raised whenever the same files would give other values. Both key the cache of
    prepared arrays.
    """

    @property
    def version(self) -> int:
        """Number of this reader's results."""
        ...

    def __call__(self, *files: Path) -> NDArray[np.float32] | Mended:
        """Return the frame; raise `BadFileError` if a file is unreadable or its content wrong."""
        ...


def read_mat(path: Path, key: str | None, axes: int, *, kinds: str = "fiu") -> Array:
    """Return array `key` of a MATLAB file, which must have `axes` axes of numbers of `kinds`.

    Without a key it is the array `data`, or else the only one that there is.

    Raises
    ------
    BadFileError
        The file is no MATLAB file, or lacks the array, or holds it in another form.
    """
    require("scipy", "reading .mat files")
    from scipy.io import loadmat

    data = read_bytes(path)
    if data.startswith(_MATLAB_73):
        raise BadFileError("is a MATLAB 7.3 file (HDF5); save it again with -v7")
    try:
        content = loadmat(io.BytesIO(data), variable_names=key)
    except Exception as error:  # scipy raises whatever a damaged file leads it to
        raise BadFileError(f"is no readable .mat file ({_one_line(error)})") from None
    if key is None:
        names = [name for name in content if not name.startswith("__")]
        if "data" not in names and len(names) != 1:
            raise BadFileError(f"must hold one array, or 'data'; it has {', '.join(names)}")
        key = "data" if "data" in names else names[0]
    if key not in content:
        raise BadFileError(f"lacks the array '{key}'")
    return _checked(content[key], key, axes, kinds)


def read_npy(path: Path, axes: int | None, *, kinds: str = "fiu") -> Array:
    """Return the array of an `.npy` file, read without pickle.

    Raises
    ------
    BadFileError
        It is none, or does not have `axes` axes (None: any, but one at least) of `kinds`.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BadFileError("does not exist") from None
    except (
        Exception
    ) as error:  # a damaged header is parsed as Python, which raises a dozen kinds of error
        raise BadFileError(f"is no readable .npy file ({_one_line(error)})") from None
    if not isinstance(values, np.ndarray):
        raise BadFileError("is an archive, not one array")
    return _checked(values, "it", axes, kinds)


def read_text(path: Path) -> str:
    """Return the text of a small file; raise `BadFileError` where there is none."""
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise BadFileError("does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(f"is no readable text ({_one_line(error)})") from None


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; raise `BadFileError` where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadFileError("does not exist") from None
    except OSError as error:
        raise BadFileError(f"cannot be read ({_one_line(error)})") from None


def finite(values: Array, what: str) -> Array:
    """Return real `values`; raise `BadFileError` if some are NaN, infinite or beyond float32."""
    bad = int((~(np.abs(values) <= _LARGEST)).sum())
    if bad:
        raise BadFileError(
            f"holds NaN or infinity (or beyond float32) in {bad} of {values.size} {what}"
        )
    return values


def _checked(values: Array, name: str, axes: int | None, kinds: str) -> Array:
    if values.dtype.kind not in kinds:
        raise BadFileError(
            f"{name} has dtype {values.dtype}; it must be "
            f"{'complex ' if kinds == 'c' else ''}numbers"
        )
    if (values.ndim != axes if axes is not None else values.ndim == 0) or 0 in values.shape:
        raise BadFileError(
            f"{name} has shape {values.shape}; it must have {axes or 'some'} axes and not be empty"
        )
    return values


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
