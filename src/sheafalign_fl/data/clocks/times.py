"""Times as people write them, in seconds since 1970 or since the recording began.

Numbers are seconds, or milliseconds to nanoseconds since 1970, which their size tells; text is ISO
8601. Everything is float64 from here on: it holds seconds since 1970 to a quarter of a microsecond.
"""

import zoneinfo
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import ConfigError, DataError

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SINCE_1970 = (("ns", 1e17), ("us", 1e14), ("ms", 1e11))
"""Unit -> the least size of times since 1970 in it: each is the year 1973 in its own unit and far
off in the next."""
_STEPS = 4
"""A clock must tell so many times between two samples, or its samples cannot be told apart."""


def seconds(
    times: NDArray[Any], path: Path, unit: str = "auto", zone: str = "UTC"
) -> NDArray[np.float64]:
    """Return times in seconds, shape (N,).

    Parameters
    ----------
    times
        Shape (N,): numbers, dates (datetime64), spans (timedelta64), or text in ISO 8601.
    path
        For messages.
    unit
        Of numbers: s, ms, us, ns, or auto: since 1970 in the unit that their size tells, else
        seconds.
    zone
        Where text and dates without a zone of their own were written, such as Europe/Berlin.

    Raises
    ------
    ConfigError
        Unit or zone is unknown.
    DataError
        A time is not known, is no time, or the numbers are too coarse for the rate.
    """
    if unit not in ("auto", *UNITS):
        raise ConfigError(f"data.options.time_unit: must be auto, {', '.join(UNITS)}, not '{unit}'")
    place = _zone(zone)
    if times.dtype.kind == "U":
        result = _of_texts(times, path, unit, place)
    elif times.dtype.kind == "M":
        _check_known(np.isnat(times), path)
        result = _of_dates(times, path, place)
    elif times.dtype.kind == "m":
        _check_known(np.isnat(times), path)
        result = np.asarray(times / np.timedelta64(1, "s"), dtype=np.float64)
    elif times.dtype.kind in "fiu":
        result = _of_numbers(times, path, unit)
    else:
        raise DataError(
            f"{path}: time has dtype {times.dtype}; it must be seconds, dates (datetime64), or "
            "text in ISO 8601"
        )
    return result


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"data.options.time_zone: no zone '{name}' is known here; write it as Europe/Berlin"
        ) from None


def _check_known(unknown: NDArray[np.bool_], path: Path) -> None:
    if unknown.any():
        raise DataError(
            f"{path}: time of sample {int(np.argmax(unknown))} is not known; leave such samples out"
        )


# ---- numbers -----------------------------------------------------------------------------------


def _of_numbers(times: NDArray[Any], path: Path, unit: str) -> NDArray[np.float64]:
    values = times.astype(np.float64)
    _check_known(~np.isfinite(values), path)
    if times.dtype.kind == "f" and times.dtype.itemsize < 8:
        _check_steps(times, path)
    scale = UNITS[_unit_of(values) if unit == "auto" else unit]
    # Whole numbers of nanoseconds are divided as such: multiplying by 1e-9 would round twice.
    return values / (1 / scale) if scale < 1 else values


def _unit_of(values: NDArray[np.float64]) -> str:
    """Return the unit that the size of times since 1970 tells; seconds where they are smaller."""
    size = float(np.median(np.abs(values))) if len(values) else 0.0
    return next((unit for unit, least in _SINCE_1970 if size >= least), "s")


def _check_steps(times: NDArray[Any], path: Path) -> None:
    """Refuse float32 (and smaller) times that cannot tell one sample from the next."""
    if len(times) < 2:
        return
    step = float(np.spacing(np.abs(times).max()))
    distinct = np.unique(times)
    usual = float(np.median(np.diff(distinct))) if len(distinct) > 1 else 0.0
    if len(distinct) < 0.9 * len(times) or step * _STEPS > usual:
        raise DataError(
            f"{path}: time is {times.dtype}, which counts in steps of {step:g} here, so "
            f"{len(times)} samples have {len(distinct)} different times; save it as float64"
        )


# ---- dates and text ----------------------------------------------------------------------------


def _of_dates(times: NDArray[Any], path: Path, zone: tzinfo) -> NDArray[np.float64]:
    if zone is not UTC:
        return _of_texts(np.datetime_as_string(times, unit="us"), path, "auto", zone)
    result = (times - np.datetime64(0, "s")) / np.timedelta64(1, "s")
    return np.asarray(result, dtype=np.float64)


def _of_texts(texts: NDArray[Any], path: Path, unit: str, zone: tzinfo) -> NDArray[np.float64]:
    _check_known(np.char.strip(texts) == "", path)
    try:
        return _of_numbers(texts.astype(np.float64), path, unit)
    except ValueError:
        pass  # not numbers written as text, so dates
    dates = [_date(text, index, path) for index, text in enumerate(texts.tolist())]
    own = {date.tzinfo is not None for date in dates}
    if len(own) > 1:
        raise DataError(f"{path}: some times have a zone and some do not; give all of them one")
    if own == {False}:
        return _local(dates, path, zone)
    return np.array([date.timestamp() for date in dates], dtype=np.float64)


def _date(text: str, index: int, path: Path) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise DataError(
            f"{path}: time of sample {index} is '{text}', which is neither seconds nor ISO 8601 "
            "(2026-03-29T01:30:00.5+01:00); it must be seconds, or dates"
        ) from None


def _local(dates: list[datetime], path: Path, zone: tzinfo) -> NDArray[np.float64]:
    """Return seconds of wall-clock times in one zone; order decides in an hour that comes twice."""
    result = np.empty(len(dates), dtype=np.float64)
    previous = -np.inf
    for index, date in enumerate(dates):
        first, second = (date.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != date:
            raise DataError(
                f"{path}: time of sample {index} is {date}, which the clocks of {zone} leave out; "
                "is data.options.time_zone right?"
            )
        value = first.timestamp()
        if value < previous and second.timestamp() >= previous:
            value = second.timestamp()
        result[index] = previous = value
    return result
