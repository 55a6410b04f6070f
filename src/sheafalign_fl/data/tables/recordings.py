"""What a folder has beside `.npz` files, and how it becomes the same arrays as one of these.

===========================================  ==================================================
in the folder                                a modality of this name
===========================================  ==================================================
``NAME.csv`` ``.tsv`` (``.gz``) ``.parquet`` rows are samples; columns by their names
``SESSION/NAME.csv`` ...                     the same, a sequence for each folder, as loggers of
                                             phones write them (phyphox, Physics Toolbox)
``NAME.wav`` ``.flac`` ``.ogg``              frames of a spectrum, by time
``NAME/*.npy`` ``*.wav`` ...                 a file for each event; in folders: their labels
===========================================  ==================================================
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.tables import arrays as event_files
from sheafalign_fl.data.tables import columns as table_files
from sheafalign_fl.data.tables.columns import Columns, read_columns
from sheafalign_fl.data.tables.logger import experiment_to_system_time
from sheafalign_fl.data.tables.roles import Roles, roles_of
from sheafalign_fl.errors import DataError
from sheafalign_fl.listing import listed

_SHOWN = 8


@dataclass(frozen=True)
class Recording:
    """One modality.

    Attributes
    ----------
    path
        Its file, for messages; the folder where there are several.
    arrays
        As in a `.npz` file of the source `folder`: x, time or event_id, label, sequence, split.
    notes
        What was understood.
    encoder
        The encoder that suits it, where its shape does not say.
    blank
        Array of whole numbers -> which of its rows a table left empty: -1 stands there.
    """

    path: Path
    arrays: dict[str, NDArray[Any]]
    notes: tuple[str, ...] = ()
    encoder: str | None = None
    blank: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    """The files of one modality."""

    kind: str
    """table, sessions, sound or events."""
    files: tuple[Path, ...]
    folder: Path


def find_recordings(folder: Path) -> list[str]:
    """Return the names of the modalities in `folder` that are no `.npz` files, sorted."""
    return sorted(_found(folder))


def read_recording(folder: Path, modality: str) -> Recording:
    """Return the arrays of a modality in `folder`.

    Raises
    ------
    DataError
        There is none of this name; or its files cannot be read, or do not belong together.
    """
    found = _found(folder).get(modality)
    if found is None:
        raise DataError(f"{folder}: has no table, sound or folder of files for '{modality}'")
    return _read(found, tuple(_stamp(path) for path in found.files))


@lru_cache(maxsize=8)
def _read(found: _Found, stamp: tuple[Any, ...]) -> Recording:
    """Read files once for all that ask for them, until their `stamp` changes."""
    if found.kind in ("table", "sessions"):
        sessions = found.kind == "sessions"
        return _of_tables({path.parent.name if sessions else None: path for path in found.files})
    if found.kind == "sound":
        path = found.files[0]
        samples, rate = event_files.read_sound(path)
        x, time = event_files.spectrum(samples, rate)
        note = f"frames of a spectrum of {len(samples) / rate:.1f} s at {rate} Hz"
        return Recording(path, {"x": x, "time": time}, (note,))
    arrays = event_files.read_events(found.folder, found.files)
    sound = found.files[0].suffix.lower() in event_files.SOUNDS
    note = f"{len(found.files)} files, an event each"
    return Recording(found.folder, arrays, (note,), "audio" if sound else None)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _found(folder: Path) -> dict[str, _Found]:
    modalities: dict[str, _Found] = {}
    for path in listed(folder):
        if path.is_dir():
            files = files_of_events(path)
            if files:
                _add(modalities, path.name, _Found("events", files, path))
        elif stem := stem_of(path, table_files.ENDINGS):
            _add(modalities, stem, _Found("table", (path,), folder))
        elif stem := stem_of(path, event_files.SOUNDS):
            _add(modalities, stem, _Found("sound", (path,), folder))
    return modalities or _sessions(folder)


def _sessions(folder: Path) -> dict[str, _Found]:
    files: dict[str, list[Path]] = {}
    for path in listed(folder, "*/*"):
        if path.is_file() and (stem := stem_of(path, table_files.ENDINGS)):
            files.setdefault(stem, []).append(path)
    return {stem: _Found("sessions", tuple(paths), folder) for stem, paths in files.items()}


def files_of_events(folder: Path) -> tuple[Path, ...]:
    """Return the files of a folder that holds one for each event, or one level below; else ()."""
    for pattern in ("*", "*/*"):
        found = tuple(
            path
            for path in listed(folder, pattern)
            if path.is_file() and stem_of(path, event_files.ENDINGS)
        )
        if found:
            return found
    return ()


def stem_of(path: Path, endings: Iterable[str]) -> str:
    """Return a file's name without its ending where it has one of `endings`, else nothing."""
    name = path.name.lower()
    ending = max((each for each in endings if name.endswith(each)), key=len, default="")
    return path.name[: -len(ending)] if ending else ""


