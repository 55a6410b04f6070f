"""The tables of DeepSense 6G: which CSV files of a folder are read, as rows with numbers and paths.

Copies differ: a folder may hold several tables, the same rows once more in ``*_train``, ``*_val``
and ``*_test``, or these alone; they may lie a folder or two deeper than they should.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.data.tables.text import Sheet, read_header, read_sheet
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.labels import UNLABELLED
from sheafalign_fl.listing import listed

_DEEPER = ("*", "*/*", "*/*/*")
_PARTS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation",
          "test": "test"}  # fmt: skip
"""How the name of a table ends that has one split's rows -> the split."""
_PART = re.compile(rf"(.+)_({'|'.join(_PARTS)})", re.IGNORECASE)
_PROPER = re.compile(r"scenario_?\d+", re.IGNORECASE)
_MOST_NUMBERS = 99_999


@dataclass(frozen=True)
class Table:
    """The rows of one scenario.

    Attributes
    ----------
    path
        Its CSV file; the first of them where it has only those of the splits.
    scenario
        Its name: that of the file, without what names a split.
    number
        Of the scenario, from its name, so that machines that hold different scenarios number events
        alike.
    columns
        Their names in lower case; those without a name are left out.
    rows
        Column -> cell.
    origins
        What names each row: the file, and the line in it, whose first line is the header.
    splits
        (rows,): the split that the tables beside it give each row, as an index into `SPLITS`; -1
        where they give none. None where there are no such tables.
    notes
        What was chosen.
    """

    path: Path
    scenario: str
    number: int
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    origins: tuple[str, ...]
    splits: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """Return what names a row."""
        return self.origins[row]

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
                number = UNLABELLED if _is_empty(text) else float(text.replace(",", "."))
                values[index] = int(number)
            except (ValueError, OverflowError):
                raise DataError(
                    f"{self.where(index)}: {column} is '{text}', not a whole number"
                ) from None
            if values[index] != number or UNLABELLED != number < least:
                raise DataError(
                    f"{self.where(index)}: {column} is '{text}'; it must be a whole number "
                    f"from {least} on"
                )
        return values

    def files(self, column: str) -> list[Path | None]:
        """Return the paths of a column, relative to the table's folder; None where it is empty."""
        cells = (row[column].strip().replace("\\", "/") for row in self.rows)
        return [None if _is_empty(cell) else self.path.parent / cell for cell in cells]


def find_tables(folder: Path, names: str = "") -> list[Table]:
    """Return the tables of the data set in `folder`, sorted by name.

    They are looked for in the folder itself, then in its folders, then in theirs. Of several in one
    folder those that are named for a scenario (``scenario9.csv``) are taken.

    Parameters
    ----------
    names
        Which tables to take, separated by commas; empty: all.

    Raises
    ------
    ConfigError
        There is no table of such a name.
    DataError
        There is none at all, one cannot be read, or two cannot be told apart.
    """
    if not folder.is_dir():
        raise DataError(f"data.options.path: there is no folder {folder}")
    families = _families(_tables(folder))
    if not families:
        raise DataError(
            f"{folder}: holds no table of DeepSense 6G; looked for *.csv in it and in the folders "
            "of two levels below, with a column that starts with 'unit1_'"
        )
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    chosen, notes = _named(families, wanted) if wanted else _proper(families)
    _check_distinct(folder, chosen)
    tables = [family.table(notes) for family in chosen]
    return sorted(tables, key=lambda table: table.scenario)


@dataclass(frozen=True)
class _Family:
    """The files of one scenario."""

    parent: Path
    name: str
    whole: Path | None
    """The table of all rows."""
    parts: tuple[tuple[str, Path], ...]
    """Split and table, in the order of `SPLITS`."""

    @property
    def number(self) -> int:
        digits = re.findall(r"\d+", self.name)
        return int(digits[-1]) if digits else 0

    def table(self, notes: tuple[str, ...]) -> Table:
        parts = [(split, path, _read(path)) for split, path in self.parts]
        if self.whole is not None:
            rows = _read(self.whole)
            given, note = _given(rows, parts) if parts else (None, ())
            return self._made(self.whole, rows, given, (*notes, *note))
        joined = _joined([rows for _, _, rows in parts])
        given = np.concatenate(
            [np.full(len(rows.cells), SPLITS.index(split)) for split, _, rows in parts]
        )
        names = ", ".join(path.name for _, path, _ in parts)
        note = (f"{self.name}: its rows are those of {names}",)
        return self._made(parts[0][1], joined, given.astype(np.int64), (*notes, *note))

    def _made(
        self, path: Path, rows: "_Rows", given: NDArray[np.int64] | None, notes: tuple[str, ...]
    ) -> Table:
        cells, columns, origins = rows.cells, rows.columns, rows.origins
        return Table(path, self.name, self.number, columns, cells, origins, given, notes)


@dataclass(frozen=True)
class _Rows:
    """The cells of one or more files."""

    columns: tuple[str, ...]
    cells: tuple[dict[str, str], ...]
    origins: tuple[str, ...]


