"""From cells of text to numbers: decimal points and commas, what means "nothing", times of day."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NOTHING = {"", "na", "n/a", "nan", "null", "none", "-", "--", "?"}
_INFINITY = {"inf": np.inf, "+inf": np.inf, "-inf": -np.inf, "∞": np.inf, "-∞": -np.inf}
_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d*),\d+([eE][+-]?\d+)?")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_DAY = 86_400.0
_CLOCK = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?:[.,:](\d+))?")


def has_decimal_comma(columns: Sequence[Sequence[str]]) -> bool:
    """Say whether the numbers of a table have a comma where others have a point.

    A comma is one where some cell is a number only so, and no cell is a number with a point: an
    ``1.234,5`` has its points between thousands.
    """
    commas = any(_COMMA.fullmatch(cell) for cells in columns for cell in cells)
    return commas and not any(
        _POINT.fullmatch(cell) and not _COMMA.fullmatch(cell) for cells in columns for cell in cells
    )


def as_numbers(cells: Sequence[str], *, comma: bool = False) -> NDArray[Any] | None:
    """Return a column as numbers, (rows,): int64 where all are whole, else float64; NaN: nothing.

    Parameters
    ----------
    comma
        The decimal sign is a comma.

    Returns
    -------
    numbers
        None where some cell is text, or where not one cell says anything.
    """
    texts = [cell.replace(".", "").replace(",", ".") for cell in cells] if comma else list(cells)
    try:
        return np.array([int(text) for text in texts], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    values = np.empty(len(texts), dtype=np.float64)
    for row, text in enumerate(texts):
        lower = text.lower()
        try:
            values[row] = np.nan if lower in _NOTHING else _INFINITY.get(lower) or float(text)
        except ValueError:
            return None
    return None if np.isnan(values).all() else values


def as_time_of_day(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Return times such as ``23:59:59.250`` in seconds, (rows,); None where some cell is none.

    They go on after midnight: a time that is half a day or more before the last is of the next day.
    """
    matches = [_CLOCK.fullmatch(cell) for cell in cells]
    if not matches or not all(matches):
        return None
    seconds = np.array([_seconds(match) for match in matches if match is not None])
    steps = np.diff(seconds, prepend=seconds[0])
    days: NDArray[np.float64] = np.cumsum(steps < -_DAY / 2) - np.cumsum(steps > _DAY / 2)
    return np.asarray(seconds + _DAY * days, dtype=np.float64)


def _seconds(match: "re.Match[str]") -> float:
    hours, minutes, whole, part = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(f"{whole}.{part or 0}")
