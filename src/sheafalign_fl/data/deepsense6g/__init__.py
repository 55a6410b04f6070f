"""`deepsense6g`: scenarios of DeepSense 6G that the user has on disk (https://www.deepsense6g.net).

One loader for all kinds of tables, told apart by their columns (`columns.ALIASES`):

============  =====================================================================================
table         what it is
============  =====================================================================================
plain         scenarios 1 to 9 and 31 to 34: a row for each frame, sequences in `seq_index`
blockage      scenario 30: `unit1_blockage` besides
windows       scenarios 17 to 22 and the challenge: a row for each N frames (`unit1_rgb_1` to `_N`,
              the newest last); rows that share files are one sequence
authors       as the paper's authors prepared them: `unit1_lidar_SCR`, `blockage_label`
============  =====================================================================================

Sequences are split, never rows. A machine that holds one modality needs the table and that
modality's files only.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import UNLABELLED, ModalityData
from sheafalign_fl.data.deepsense6g.columns import (
    frames_of_a_row,
    is_windowed,
    names_of_frames,
    steps_of,
)
from sheafalign_fl.data.deepsense6g.gathered import Gathered, gathered_power, rows_of
from sheafalign_fl.data.deepsense6g.labels import BEAMS, LABELS, labels_of
from sheafalign_fl.data.deepsense6g.tables import Table, find_tables, linked
from sheafalign_fl.data.description import Modality, Option, SourceInfo
from sheafalign_fl.data.frames import OPTIONS, Frames, Sensor, check_options, load_frames
from sheafalign_fl.data.preparation import Files
from sheafalign_fl.data.readers.clouds import AngleScan, CloudPoints, RangeImage, scan_span
from sheafalign_fl.data.readers.links import BeamPower, Position
from sheafalign_fl.data.readers.pictures import CameraPicture
from sheafalign_fl.data.readers.radar import RadarMaps
from sheafalign_fl.errors import ConfigError, DataError

_IDS_OF_A_TABLE = 10_000_000
_ROWS_OF_A_BLOCK = 100
"""Rows that count as one sequence where a table does not say what its sequences are."""
_SCANS_LOOKED_AT = 64
_SPLITTINGS = ("sequences", "tables")
_SENSORS: dict[str, tuple[tuple[str, ...], Sensor]] = {
    "camera": (
        ("camera",),
        Sensor(CameraPicture(64, 64), "camera", "channels", "(window, 64, 64)", "grey picture"),
    ),
    "camera-colour": (
        ("camera",),
        Sensor(
            CameraPicture(64, 112, grey=False),
            "camera",
            "channels",
            "(3 window, 64, 112)",
            "colour picture",
        ),
    ),
    "lidar": (
        ("lidar",),
        Sensor(
            RangeImage(),
            "range-image",
            "channels",
            "(2 window, 16, 128)",
            "range (m) and intensity, all round",
        ),
    ),
    "lidar-points": (
        ("lidar",),
        Sensor(
            CloudPoints(),
            "points",
            "frames",
            "(window, 4, 256)",
            "x, y, z and intensity of 256 points",
        ),
    ),
    "lidar-scan": (
        ("scan",),
        Sensor(
            AngleScan(),
            "scan",
            "channels",
            "(window, 216)",
            "range (m) in 216 directions; authors' variant, older series",
        ),
    ),
    "radar": (
        ("radar",),
        Sensor(
            RadarMaps(),
            "radar",
            "channels",
            "(2 window, 64, 64)",
            "range-angle and range-Doppler maps, dB",
        ),
    ),
    "beam": (
        ("power",),
        Sensor(
            BeamPower(BEAMS), "beam", "frames", "(window, 64)", "received power in 64 beams, dB"
        ),
    ),
    "gps": (
        ("user", "unit"),
        Sensor(
            Position(),
            "vector",
            "channels",
            "(2 window,)",
            "the user's metres east and north of the unit",
        ),
    ),
}
"""Modality -> the roles of its columns (see `columns.ALIASES`), and how its files are read."""

INFO = SourceInfo(
    name="deepsense6g",
    summary="DeepSense 6G: scenarios 1 to 34, the challenge, the paper authors' variant; by sequence.",
    origin="your files, from https://www.deepsense6g.net",
    modalities=tuple(
        Modality(name, sensor.shape, sensor.meaning) for name, (_, sensor) in _SENSORS.items()
    ),
    options=(
        *OPTIONS,
        Option(
            "scenarios",
            "str",
            "",
            "only these tables, such as scenario31,scenario32; empty: all in the folder",
        ),
        Option("window", "int", 1, "frames of an event (rows of N frames: at most N)"),
        Option("stride", "int", 1, "frames from one event to the next"),
        Option(
            "splits",
            "str",
            "sequences",
            "sequences: by the seed, whole; tables: as *_train.csv, *_val.csv and *_test.csv say",
        ),
        Option("horizon", "int", 2, "frames that blockage_ahead looks ahead of an event's last"),
    ),
    labels=LABELS,
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return one modality of all tables in the folder; the event id is that of its last frame.

    Raises
    ------
    ConfigError
        An option is out of range.
    DataError
        There is no table, it lacks the modality's columns, or its files are not as they should be.
    """
    check_options(options, INFO.name)
    if options["splits"] not in _SPLITTINGS:
        raise ConfigError(
            f"data.options.splits: must be {' or '.join(_SPLITTINGS)}, not '{options['splits']}'"
        )
    tables = find_tables(Path(str(options["path"])), str(options["scenarios"]))
    windowed = {is_windowed(table) for table in tables}
    if len(windowed) > 1:
        raise DataError(
            f"{options['path']}: holds tables with a row for each frame and others with a row for "
            "several; choose with data.options.scenarios"
        )
    roles, sensor = _SENSORS[modality]
    window, stride = int(options["window"]), int(options["stride"])
    if windowed == {True}:
        _check_rows(window, stride)
        parts = [_windowed_frames(table, roles, modality, options) for table in tables]
        window = stride = _common_length(parts, modality, options)
        return _loaded(parts, [], sensor, modality, seed, options, (window, stride))
    gathered = [gathered_power(table) if roles == ("power",) else None for table in tables]
    parts = [
        _plain_frames(table, roles, power, modality, options)
        for table, power in zip(tables, gathered, strict=True)
    ]
    return _loaded(parts, gathered, sensor, modality, seed, options, (window, stride))


