"""Labels of a modality's file: numbers as they are, text numbered over all files of the folder."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import UNLABELLED
from sheafalign_fl.data.npz_file import check_length
from sheafalign_fl.data.own.arrays import array_of, is_label, present
from sheafalign_fl.errors import ConfigError, DataError

MINUS_ONE = ("ask", "unknown", "class")
_SIGNED = ("-1", "0", "1")
"""The classes where -1 is one of them."""


def labels_of(
    arrays: dict[str, NDArray[Any]], count: int, path: Path, minus_one: str
) -> tuple[dict[str, NDArray[np.int64]], dict[str, tuple[str, ...]]]:
    """Return label name -> values, and label name -> names of its classes.

    Parameters
    ----------
    minus_one
        What -1 is among numbers: unknown, a class (of -1, 0, 1), or ask: an error where -1 and 1
        are all there is, which may mean either.

    Raises
    ------
    ConfigError
        `minus_one` is none of these.
    DataError
        Labels are malformed, or have to be asked about.
    """
    if minus_one not in MINUS_ONE:
        raise ConfigError(
            f"data.options.minus_one: must be {', '.join(MINUS_ONE)}, not '{minus_one}'"
        )
    labels: dict[str, NDArray[np.int64]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for name, values in arrays.items():
        if not is_label(name):
            continue
        label = name.removeprefix("label_")
        if label in labels:
            raise DataError(f"{path}: 'label' and 'label_label' would have one name; rename one")
        check_length(name, values, count, path)
        if values.dtype.kind == "U":
            classes[label] = _class_names(name, path)
            labels[label] = _coded(values, classes[label])
        elif minus_one == "class" and values.dtype.kind in "iu":
            classes[label] = _SIGNED
            labels[label] = _signed(name, values, path)
        else:
            labels[label] = _class_numbers(name, values, path, minus_one)
    return labels, classes


def _class_numbers(
    name: str, values: NDArray[Any], path: Path, minus_one: str
) -> NDArray[np.int64]:
    if values.dtype.kind not in "iub":
        raise DataError(
            f"{path}: {name} has dtype {values.dtype}; use integers (-1: unknown) or text "
            "('': unknown)"
        )
    if len(values) and not UNLABELLED <= int(values.min()) <= int(values.max()) < 2**31:
        raise DataError(
            f"{path}: {name} must be class numbers from 0 to 2147483647, or -1 where unknown"
        )
    codes = values.astype(np.int64)
    if minus_one == "ask" and np.array_equal(np.unique(codes), (-1, 1)):
        unknown = int((codes == UNLABELLED).sum())
        raise DataError(
            f"{path}: {name} is -1 or 1, and -1 stands for unknown, of which there would be "
            f"{unknown} of {len(codes)}; say what it is: data.options.minus_one: class, or unknown"
        )
    return codes


def _signed(name: str, values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if len(values) and not -1 <= int(values.min()) <= int(values.max()) <= 1:
        raise DataError(
            f"{path}: {name} must be -1, 0 or 1 where data.options.minus_one is class; "
            "number other classes from 0"
        )
    return values.astype(np.int64) + 1


def _class_names(name: str, path: Path) -> tuple[str, ...]:
    """Return the names of the classes of label `name` in all files of the folder, sorted."""
    known: set[str] = set()
    for modality in present(path.parent):
        values = array_of(path.parent, modality, name)
        if values is not None and values.dtype.kind == "U":
            known.update(np.unique(values).tolist())
    return tuple(sorted(known - {""}))


def _coded(values: NDArray[Any], classes: tuple[str, ...]) -> NDArray[np.int64]:
    codes = {text: code for code, text in enumerate(classes)} | {"": UNLABELLED}
    return np.array([codes[text] for text in values.tolist()], dtype=np.int64)