def _add(modalities: dict[str, _Found], name: str, found: _Found) -> None:
    if name in modalities:
        other = modalities[name]
        raise DataError(
            f"{found.files[0]}: gives the modality '{name}', as {other.files[0]} does; rename one"
        )
    modalities[name] = found


# ---- tables --------------------------------------------------------------------------------------


def _of_tables(paths: dict[str | None, Path]) -> Recording:
    tables = [read_columns(path) for path in paths.values()]
    roles = roles_of(list(tables[0].arrays))
    for table in tables[1:]:
        if list(table.arrays) != list(tables[0].arrays):
            raise DataError(
                f"{table.path}: has other columns than {tables[0].path}: {', '.join(table.arrays)}"
            )
    values = [name for name in roles.values if _numeric(tables, name)]
    texts = [name for name in roles.values if name not in values]
    if not values:
        raise DataError(f"{tables[0].path}: has no column of numbers that are values")
    arrays = {"x": np.concatenate([_values(table, values) for table in tables])}
    if roles.time is not None:
        arrays["time"] = np.concatenate([_times(table, roles) for table in tables])
    blank = {}
    for array, column in roles.named.items():
        cells = np.concatenate([table.arrays[column] for table in tables])
        arrays[array] = _whole(cells)
        if cells.dtype.kind == "f" and arrays[array].dtype.kind != "f":
            blank[array] = np.isnan(cells)
    if "sequence" not in arrays and None not in paths:
        lengths = [len(next(iter(table.arrays.values()))) for table in tables]
        arrays["sequence"] = np.repeat([str(name) for name in paths], lengths)
    arrays |= _given_ids(arrays)
    notes = [*dict.fromkeys(note for table in tables for note in table.notes)]
    path = tables[0].path
    if len(tables) > 1:  # beside the folders of its sessions, though nothing is there
        path = path.parents[1] / stem_of(path, table_files.ENDINGS)
    return Recording(path, arrays, (_understood(roles, values, texts), *notes), blank=blank)


def _numeric(tables: list[Columns], name: str) -> bool:
    return all(table.arrays[name].dtype.kind in "fiub" for table in tables)


def _values(table: Columns, names: list[str]) -> NDArray[Any]:
    """Return the values of all samples, (N, F), or (N, ...) where one column holds whole arrays."""
    whole = [name for name in names if table.arrays[name].ndim > 1]
    if not whole:
        return np.stack([table.arrays[name] for name in names], axis=1)
    if len(names) > 1:
        raise DataError(
            f"{table.path}: '{whole[0]}' holds lists, and other columns hold values too; "
            "a modality is one or the other"
        )
    return table.arrays[names[0]]


def _times(table: Columns, roles: Roles) -> NDArray[Any]:
    """Return times in seconds where the header says the unit; else as they are."""
    name, unit = roles.time or ("", None)
    times = table.arrays[name]
    if roles.date is not None and times.dtype.kind == "f":
        return _dated(table, roles.date, times)
    if unit is not None and times.dtype.kind in "fiu":
        # Whole numbers of nanoseconds are divided as such: multiplying by 1e-9 rounds twice.
        times = times / (1 / unit) if unit < 1 else times * unit
    return experiment_to_system_time(times, table.path.parent)


def _dated(table: Columns, column: str, times: NDArray[Any]) -> NDArray[Any]:
    """Return dates and times of day, in two columns, as dates."""
    try:
        days: NDArray[Any] = table.arrays[column].astype("datetime64[D]")
    except ValueError:
        raise DataError(
            f"{table.path}: '{column}' holds dates that are not written as 2026-03-29"
        ) from None
    # Times of day go on after midnight, and so does the date: the first day is that of all.
    start = days.astype("datetime64[ns]")[0]
    return np.asarray(start + (times * 1e9).round().astype("timedelta64[ns]"))


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers of classes and the like as whole ones, -1 where a cell is empty."""
    if values.dtype.kind != "f":
        return values
    known = np.where(np.isnan(values), -1.0, values)
    return known.astype(np.int64) if (known == np.floor(known)).all() else values


def _given_ids(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return what is not there and has to be: rows are events by their number."""
    if "event_id" in arrays or "time" in arrays:
        return {}
    return {"event_id": np.arange(len(arrays["x"]), dtype=np.int64)}


def _understood(roles: Roles, values: list[str], texts: list[str]) -> str:
    """Return in one line what was made of a table's columns."""
    parts = []
    if roles.time is not None:
        name, unit = roles.time
        parts.append(f"time from '{name}'" + ("" if unit is None else f" ({unit:g} s)"))
    parts += [f"{array} from '{column}'" for array, column in roles.named.items()]
    shown = ", ".join(f"'{name}'" for name in values[:_SHOWN])
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    parts.append(f"{len(values)} values from {shown}{more}")
    unused = [*roles.left, *texts]
    if unused:
        parts.append("not used: " + ", ".join(f"'{name}'" for name in unused))
    return "; ".join(parts)
