"""What a table's column is, as its name says: time, event, label, sequence, split, or a value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_TIMES = (
    "time", "timestamp", "time_stamp", "datetime", "date_time", "utc", "unix_time", "epoch", "t",
    "seconds", "seconds_elapsed", "elapsed", "elapsed_time", "relative_time", "experiment_time",
    "loggingtime", "systemtime", "sensor_timestamp",
)  # fmt: skip
"""Names of times, the better first; with several the first is taken, and no other is a value."""
_ROLES = {
    "event_id": ("event_id", "event", "eventid"),
    "label": ("label", "labels", "class", "target", "y", "activity", "annotation"),
    "sequence": ("sequence", "seq", "seq_index", "session", "recording", "subject", "subject_id"),
    "split": ("split", "subset"),
}
"""Array of a recording -> names of its column, the better first."""
_COUNTERS = ("", "index", "row", "frame", "sample", "no", "id")
"""Names of columns that count rows: the event where nothing else says it, and never a value."""
_UNITS = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3, "millis": 1e-3,
    "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "microseconds": 1e-6,
    "ns": 1e-9, "nsec": 1e-9, "nanoseconds": 1e-9, "nanos": 1e-9,
    "min": 60.0, "h": 3600.0,
}  # fmt: skip
"""Unit of a time in a header -> seconds."""
_WITH_UNIT = re.compile(r"(.*?)\s*[(\[{<]\s*([^)\]}>]*?)\s*[)\]}>]\s*")
_AFTER = re.compile(r"(.+?)[_ ](s|sec|seconds|ms|millis|us|ns|nanos)", re.IGNORECASE)


@dataclass(frozen=True)
class Roles:
    """Which columns of a table are what, by their names in the table.

    Attributes
    ----------
    time
        Of the time, and its unit in seconds (None: the header does not say).
    date
        Of a date that belongs to the time.
    named
        Array of a recording (`event_id`, `label`, `label_NAME`, `sequence`, `split`) -> column.
    values
        All others, in order.
    left
        Times and counters beside those that are used.
    """

    time: tuple[str, float | None] | None = None
    date: str | None = None
    named: dict[str, str] = field(default_factory=dict)
    values: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def roles_of(columns: Sequence[str]) -> Roles:
    """Return what the columns of these names are."""
    plain = {column: _plain(column) for column in columns}
    names = {column: plain[column][0] for column in columns if not _is_measured(column)}
    if any(name == "x" for name, _ in plain.values()):
        names = {column: name for column, name in names.items() if name != "y"}  # an axis
    times = [
        column
        for column, (name, _) in plain.items()
        if name in _TIMES and (name != "t" or column in names)  # T (°C) is a temperature
    ]
    times.sort(key=lambda column: _TIMES.index(plain[column][0]))
    dates = [column for column in columns if plain[column][0] == "date"]
    time = times[0] if times else dates[0] if dates else None
    date = dates[0] if times and dates else None
    named = {
        role: found[0]
        for role, called in _ROLES.items()
        if (found := [column for name in called for column in names if names[column] == name])
    }
    named |= {column.strip(): column for column in columns if column.strip().startswith("label_")}
    counters = [column for column in names if names[column] in _COUNTERS]
    if "event_id" not in named and time is None and counters:
        named["event_id"] = counters[0]
    used = {time, date, *named.values()}
    left = tuple(column for column in (*times, *dates, *counters) if column not in used)
    values = tuple(column for column in columns if column not in used and column not in left)
    unit = None if time is None else plain[time][1]
    return Roles(None if time is None else (time, unit), date, named, values, left)


def _is_measured(column: str) -> bool:
    """Say whether a header has a unit that is none of time: what it names is a value."""
    match = _WITH_UNIT.fullmatch(column.strip().lower())
    return match is not None and match[2] != "" and match[2] not in _UNITS


def _plain(column: str) -> tuple[str, float | None]:
    """Return a column's name in lower case without its unit, and the unit in seconds if it is one.

    ``Time (s)``, ``time[ms]``, ``timestamp_ns`` and ``Time since start in ms`` all have one.
    """
    name, unit = column.strip().lower(), None
    if match := _WITH_UNIT.fullmatch(name):
        name, unit = match[1], _UNITS.get(match[2])
    elif (match := _AFTER.fullmatch(name)) and _joined(match[1]) in _TIMES:
        name, unit = match[1], _UNITS[match[2]]
    elif name in ("seconds", "seconds_elapsed"):
        unit = 1.0
    if name.startswith("time since ") and " in " in name:
        name, _, after = name.rpartition(" in ")
        name, unit = "time", _UNITS.get(after)
    return _joined(name), unit


def _joined(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip())
