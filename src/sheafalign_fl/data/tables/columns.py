"""Columns of a table file, whatever its format: delimited text or Parquet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.tables.cells import as_numbers, as_time_of_day, has_decimal_comma
from sheafalign_fl.data.tables.text import read_sheet
from sheafalign_fl.errors import DataError
from sheafalign_fl.extras import require

TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET = (".parquet", ".pq")
ENDINGS = (*TEXT, *PARQUET)


@dataclass(frozen=True)
class Columns:
    """A table, column by column.

    Attributes
    ----------
    path
        Its file.
    arrays
        Name -> (rows, ...): numbers, dates (datetime64) or text.
    notes
        What was found out about the file.
    """

    path: Path
    arrays: dict[str, NDArray[Any]]
    notes: tuple[str, ...] = ()


def read_columns(path: Path) -> Columns:
    """Return the columns of a table.

    Raises
    ------
    DataError
        The file cannot be read, or is no table; or the package that reads it is not installed.
    """
    if path.name.lower().endswith(PARQUET):
        return _parquet(path)
    sheet = read_sheet(path)
    if not sheet.rows:
        raise DataError(f"{path}: has no rows")
    if len(set(sheet.header)) != len(sheet.header):
        twice = max(sheet.header, key=sheet.header.count)
        raise DataError(f"{path}: the column '{twice}' is there twice")
    cells = list(zip(*sheet.rows, strict=True))
    comma = has_decimal_comma(cells)
    arrays = {}
    for name, column in zip(sheet.header, cells, strict=True):
        numbers = as_numbers(column, comma=comma)
        clock = as_time_of_day(column) if numbers is None else None
        arrays[name] = next(
            (found for found in (numbers, clock) if found is not None), np.array(column)
        )
    return Columns(path, arrays, ("decimal commas",) if comma else ())


def _parquet(path: Path) -> Columns:
    require("pyarrow", "reading .parquet files")
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: is no readable Parquet file ({reason})") from None
    arrays = {name: _array(table.column(name), name, path) for name in table.column_names}
    if not arrays or not table.num_rows:
        raise DataError(f"{path}: has no rows")
    return Columns(path, arrays)


def _array(column: Any, name: str, path: Path) -> NDArray[Any]:
    """Return a column of Parquet; lists of one length become further axes."""
    values = column.to_numpy()
    if values.dtype.kind != "O":
        return np.asarray(values)
    items = list(values)
    if all(item is None or isinstance(item, str) for item in items):
        return np.array([item or "" for item in items], dtype=np.str_)
    try:
        stacked = np.array([_nested(item) for item in items])
    except ValueError:
        stacked = np.empty(0, dtype=object)
    if stacked.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: the column '{name}' holds neither numbers nor text, nor lists of one length"
        )
    return stacked


def _nested(item: Any) -> Any:
    if item is None:
        return np.nan
    if isinstance(item, np.ndarray) and item.dtype == object:
        return np.array([_nested(part) for part in item])
    return item