def present(folder: Path) -> list[str]:
    """Return the modalities whose columns some table in `folder` has."""
    try:
        tables = find_tables(folder)
    except DataError:  # said when they are loaded
        tables = []
    return [
        name
        for name, (roles, _) in _SENSORS.items()
        if any(_has(table, name, roles[0]) for table in tables)
    ]


def _has(table: Table, modality: str, role: str) -> bool:
    if role == "power" and gathered_power(table) is not None:
        return True
    if role == "lidar" and steps_of(table, "scan") == steps_of(table, "lidar"):
        return False  # its files are `.mat`, which are scans as a rule
    return bool(steps_of(table, role))


def _loaded(
    parts: Sequence[Frames],
    gathered: Sequence[Gathered | None],
    sensor: Sensor,
    modality: str,
    seed: int,
    options: dict[str, Any],
    cut: tuple[int, int],
) -> ModalityData:
    frames = _joined(parts)
    if isinstance(sensor.reader, AngleScan):
        step = max(1, len(frames.files) // _SCANS_LOOKED_AT)
        first, last = scan_span(files[0] for files in frames.files[::step])
        sensor = replace(sensor, reader=replace(sensor.reader, first=first, last=last))
        note = f"scans from {first:.4f} to {last:.4f} rad"
        frames = replace(frames, notes=(*frames.notes, note))
    known = [each for each in gathered if each is not None]
    if known and len(known) != len(gathered):
        raise DataError(
            f"{options['path']}: some tables have a file of power for each row and others one for "
            "all; choose with data.options.scenarios"
        )
    read = (lambda files: rows_of(known, files)) if known else None
    return load_frames(
        frames, sensor, modality, seed, options, window=cut[0], stride=cut[1], read=read
    )


# ---- a row for each frame ----------------------------------------------------------------------


def _joined(parts: Sequence[Frames]) -> Frames:
    """Return the frames of all tables, one after the other."""
    names = [label.name for label in LABELS if any(label.name in part.labels for part in parts)]
    given = [part.split for part in parts if part.split is not None]
    return Frames(
        files=[files for part in parts for files in part.files],
        where=[where for part in parts for where in part.where],
        event_ids=np.concatenate([part.event_ids for part in parts]),
        recording=np.concatenate([part.recording for part in parts]),
        position=np.concatenate([part.position for part in parts]),
        group=np.concatenate([part.group for part in parts]),
        groups=[group for part in parts for group in part.groups or ()],
        labels={name: np.concatenate([_label(part, name) for part in parts]) for name in names},
        classes={label.name: label.classes for label in LABELS if label.name in names},
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        split=np.concatenate(given) if given else None,
    )


def _label(part: Frames, name: str) -> NDArray[np.int64]:
    return part.labels.get(name, np.full(len(part.files), UNLABELLED, dtype=np.int64))


def _plain_frames(
    table: Table,
    roles: Sequence[str],
    gathered: Gathered | None,
    modality: str,
    options: dict[str, Any],
) -> Frames:
    named: list[list[Path | None]]
    if gathered is not None:
        rows = [Path(str(row)) for row in range(len(table.rows))]
        named, chosen = [[gathered.path] * len(rows), list(rows)], gathered.note
    else:
        columns = [step for role in roles for step in _one(table, role, roles, modality)]
        named, chosen = [table.files(column) for column in columns], _chosen(table, columns)
    index = (
        table.numbers("index", least=1)
        if "index" in table.columns
        else np.arange(1, len(table.rows) + 1)
    )
    # `seq_index` starts again in every scenario, so a sequence is named by both.
    sequence, note = _sequences(table)
    _check_index(table, index, sequence)
    group = np.array([f"{table.scenario}/{value:06d}" for value in sequence.tolist()])
    given = _given_splits(table, options)
    keep, files, absent = _files(table, named, modality, given)
    recording = group if given is None else np.char.add(group, given.astype(np.str_))
    labels, notes = labels_of(table, group, index, int(options["horizon"]))
    return Frames(
        files=files,
        where=[table.where(row) for row in keep.tolist()],
        event_ids=(table.number * _IDS_OF_A_TABLE + index)[keep],
        recording=recording[keep],
        position=index[keep],
        group=group[keep],
        groups=np.unique(group).tolist(),
        labels={name: values[keep] for name, values in labels.items()},
        notes=(*table.notes, chosen, *notes, *note, *absent),
        split=None if given is None else given[keep].astype(np.uint8),
    )


def _one(table: Table, role: str, roles: Sequence[str], modality: str) -> tuple[str, ...]:
    """Return the column of a role in a table of a row for each frame, as a tuple of one or none."""
    columns = steps_of(table, role)
    if not columns and role == roles[0]:
        raise DataError(
            f"{table.path}: has no column for {modality}, such as '{_usual(role)}'; "
            "see data.options.scenarios"
        )
    return columns[-1:]


def _usual(role: str) -> str:
    return {"scan": "unit1_lidar_SCR", "user": "unit2_loc", "power": "unit1_pwr_60ghz"}.get(
        role, {"camera": "unit1_rgb"}.get(role, f"unit1_{role}")
    )


def _chosen(table: Table, columns: Sequence[str]) -> str:
    shown = [columns[0]] if len(columns) == 1 else [columns[0], columns[-1]]
    return (
        f"{table.scenario}: read {' and '.join(shown) if len(columns) < 3 else ' to '.join(shown)}"
    )


def _sequences(table: Table) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if "seq_index" in table.columns:
        return table.numbers("seq_index"), ()
    note = (
        f"{table.scenario}: has no seq_index; {_ROWS_OF_A_BLOCK} rows that follow each other are "
        "one sequence"
    )
    return np.arange(len(table.rows), dtype=np.int64) // _ROWS_OF_A_BLOCK, (note,)


def _check_index(table: Table, index: NDArray[np.int64], sequence: NDArray[np.int64]) -> None:
    if (unknown := (index < 0) | (sequence < 0)).any():
        raise DataError(f"{table.where(int(np.argmax(unknown)))}: has no index or no seq_index")
    values, first, counts = np.unique(index, return_index=True, return_counts=True)
    if (double := counts > 1).any():
        row = int(first[np.argmax(double)])
        raise DataError(
            f"{table.where(row)}: index {values[np.argmax(double)]} is there more than once"
        )
    if values[-1] >= _IDS_OF_A_TABLE:
        raise DataError(f"{table.where(int(np.argmax(index)))}: index {values[-1]} is too large")


def _given_splits(table: Table, options: dict[str, Any]) -> NDArray[np.int64] | None:
    if options["splits"] != "tables":
        return None
    if table.splits is None:
        raise ConfigError(
            f"data.options.splits: {table.path} has no {table.scenario}_train.csv, _val or _test "
            "beside it; leave splits at sequences"
        )
    return table.splits


def _files(
    table: Table,
    columns: Sequence[Sequence[Path | None]],
    modality: str,
    given: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.intp], list[Files], tuple[str, ...]]:
    """Return the rows that are used, the files that each names in every column, and notes."""
    keep, files = [], []
    absent = 0
    for row, paths in enumerate(zip(*columns, strict=True)):
        named = tuple(path for path in paths if path is not None)
        absent += len(named) != len(columns)
        if len(named) == len(columns) and (given is None or given[row] != UNLABELLED):
            keep.append(row)
            files.append(named)
    if not keep:
        raise DataError(f"{table.path}: no row names a file")
    note = f"{table.scenario}: {absent} of {len(table.rows)} rows name no file of {modality}"
    return np.array(keep, dtype=np.intp), files, (note,) if absent else ()


