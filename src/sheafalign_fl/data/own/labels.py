"""Labels of a modality's file: numbers as they are, text numbered over all files of the folder.

What kind a label is follows from its array (`sheafalign_fl.labels`), or is declared by the option
`labels`.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.npz_file import check_length
from sheafalign_fl.data.own.arrays import array_of, is_label, present
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.labels import UNLABELLED, Kind

MINUS_ONE = ("ask", "unknown", "class")
KINDS = ("auto", "classes", "values", "multi")
_FEW = 32
"""Whole numbers of so few values in a floating-point array may be classes as well as values."""
_NO_BLANKS: Mapping[str, NDArray[np.bool_]] = MappingProxyType({})
_SIGNED = ("-1", "0", "1")
"""The classes where -1 is one of them."""


def labels_of(
    arrays: dict[str, NDArray[Any]],
    count: int,
    path: Path,
    minus_one: str,
    kinds: str | Mapping[str, str] = "auto",
    blank: Mapping[str, NDArray[np.bool_]] = _NO_BLANKS,
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
    """Return label name -> values, and label name -> names of its classes.

    Parameters
    ----------
    minus_one
        What -1 is among numbers: unknown, a class (of -1, 0, 1), or ask: an error where -1 and 1
        are all there is, which may mean either.
    kinds
        What labels are, for all or by name: classes, values, multi, or auto: floating-point is
        values, a matrix is multi, anything else is classes.
    blank
        Array -> which of its rows a table left empty, where it holds whole numbers, -1 for these.

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
    labels: dict[str, NDArray[Any]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for name, values in arrays.items():
        if not is_label(name):
            continue
        label = name.removeprefix("label_")
        if label in labels:
            raise DataError(f"{path}: 'label' and 'label_label' would have one name; rename one")
        kind = _kind(label, values, kinds, path)
        if kind != "multi":
            check_length(name, values, count, path)
        if kind == "values":
            labels[label] = _values(name, values, path, blank.get(name))
        elif kind == "multi":
            labels[label] = _several(name, values, count, path)
        elif values.dtype.kind == "U":
            classes[label] = _class_names(name, path)
            labels[label] = _coded(values, classes[label])
        elif minus_one == "class" and values.dtype.kind in "iu":
            classes[label] = _SIGNED
            labels[label] = _signed(name, values, path)
        else:
            labels[label] = _class_numbers(name, _whole(name, values, path), path, minus_one)
    return labels, classes


def _kind(label: str, values: NDArray[Any], kinds: str | Mapping[str, str], path: Path) -> Kind:
    """Return what a label is, as declared or by its array."""
    said = kinds if isinstance(kinds, str) else kinds.get(label, "auto")
    if said not in KINDS:
        raise ConfigError(
            f"data.options.labels: label '{label}' must be {', '.join(KINDS)}, not '{said}'"
        )
    if said != "auto":
        return cast(Kind, said)
    if values.ndim == 2:
        return "multi"
    if values.dtype.kind != "f":
        return "classes"
    there = values[np.isfinite(values)]
    if len(there) and (there == np.round(there)).all() and len(np.unique(there)) <= _FEW:
        raise DataError(
            f"{path}: label '{label}' is floating-point, but holds whole numbers of "
            f"{len(np.unique(there))} values; say what it is: data.options.labels: classes, or "
            "values"
        )
    return "values"


def _values(
    name: str, values: NDArray[Any], path: Path, blank: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """Return values, NaN where unknown; -1 is a value like any other."""
    if values.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name} has dtype {values.dtype}; values must be numbers")
    found = values.astype(np.float64)
    if np.isinf(found).any():
        raise DataError(f"{path}: {name} holds infinite values; NaN stands for unknown")
    return found if blank is None else np.where(blank, np.nan, found)


def _several(name: str, values: NDArray[Any], count: int, path: Path) -> NDArray[np.int64]:
    """Return a matrix of 0 and 1, a row for each event; -1, or NaN, where one is unknown."""
    if values.ndim != 2 or len(values) != count or not values.shape[1]:
        raise DataError(
            f"{path}: {name} has shape {values.shape}; several labels an event need a matrix with "
            f"a row for each of the {count} events of x"
        )
    if values.dtype.kind not in "iubf":
        raise DataError(f"{path}: {name} has dtype {values.dtype}; use 0 and 1, -1 for unknown")
    unknown = (np.isnan(values) | (values == UNLABELLED)).any(axis=1)
    if not np.isin(values[~unknown], (0, 1)).all():
        raise DataError(
            f"{path}: {name} is a matrix, so each column is a label that an event has (1) or not "
            "(0), -1 where unknown; give values a name and an array each (label_NAME)"
        )
    found = np.full(values.shape, UNLABELLED, dtype=np.int64)
    found[~unknown] = values[~unknown].astype(np.int64)
    return found


def _whole(name: str, values: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return classes that came as floating-point numbers as integers; NaN is unknown."""
    if values.dtype.kind != "f":
        return values
    found = np.where(np.isnan(values), float(UNLABELLED), values)
    if not (found == np.round(found)).all() or np.abs(found).max(initial=0.0) >= 2**31:
        raise DataError(f"{path}: {name} has numbers that are no classes; use whole ones")
    return found.astype(np.int64)


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