def _is_empty(cell: str) -> bool:
    return cell.lower() in {"", "nan"}


def _tables(folder: Path) -> list[Path]:
    for pattern in _DEEPER:
        found = [
            path
            for path in listed(folder, pattern)
            if path.suffix.lower() == ".csv"
            and path.is_file()
            and any(name.lower().startswith("unit1_") for name in read_header(path))
        ]
        if found:
            return found
    return []


def _families(paths: Iterable[Path]) -> list[_Family]:
    members: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in paths:
        match = _PART.fullmatch(path.stem)
        name, part = (match[1], _PARTS[match[2].lower()]) if match else (path.stem, "")
        members.setdefault((path.parent, name), {})[part] = path
    families = []
    for (parent, name), files in members.items():
        parts = tuple((split, files[split]) for split in SPLITS if split in files)
        if not files.get("") and len(parts) == 1:
            # One such table alone is a table like any other, whatever its name.
            families.append(_Family(parent, parts[0][1].stem, parts[0][1], ()))
        else:
            families.append(_Family(parent, name, files.get(""), parts))
    return families


def _named(
    families: Sequence[_Family], wanted: Sequence[str]
) -> tuple[list[_Family], tuple[str, ...]]:
    known = {family.name: [family] for family in families}
    for family in families:
        for _, path in family.parts:
            alone = _Family(family.parent, path.stem, path, ())
            known.setdefault(path.stem, []).append(alone)
    same = [family.name for family in families if known[family.name] != [family]]
    if same:
        raise DataError(f"{families[0].parent}: two tables are named '{same[0]}.csv'; rename one")
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"data.options.scenarios: there is no table '{name}'; known: {', '.join(known)}"
            )
    return [known[name][0] for name in dict.fromkeys(wanted)], ()


def _proper(families: Sequence[_Family]) -> tuple[list[_Family], tuple[str, ...]]:
    """Return the tables that are named for a scenario where a folder has such, and what is not."""
    chosen, left = [], []
    for parent in dict.fromkeys(family.parent for family in families):
        here = [family for family in families if family.parent == parent]
        proper = [family for family in here if _PROPER.fullmatch(family.name)]
        chosen += proper or here
        left += [family.name for family in here if proper and family not in proper]
    note = f"tables not used: {', '.join(left)}; choose with data.options.scenarios"
    return chosen, (note,) if left else ()


def _check_distinct(folder: Path, families: Sequence[_Family]) -> None:
    names = [family.name for family in families]
    if len(set(names)) != len(names):
        raise DataError(
            f"{folder}: two tables are named '{max(names, key=names.count)}.csv'; rename one"
        )
    numbers = [family.number for family in families]
    if len(set(numbers)) != len(numbers) or max(numbers) > _MOST_NUMBERS:
        raise DataError(
            f"{folder}: tables must have numbers in their names that differ, such as "
            f"scenario31.csv; not {', '.join(names)}; choose with data.options.scenarios"
        )


def _read(path: Path) -> _Rows:
    sheet: Sheet = read_sheet(path)
    header = [name.lower() for name in sheet.header]
    named = [name for name in header if name]
    if len(set(named)) != len(named):
        raise DataError(f"{path}: the column '{max(named, key=named.count)}' is there twice")
    if not sheet.rows:
        raise DataError(f"{path}: has no rows")
    cells = tuple(
        {name: cell for name, cell in zip(header, row, strict=True) if name} for row in sheet.rows
    )
    return _Rows(tuple(named), cells, tuple(f"{path} row {line}" for line in sheet.lines))


def _joined(parts: Sequence[_Rows]) -> _Rows:
    columns = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    return _Rows(
        tuple(columns),
        tuple(row for part in parts for row in part.cells),
        tuple(origin for part in parts for origin in part.origins),
    )


def _given(
    rows: _Rows, parts: Sequence[tuple[str, Path, _Rows]]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the split of each row that the tables of the splits give, and what is odd about them.

    Rows are the same where all cells of the unit's and the user's columns are: `index` may be
    counted anew in each table.
    """
    shared = [
        name
        for name in rows.columns
        if name.startswith("unit") and all(name in part.columns for _, _, part in parts)
    ]
    found: dict[tuple[str, ...], int] = {}
    for split, _, part in parts:
        for row in part.cells:
            found[tuple(row[name] for name in shared)] = SPLITS.index(split)
    keys = [tuple(row[name] for name in shared) for row in rows.cells]
    given = np.array([found.get(key, UNLABELLED) for key in keys], dtype=np.int64)
    names = ", ".join(path.name for _, path, _ in parts)
    note = f"{int((given >= 0).sum())} of {len(given)} rows are also in {names}"
    more = len(set(found) - set(keys))
    return given, (note + (f", which have {more} others that are not used" if more else ""),)


def linked(groups: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return for each row the number of its component: rows that share a name are of one.

    Directly or through others. Rows that are windows overlap and may say nothing about sequences;
    those that share files are of one.
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
