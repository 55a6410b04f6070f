"""The tables of DeepSense 6G: scenario CSV files of all variants, as rows with numbers and paths."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import UNLABELLED
from sheafalign_fl.errors import DataError


@dataclass(frozen=True)
class Table:
    """One scenario's CSV file."""

    path: Path
    number: int
    """Of the scenario, from its name, so that machines that hold different scenarios number events alike."""
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]
    """Of each row in the file, from 1; the header's is nearly always the first."""

    @property
    def scenario(self) -> str:
        """Return the name of the scenario: that of the file."""
        return self.path.stem

    def where(self, row: int) -> str:
        """Return what names a row: the line in the file, whose first line is the header."""
        return f"{self.path} row {self.lines[row]}"

    def numbers(self, column: str, *, least: int = 0) -> NDArray[np.int64]:
        """Return a column of whole numbers; `UNLABELLED` where a cell is empty or NaN.

        Raises
        ------
        DataError
            A cell holds something else, or a number below `least`; names file and row.
        """
        values = np.empty(len(self.rows), dtype=np.int64)
        for index, row in enumerate(self.rows):
            text = row[column].strip()
            try:
                number = UNLABELLED if text.lower() in {"", "nan"} else float(text)
                values[index] = int(number)
            except (ValueError, OverflowError):
                raise DataError(
                    f"{self.where(index)}: {column} is '{text}', not a whole number"
                ) from None
            if values[index] != number or UNLABELLED != number < least:
                raise DataError(
                    f"{self.where(index)}: {column} is '{text}'; it must be a whole number from {least} on"
                )
        return values

    def files(self, column: str) -> list[Path | None]:
        """Return the paths of a column, which are relative to the table's folder; None where a cell is empty."""
        cells = (row[column].strip() for row in self.rows)
        return [None if cell.lower() in {"", "nan"} else self.path.parent / cell for cell in cells]


def find_tables(folder: Path) -> list[Table]:
    """Return the tables of the data set in `folder`: its own CSV files or those of its folders, sorted by name.

    Raises
    ------
    DataError
        There is none, or one cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"data.options.path: there is no folder {folder}")
    paths = sorted(folder.glob("*.csv")) or sorted(folder.glob("*/*.csv"))
    tables = [table for path in paths if (table := _read(path)) is not None]
    if not tables:
        raise DataError(
            f"{folder}: holds no table of DeepSense 6G; looked for *.csv and */*.csv with a column that starts with "
            "'unit1_'"
        )
    names = [table.scenario for table in tables]
    if len(set(names)) != len(names):
        raise DataError(
            f"{folder}: two tables are named '{max(names, key=names.count)}.csv'; rename one"
        )
    numbers = [table.number for table in tables]
    if len(set(numbers)) != len(numbers) or max(numbers) > 99_999:
        raise DataError(
            f"{folder}: tables must end in numbers that differ, such as scenario31.csv; not {', '.join(names)}"
        )
    return tables


def _read(path: Path) -> Table | None:
    """Return the table in `path`, or None if it is some other CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if not any(name.startswith("unit1_") for name in header):
                return None
            lines = [(reader.line_num, line) for line in reader if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no readable CSV file ({error})") from None
    if len(set(header)) != len(header):
        raise DataError(f"{path}: the column '{max(header, key=header.count)}' is there twice")
    for number, line in lines:
        if len(line) != len(header):
            raise DataError(
                f"{path} row {number}: has {len(line)} cells, but the header names {len(header)} columns"
            )
    if not lines:
        raise DataError(f"{path}: has no rows")
    digits = re.search(r"\d+$", path.stem)
    return Table(
        path,
        int(digits.group()) if digits else 0,
        tuple(header),
        tuple(dict(zip(header, line, strict=True)) for _, line in lines),
        tuple(number for number, _ in lines),
    )


def linked(groups: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return for each row the number of its component: rows that share a name, directly or through others, are one.

    The challenge's rows are windows that overlap and say nothing about sequences; rows that share files are of one.
    """
    first: dict[str, int] = {}
    parent = list(range(len(groups)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for row, names in enumerate(groups):
        for name in names:
            other = root(first.setdefault(name, row))
            mine = root(row)
            parent[max(mine, other)] = min(mine, other)
    return np.array([root(row) for row in range(len(groups))], dtype=np.int64)
