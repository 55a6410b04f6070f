"""Cells of a delimited text file, as spreadsheets, loggers and scripts in all languages write them.

What differs is found out, not asked for: commas, semicolons or tabs; a byte order mark; UTF-8,
UTF-16 or a local encoding; a compressed file; comments or a title before the header.
"""

import csv
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from sheafalign_fl.errors import DataError

_DELIMITERS = (",", ";", "\t", "|")
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_LARGEST = 4 << 30
"""Bytes that a file may have once it is expanded."""


@dataclass(frozen=True)
class Sheet:
    """A text table as it is written.

    Attributes
    ----------
    header
        The names of its columns, stripped; some may be empty.
    rows
        Its cells, stripped, as many in each row as there are columns.
    lines
        The number of each row's line in the file, from 1.
    delimiter
        What stands between cells.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    delimiter: str


def read_header(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a table; nothing where the file is no readable text."""
    try:
        with path.open("rb") as file:
            start = file.read(1 << 20)
        lines = _decoded(start).splitlines()
    except (OSError, UnicodeError):
        return ()
    first = next((line for line in lines if line.strip()), "")
    return tuple(cell.strip() for cell in next(csv.reader([first], delimiter=_delimiter(first))))


def read_sheet(path: Path) -> Sheet:
    """Return the header and the rows of a delimited text file.

    Lines before the header that are empty or begin with ``#`` are passed over, and so are rows of
    empty cells. Empty cells after the last named column are left out. Where the first line is all
    numbers, the header is the comment before it, as `numpy.savetxt` writes it; or else columns are
    named ``column 1`` and so on.

    Raises
    ------
    DataError
        The file cannot be read, has no rows, or a row has another number of cells than the header.
    """
    text = read_text(path)
    lines = text.splitlines(keepends=True)
    start = next((k for k, line in enumerate(lines) if _says_something(line)), len(lines))
    if start == len(lines):
        raise DataError(f"{path}: is empty")
    delimiter = _delimiter(lines[start])
    reader = csv.reader(lines[start:], delimiter=delimiter)
    try:
        rows = [(reader.line_num + start, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: is no readable table ({error})") from None
    header = rows.pop(0)[1]
    if all(map(_is_number, header)):
        rows.insert(0, (start + 1, header))
        header = _named(lines[:start], len(header), delimiter)
    width = len(header)
    kept = [(line, row) for line, row in rows if any(row)]
    for line, row in kept:
        if len(row) != width and (len(row) < width or any(row[width:])):
            raise DataError(
                f"{path} row {line}: has {len(row)} cells, but the header names {width} columns"
            )
    return Sheet(
        tuple(header),
        tuple(tuple(row[:width]) for _, row in kept),
        tuple(line for line, _ in kept),
        delimiter,
    )


def read_text(path: Path) -> str:
    """Return the text of a file, perhaps compressed with gzip; raise `DataError` if it cannot."""
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = _expanded(content, path)
        return _decoded(content)
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: is no readable text ({reason})") from None


def _expanded(content: bytes, path: Path) -> bytes:
    with gzip.open(path) as file:
        whole = file.read(_LARGEST + 1)
    if len(whole) > _LARGEST:
        raise DataError(f"{path}: holds more than {_LARGEST >> 30} GiB; divide it")
    return whole


def _decoded(content: bytes) -> str:
    encoding = next((name for mark, name in _BOMS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise
        # Names of units in an old encoding (°, µ, ²); every byte is a character there.
        return content.decode("latin-1")


def _says_something(line: str) -> bool:
    return bool(line.strip().strip(",;\t|")) and not line.lstrip().startswith("#")


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _named(comments: list[str], width: int, delimiter: str) -> list[str]:
    """Return names for the columns of a table without a header."""
    last = next((line for line in reversed(comments) if line.strip()), "").strip().lstrip("# ")
    names = [name.strip() for name in next(csv.reader([last], delimiter=delimiter), [])]
    if len(names) == width and len(set(names)) == width:
        return names
    return [f"column {number}" for number in range(1, width + 1)]


def _delimiter(header: str) -> str:
    """Return what divides a header into most cells, outside quotes; a comma where nothing does."""
    counts = [len(next(csv.reader([header], delimiter=each), [])) for each in _DELIMITERS]
    return _DELIMITERS[counts.index(max(counts))]