# ---- a row for each N frames -------------------------------------------------------------------


def _check_rows(window: int, stride: int) -> None:
    if stride != 1:
        raise ConfigError(
            "data.options.stride: rows of several frames are events; leave stride at 1"
        )
    if window < 1:
        raise ConfigError(f"data.options.window: must be 1 or more, not {window}")


def _common_length(parts: Sequence[Frames], modality: str, options: dict[str, Any]) -> int:
    """Return how many frames each row gives; they must be the same in all tables."""
    length, *others = sorted({len(np.unique(part.position)) for part in parts})
    if others:
        raise DataError(
            f"{options['path']}: rows give {length} frames of {modality} in some tables and "
            f"{others[0]} in others; choose with data.options.scenarios, or a smaller window"
        )
    return length


def _windowed_frames(
    table: Table, roles: Sequence[str], modality: str, options: dict[str, Any]
) -> Frames:
    """Return the last `window` frames of every row; every row is a recording of its own."""
    chosen = _steps(table, roles, modality, int(options["window"]))
    sequence = linked(names_of_frames(table))
    groups = [f"{table.scenario}/{value:06d}" for value in sequence.tolist()]
    given = _given_splits(table, options)
    nothing = np.empty(0, dtype=np.int64)
    labels, notes = labels_of(table, nothing, nothing, int(options["horizon"]))
    named = [table.files(name) for step in chosen for name in step]
    keep, files, absent = _files(table, named, modality, given)
    steps, width = len(chosen), len(chosen[0])
    at = np.repeat(keep, steps)
    return Frames(
        files=[row[k * width : (k + 1) * width] for row in files for k in range(steps)],
        where=[table.where(row) for row in at.tolist()],
        event_ids=table.number * _IDS_OF_A_TABLE + at + 1,
        recording=table.number * _IDS_OF_A_TABLE + at,
        position=np.tile(np.arange(steps), len(keep)),
        group=np.array(groups)[at],
        groups=np.unique(groups).tolist(),
        labels={name: values[at] for name, values in labels.items()},
        notes=(
            *table.notes,
            _chosen(table, [step[0] for step in chosen]),
            *notes,
            *_leaks(table, sequence, given),
            *absent,
        ),
        split=None if given is None else given[at].astype(np.uint8),
    )


