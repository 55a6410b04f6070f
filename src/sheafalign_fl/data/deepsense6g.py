"""`deepsense6g`: scenarios of DeepSense 6G that the user has on disk (https://www.deepsense6g.net).

One loader for four kinds of tables, told apart by their columns:

============  =====================================================================================
table         what it is
============  =====================================================================================
plain         scenarios 31 to 34: a row for each frame, sequences in `seq_index`
blockage      scenario 30: `unit1_blockage` besides
challenge     a row for each five frames (`unit1_rgb_1` to `_5`); rows that share files are one sequence
authors       as the paper's authors prepared them: `unit1_lidar_SCR`, `blockage_label`
============  =====================================================================================

Sequences are split, never rows. A machine that holds one modality needs the table and that modality's files only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import UNLABELLED, ModalityData
from sheafalign_fl.data.deepsense6g_tables import Table, find_tables, linked
from sheafalign_fl.data.description import Labels, Modality, Option, SourceInfo
from sheafalign_fl.data.frames import OPTIONS, Frames, Sensor, check_options, load_frames
from sheafalign_fl.data.preparation import Files
from sheafalign_fl.data.readers.clouds import AngleScan, CloudPoints, RangeImage
from sheafalign_fl.data.readers.links import BeamPower, Position
from sheafalign_fl.data.readers.pictures import CameraPicture
from sheafalign_fl.data.readers.radar import RadarMaps
from sheafalign_fl.data.windows import any_ahead
from sheafalign_fl.errors import ConfigError, DataError

BEAMS, SECTORS = 64, 8
_IDS_OF_A_TABLE = 10_000_000
_FRAMES_OF_A_CHALLENGE_ROW = 5
_POWER = "unit1_pwr_60ghz"
_BLOCKAGE = ("unit1_blockage", "blockage_label")
_SENSORS: dict[str, tuple[tuple[str, ...], Sensor]] = {
    "camera": (
        ("unit1_rgb",),
        Sensor(CameraPicture(64, 64), "camera", "channels", "(window, 64, 64)", "grey picture"),
    ),
    "camera-colour": (
        ("unit1_rgb",),
        Sensor(
            CameraPicture(64, 112, grey=False),
            "camera",
            "channels",
            "(3 window, 64, 112)",
            "colour picture",
        ),
    ),
    "lidar": (
        ("unit1_lidar",),
        Sensor(
            RangeImage(),
            "range-image",
            "channels",
            "(2 window, 16, 128)",
            "range (m) and intensity, all round",
        ),
    ),
    "lidar-points": (
        ("unit1_lidar",),
        Sensor(
            CloudPoints(),
            "points",
            "frames",
            "(window, 4, 256)",
            "x, y, z and intensity of 256 points",
        ),
    ),
    "lidar-scan": (
        ("unit1_lidar_SCR",),
        Sensor(
            AngleScan(),
            "scan",
            "channels",
            "(window, 216)",
            "nearest range in 216 directions; authors' variant",
        ),
    ),
    "radar": (
        ("unit1_radar",),
        Sensor(
            RadarMaps(),
            "radar",
            "channels",
            "(2 window, 64, 64)",
            "range-angle and range-Doppler maps, dB",
        ),
    ),
    "beam": (
        (_POWER,),
        Sensor(
            BeamPower(BEAMS), "beam", "frames", "(window, 64)", "received power in 64 beams, dB"
        ),
    ),
    "gps": (
        ("unit2_loc", "unit1_loc"),
        Sensor(
            Position(),
            "vector",
            "channels",
            "(2 window,)",
            "the user's metres east and north of the unit",
        ),
    ),
}
"""Modality -> the columns of its files, and how they are read."""

INFO = SourceInfo(
    name="deepsense6g",
    summary="DeepSense 6G scenarios 30 to 34, the challenge's and the paper authors' variants, split by sequence.",
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
        Option("window", "int", 1, "frames of an event (challenge: at most 5)"),
        Option("stride", "int", 1, "frames from one event to the next"),
        Option("horizon", "int", 2, "frames that blockage_ahead looks ahead of an event's last"),
    ),
    labels=(
        Labels(
            "blockage_ahead",
            ("clear", "blocked"),
            "the user is blocked in any of the next `horizon` frames",
        ),
        Labels(
            "blockage",
            ("clear", "blocked"),
            "the user is blocked in the last frame; scenario 30 and authors",
        ),
        Labels(
            "beam_sector",
            tuple(f"sector {k}" for k in range(SECTORS)),
            "eighth of the beams with the best",
        ),
        Labels("beam", tuple(str(k) for k in range(BEAMS)), "the best beam, from 0"),
    ),
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
    tables = _chosen(find_tables(Path(str(options["path"]))), str(options["scenarios"]))
    kinds = {_is_challenge(table) for table in tables}
    if len(kinds) > 1:
        raise DataError(
            f"{options['path']}: holds challenge tables and others; choose with data.options.scenarios"
        )
    columns, sensor = _SENSORS[modality]
    if kinds == {True}:
        return _load_challenge(tables, columns, sensor, modality, seed, options)
    frames = _frames(tables, columns, modality, int(options["horizon"]))
    window, stride = int(options["window"]), int(options["stride"])
    return load_frames(frames, sensor, modality, seed, options, window=window, stride=stride)


def present(folder: Path) -> list[str]:
    """Return the modalities whose columns some table in `folder` has."""
    columns = {column for table in find_tables(folder) for column in table.columns}
    if "seq_index" not in columns:
        columns |= {column.removesuffix("_1") for column in columns} | {"unit1_loc"}
    return [name for name, (wanted, _) in _SENSORS.items() if set(wanted) <= columns]


def _chosen(tables: list[Table], names: str) -> list[Table]:
    if not names.strip():
        return tables
    wanted = [name.strip() for name in names.split(",")]
    known = {table.scenario: table for table in tables}
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"data.options.scenarios: there is no table '{name}'; known: {', '.join(known)}"
            )
    return [table for table in tables if table.scenario in wanted]


def _is_challenge(table: Table) -> bool:
    return "seq_index" not in table.columns and any(
        column.endswith("_1") for column in table.columns
    )


# ---- a row for each frame ------------------------------------------------------------------------------------------


def _frames(tables: list[Table], columns: Sequence[str], modality: str, horizon: int) -> Frames:
    """Return the frames of all tables, one after the other."""
    return _joined([_table_frames(table, columns, modality, horizon) for table in tables])


def _joined(parts: Sequence[Frames]) -> Frames:
    names = [
        label.name for label in INFO.labels if any(label.name in part.labels for part in parts)
    ]
    return Frames(
        files=[files for part in parts for files in part.files],
        where=[where for part in parts for where in part.where],
        event_ids=np.concatenate([part.event_ids for part in parts]),
        recording=np.concatenate([part.recording for part in parts]),
        position=np.concatenate([part.position for part in parts]),
        group=np.concatenate([part.group for part in parts]),
        groups=[group for part in parts for group in part.groups or ()],
        labels={name: np.concatenate([_label(part, name) for part in parts]) for name in names},
        classes={label.name: label.classes for label in INFO.labels if label.name in names},
        notes=tuple(note for part in parts for note in part.notes),
    )


def _label(part: Frames, name: str) -> NDArray[np.int64]:
    return part.labels.get(name, np.full(len(part.files), UNLABELLED, dtype=np.int64))


def _table_frames(table: Table, columns: Sequence[str], modality: str, horizon: int) -> Frames:
    for column in (*columns, "seq_index"):
        if column not in table.columns:
            raise DataError(
                f"{table.path}: has no column '{column}', which {modality} needs; see data.options.scenarios"
            )
    sequence = table.numbers("seq_index")
    index = (
        table.numbers("index", least=1)
        if "index" in table.columns
        else np.arange(1, len(table.rows) + 1)
    )
    _check_index(table, index, sequence)
    keep, files = _files(table, [table.files(column) for column in columns])
    # `seq_index` starts again in every scenario, so a sequence is named by both.
    group = np.array([f"{table.scenario}/{value:06d}" for value in sequence.tolist()])
    labels, notes = _labels(table, group, index, horizon)
    notes += _absent(table, len(keep), modality)
    return Frames(
        files=files,
        where=[table.where(row) for row in keep.tolist()],
        event_ids=(table.number * _IDS_OF_A_TABLE + index)[keep],
        recording=group[keep],
        position=index[keep],
        group=group[keep],
        groups=np.unique(group).tolist(),
        labels={name: values[keep] for name, values in labels.items()},
        notes=notes,
    )


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


def _files(
    table: Table, columns: Sequence[Sequence[Path | None]]
) -> tuple[NDArray[np.intp], list[Files]]:
    """Return the rows that name a file in every column, and these files."""
    keep, files = [], []
    for row, paths in enumerate(zip(*columns, strict=True)):
        named = tuple(path for path in paths if path is not None)
        if len(named) == len(columns):
            keep.append(row)
            files.append(named)
    if not keep:
        raise DataError(f"{table.path}: no row names a file")
    return np.array(keep, dtype=np.intp), files


def _absent(table: Table, named: int, modality: str) -> tuple[str, ...]:
    lacking = len(table.rows) - named
    return (
        (f"{table.scenario}: {lacking} of {len(table.rows)} rows name no file of {modality}",)
        if lacking
        else ()
    )


def _labels(
    table: Table, group: NDArray[Any], index: NDArray[np.int64], horizon: int
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    labels: dict[str, NDArray[np.int64]] = {}
    notes: tuple[str, ...] = ()
    blockage = next((name for name in _BLOCKAGE if name in table.columns), None)
    if blockage is not None:
        blocked = table.numbers(blockage)
        if (wrong := blocked > 1).any():
            raise DataError(
                f"{table.where(int(np.argmax(wrong)))}: {blockage} must be 0, 1 or empty"
            )
        labels["blockage_ahead"] = any_ahead(blocked, group, index, horizon)
        labels["blockage"] = blocked
    if "unit1_beam" in table.columns:
        beams, notes = _beam_labels(table)
        labels |= beams
    return labels, notes


def _beam_labels(table: Table) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Return the labels beam and beam_sector, unknown where they may be wrong, and a note on how many are."""
    beam = table.numbers("unit1_beam", least=1)
    if (wrong := beam > BEAMS).any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{table.where(row)}: unit1_beam is {beam[row]}; beams are numbered from 1 to {BEAMS}"
        )
    doubtful = _sweeps_with_nan(table)
    known = (beam != UNLABELLED) & ~doubtful
    zero_based = np.where(known, beam - 1, UNLABELLED)
    sector = np.where(known, zero_based * SECTORS // BEAMS, UNLABELLED)
    count = int(doubtful.sum())
    note = f"{table.scenario}: beam labels of {count} of {len(known)} rows not used, as their sweeps hold NaN"
    return {"beam_sector": sector, "beam": zero_based}, (note,) if count else ()


def _sweeps_with_nan(table: Table) -> NDArray[np.bool_]:
    """Return which rows' power sweeps hold NaN, as far as the files are here: the best beam may be another."""
    doubtful = np.zeros(len(table.rows), dtype=bool)
    for row, path in enumerate(table.files(_POWER) if _POWER in table.columns else ()):
        if path is not None and path.is_file():
            doubtful[row] = b"nan" in path.read_bytes().lower()
    return doubtful


# ---- a row for each five frames ------------------------------------------------------------------------------------


def _load_challenge(
    tables: list[Table],
    columns: Sequence[str],
    sensor: Sensor,
    modality: str,
    seed: int,
    options: dict[str, Any],
) -> ModalityData:
    """Return the last `window` frames of every row; every row is a recording of its own, of as many frames."""
    if options["stride"] != 1:
        raise ConfigError(
            "data.options.stride: the rows of the challenge are its events; leave stride at 1"
        )
    if options["window"] < 1:
        raise ConfigError(f"data.options.window: must be 1 or more, not {options['window']}")
    # The challenge does not say where the unit is, so its positions are not from there.
    columns = columns[:1]
    parts = [
        _challenge_frames(table, columns, modality, int(options["window"])) for table in tables
    ]
    length, *others = sorted({len(np.unique(part.position)) for part in parts})
    if others:
        raise DataError(
            f"{options['path']}: rows give {length} frames of {modality} in some tables and {others[0]} in others; "
            "choose with data.options.scenarios, or a smaller window"
        )
    frames = _joined(parts)
    return load_frames(frames, sensor, modality, seed, options, window=length, stride=length)


def _challenge_frames(table: Table, columns: Sequence[str], modality: str, window: int) -> Frames:
    chosen = _challenge_columns(table, columns, modality, window)
    sequence = _challenge_sequences(table)
    rows = np.arange(len(table.rows))
    labels, notes = _beam_labels(table) if "unit1_beam" in table.columns else ({}, ())
    keep, files = _files(table, [table.files(name) for step in chosen for name in step])
    notes += _absent(table, len(keep), modality)
    steps = len(chosen)
    frames: list[Files] = []
    for named in files:
        width = len(named) // steps
        frames += [named[step * width : (step + 1) * width] for step in range(steps)]
    at = np.repeat(rows[keep], steps)
    group = np.array([f"{table.scenario}/{value:06d}" for value in sequence[at].tolist()])
    return Frames(
        files=frames,
        where=[table.where(row) for row in at.tolist()],
        event_ids=table.number * _IDS_OF_A_TABLE + at + 1,
        recording=table.number * _IDS_OF_A_TABLE + at,
        position=np.tile(np.arange(steps), len(keep)),
        group=group,
        groups=np.unique([f"{table.scenario}/{value:06d}" for value in sequence.tolist()]).tolist(),
        labels={name: values[at] for name, values in labels.items()},
        notes=notes,
    )


def _challenge_columns(
    table: Table, columns: Sequence[str], modality: str, window: int
) -> list[tuple[str, ...]]:
    """Return the columns of each of the last `window` frames of a row; what is given once is one frame."""
    known = set(table.columns)
    numbered = [
        tuple(f"{column}_{step}" for column in columns)
        for step in range(1, _FRAMES_OF_A_CHALLENGE_ROW + 1)
    ]
    there = [step for step in numbered if set(step) <= known]
    if not there:
        if not set(columns) <= known:
            raise DataError(
                f"{table.path}: has no columns '{columns[0]}' or '{columns[0]}_1', which {modality} needs"
            )
        return [tuple(columns)]
    if window > len(there) and len(there) == _FRAMES_OF_A_CHALLENGE_ROW:
        raise ConfigError(
            f"data.options.window: a row of the challenge has {len(there)} frames, not {window}"
        )
    return there[-window:]


def _challenge_sequences(table: Table) -> NDArray[np.int64]:
    """Return the sequence of each row: rows that name a file of the unit's sensors or of the user in common."""
    shared = [name for name in table.columns if name[:-1].endswith("_") and name[-1].isdigit()]
    return linked([[row[name] for name in shared if row[name].strip()] for row in table.rows])
