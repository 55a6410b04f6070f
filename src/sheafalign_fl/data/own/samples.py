"""From the arrays of a file to samples that can be events: by their ids, or by a common clock."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.clocks import Clock, corrected, describe_clock, seconds, ticks
from sheafalign_fl.data.npz_file import check_length
from sheafalign_fl.errors import DataError

_MOST_TICKS = 2.0**52
_FEW = 0.9
"""Fewer of a sensor's samples in use are worth a note."""


@dataclass(frozen=True)
class Samples:
    """The samples that can be (parts of) events, S of them."""

    row: NDArray[np.intp]
    """Of the file's arrays."""
    event_id: NDArray[Any]
    sequence: NDArray[Any] | None
    """Windows stay in one, which is in one split; None where nothing says what belongs together."""
    position: NDArray[np.int64]
    """Grows by 1 from a sample to the next."""
    timed: bool
    """Positions are ticks of a clock."""
    notes: tuple[str, ...] = ()

    def take(self, kept: NDArray[Any]) -> "Samples":
        """Return only the samples `kept`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return Samples(
            **{
                name: value[kept] if isinstance(value, np.ndarray) else value
                for name, value in values.items()
            }
        )


def samples_of(
    arrays: Mapping[str, NDArray[Any]],
    modality: str,
    count: int,
    path: Path,
    options: Mapping[str, Any],
) -> Samples:
    """Return the samples of a file.

    Raises
    ------
    ConfigError
        An option of the clock is out of range.
    DataError
        An array that is needed is absent or malformed, or no sample is near a tick.
    """
    sequence = arrays.get("sequence")
    if sequence is not None:
        check_length("sequence", sequence, count, path)
        if sequence.dtype.kind not in "iuU":
            raise DataError(f"{path}: sequence has dtype {sequence.dtype}; use integers or text")
    if float(options["period"]) != 0:
        return _by_time(arrays, sequence, modality, count, path, options)
    if "event_id" not in arrays:
        if "time" in arrays:
            times_of(arrays, modality, count, path, options)  # what is wrong with them comes first
        hint = "; it has 'time', which needs data.options.period" if "time" in arrays else ""
        raise DataError(f"{path}: lacks the array 'event_id'; it has {', '.join(arrays)}{hint}")
    ids = arrays["event_id"]
    check_length("event_id", ids, count, path)
    rows = np.arange(count)
    # Where ids are numbers they say what follows what, also for a sensor that has missed some.
    numbered = (
        ids.dtype.kind in "iu"
        and count > 0
        and int(ids.max()) < 2**62
        and int(ids.min()) > -(2**62)
    )
    position = ids.astype(np.int64) if numbered else rows.astype(np.int64)
    return Samples(rows, ids, sequence, position, timed=False)


def times_of(
    arrays: Mapping[str, NDArray[Any]],
    modality: str,
    count: int,
    path: Path,
    options: Mapping[str, Any],
) -> NDArray[np.float64]:
    """Return when each sample was taken, in seconds, on a clock that was set right.

    Raises
    ------
    ConfigError
        The options time_unit, time_zone or clocks are not as they should be.
    DataError
        There is no array `time`, or it is malformed.
    """
    if "time" not in arrays:
        raise DataError(
            f"{path}: lacks the array 'time', which data.options.period needs; it has "
            f"{', '.join(arrays)}"
        )
    check_length("time", arrays["time"], count, path)
    unit, zone = (
        str(value.get(modality, default) if isinstance(value, Mapping) else value)
        for value, default in ((options["time_unit"], "auto"), (options["time_zone"], "UTC"))
    )
    times = seconds(arrays["time"], path, unit, zone)
    return corrected(times, modality, options["clocks"])


def _by_time(
    arrays: Mapping[str, NDArray[Any]],
    sequence: NDArray[Any] | None,
    modality: str,
    count: int,
    path: Path,
    options: Mapping[str, Any],
) -> Samples:
    period = float(options["period"])
    times = times_of(arrays, modality, count, path, options)
    if period > 0 and float(np.abs(times).max()) / period >= _MOST_TICKS:
        raise DataError(
            f"{path}: time is up to {np.abs(times).max():g} s, which is too far from 0 to count in "
            f"ticks of {period:g} s; is its unit right (data.options.time_unit)?"
        )
    clock = describe_clock(times)
    if count > 1 and clock.span == 0:
        raise DataError(f"{path}: all {count} samples have one time, {times[0]:g} s")
    row, tick = ticks(times, period, float(options["tolerance"]) or period / 2)
    if not len(row):
        raise DataError(
            f"{path}: no sample lies within data.options.tolerance of a multiple of {period:g} s; "
            "make it larger"
        )
    notes = _clock_notes(clock, len(np.unique(row)), tick, period)
    return Samples(
        row, tick, None if sequence is None else sequence[row], tick, timed=True, notes=notes
    )


def _clock_notes(
    clock: Clock, used: int, tick: NDArray[np.int64], period: float
) -> tuple[str, ...]:
    """Return what a common clock makes of a sensor's own: what is left out, and what is lacking."""
    notes = list(clock.notes())
    if used < _FEW * clock.samples:
        notes.append(
            f"{clock.samples:,} samples at {clock.rate:.4g} Hz, of which a clock of "
            f"{1 / period:.4g} Hz (data.options.period: {period:g}) uses {used:,}"
        )
    if clock.interval > period * 1.05 and len(tick) < _FEW * (tick[-1] - tick[0] + 1):
        notes.append(
            f"a sample each {clock.interval:.4g} s, but a tick each {period:g} s: "
            f"{tick[-1] - tick[0] + 1 - len(tick):,} ticks have none; a data.options.period of "
            f"{clock.interval:.4g}, or a tolerance of {clock.interval / 2:.4g} (which takes one "
            "sample for several ticks), fills them"
        )
    return tuple(notes)