def _steps(table: Table, roles: Sequence[str], modality: str, window: int) -> list[tuple[str, ...]]:
    """Return the columns of each of the last `window` frames of a row.

    What is given once is one frame; a sensor that is slower than the others gives fewer.
    """
    first, *others = (steps_of(table, role) for role in roles)
    if not first:
        raise DataError(
            f"{table.path}: has no columns '{_usual(roles[0])}' or '{_usual(roles[0])}_1', which "
            f"{modality} needs"
        )
    if window > len(first) and len(first) == frames_of_a_row(table) > 1:
        raise ConfigError(
            f"data.options.window: a row of {table.path.name} has {len(first)} frames, not {window}"
        )
    # The unit stands still: its one position, where it is given, is that of all frames.
    still = tuple(other[-1] for other in others if other)
    return [(column, *still) for column in first[-window:]]


def _leaks(
    table: Table, sequence: NDArray[np.int64], given: NDArray[np.int64] | None
) -> tuple[str, ...]:
    """Return a note on sequences that the tables' own splits divide: training sees testing there."""
    if given is None:
        return ()
    divided = sum(
        len(set(given[sequence == value].tolist()) - {UNLABELLED}) > 1
        for value in np.unique(sequence).tolist()
    )
    note = (
        f"{table.scenario}: {divided} of {len(np.unique(sequence))} sequences (rows that share "
        "files) are in several of the tables' own splits"
    )
    return (note,) if divided else ()
