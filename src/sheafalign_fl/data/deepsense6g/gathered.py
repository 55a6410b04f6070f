"""Power of all rows of a scenario in one file, as some copies of DeepSense 6G have it.

Such a file is an `.npy` (rows, 64). Its beams may run backwards; which way is what the table's
labels of the best beam say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.deepsense6g.columns import steps_of
from sheafalign_fl.data.deepsense6g.tables import Table
from sheafalign_fl.data.preparation import Fault, Files, Prepared
from sheafalign_fl.data.readers.base import BadFileError, read_npy
from sheafalign_fl.data.readers.links import BeamPower
from sheafalign_fl.errors import DataError
from sheafalign_fl.listing import listed

_BEAMS = 64
_LOOKED_AT = 16
_AGREEING = 0.9
"""Of the rows, whose best beam must be the label for an order of beams to be believed."""


@dataclass(frozen=True)
class Gathered:
    """The sweeps of all rows of a table."""

    path: Path
    power: NDArray[np.float64]
    """(rows, 64): linear, in the order of the labels."""
    note: str


def gathered_power(table: Table) -> Gathered | None:
    """Return the sweeps that lie in one file beside `table`; None where each has its own.

    Raises
    ------
    DataError
        The labels do not say in which order the file's beams are.
    """
    if _have_files(table):
        return None
    for pattern in ("*.npy", "*/*.npy"):
        for path in listed(table.path.parent, pattern):
            if _shape(path) == (len(table.rows), _BEAMS):
                try:
                    power = read_npy(path, 2).astype(np.float64)
                except BadFileError as error:
                    raise DataError(f"{path}: {error.reason}") from None
                return _ordered(table, path, power)
    return None


def rows_of(parts: Sequence[Gathered], frames: Sequence[Files]) -> Prepared:
    """Return the sweeps of `frames`, each named by its file and its row, in dB."""
    known = {part.path: part.power for part in parts}
    reader = BeamPower(_BEAMS)
    x = np.zeros((len(frames), _BEAMS), dtype=np.float32)
    faults: dict[int, Fault] = {}
    for place, (path, row) in enumerate(frames):
        try:
            x[place] = reader.decibels(known[path][int(row.name)])
        except BadFileError as error:
            faults[place] = Fault(f"{path} row {row.name}", error.reason, error.known)
    return Prepared(x, faults, {}, len(frames))


def _have_files(table: Table) -> bool:
    """Say whether the table names sweeps, and one of the first is there."""
    columns = steps_of(table, "power")
    if not columns:
        return False
    named = [path for path in table.files(columns[-1]) if path is not None][:_LOOKED_AT]
    return any(path.is_file() for path in named)


def _shape(path: Path) -> tuple[int, ...]:
    try:
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    except Exception:  # a damaged header is parsed as Python, which raises a dozen kinds of error
        return ()


def _ordered(table: Table, path: Path, power: NDArray[np.float64]) -> Gathered:
    labels = steps_of(table, "beam")
    if not labels:
        return Gathered(path, power, f"{table.scenario}: power from {path.name}, as it is there")
    best = table.numbers(labels[-1], least=1)
    whole = (best > 0) & ~np.isnan(power).any(axis=1)
    strongest = np.nan_to_num(power).argmax(axis=1)
    straight = float((strongest + 1 == best)[whole].mean()) if whole.any() else 0.0
    backwards = float((_BEAMS - strongest == best)[whole].mean()) if whole.any() else 0.0
    agreeing = max(straight, backwards)
    if agreeing < _AGREEING:
        raise DataError(
            f"{path}: its best beams are those of {labels[-1]} in {straight:.0%} of the rows of "
            f"{table.path.name}, and read backwards in {backwards:.0%}; it is of other rows"
        )
    order = "as it is there" if straight >= backwards else "its beams backwards"
    note = f"{table.scenario}: power from {path.name}, {order}: {agreeing:.0%} of labels agree"
    return Gathered(path, power if straight >= backwards else power[:, ::-1], note)
