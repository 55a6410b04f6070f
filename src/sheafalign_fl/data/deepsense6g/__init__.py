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

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.deepsense6g.columns import is_windowed, steps_of
from sheafalign_fl.data.deepsense6g.gathered import Gathered, gathered_power, rows_of
from sheafalign_fl.data.deepsense6g.labels import LABELS
from sheafalign_fl.data.deepsense6g.plain import plain_frames
from sheafalign_fl.data.deepsense6g.rows import joined
from sheafalign_fl.data.deepsense6g.sensors import SENSORS
from sheafalign_fl.data.deepsense6g.tables import Table, find_tables
from sheafalign_fl.data.deepsense6g.windowed import check_rows, common_length, windowed_frames
from sheafalign_fl.data.description import Modality, Option, SourceInfo
from sheafalign_fl.data.readers.clouds import AngleScan, scan_span
from sheafalign_fl.data.sensor_frames import (
    OPTIONS,
    Sensor,
    SensorFrames,
    check_options,
    load_sensor_frames,
)
from sheafalign_fl.errors import ConfigError, DataError

_SCANS_LOOKED_AT = 64
_SPLITTINGS = ("sequences", "tables")

INFO = SourceInfo(
    name="deepsense6g",
    summary=(
        "DeepSense 6G: scenarios 1 to 34, the challenge, the paper authors' variant; by sequence."
    ),
    origin="your files, from https://www.deepsense6g.net",
    modalities=tuple(
        Modality(name, sensor.shape, sensor.meaning) for name, (_, sensor) in SENSORS.items()
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
    if int(options["horizon"]) < 1:
        raise ConfigError(f"data.options.horizon: must be 1 or more, not {options['horizon']}")
    tables = find_tables(Path(str(options["path"])), str(options["scenarios"]))
    windowed = {is_windowed(table) for table in tables}
    if len(windowed) > 1:
        raise DataError(
            f"{options['path']}: holds tables with a row for each frame and others with a row for "
            "several; choose with data.options.scenarios"
        )
    roles, sensor = SENSORS[modality]
    window, stride = int(options["window"]), int(options["stride"])
    if windowed == {True}:
        check_rows(window, stride)
        parts = [windowed_frames(table, roles, modality, options) for table in tables]
        window = stride = common_length(parts, modality, options)
        return _loaded(parts, [], sensor, modality, seed, options, (window, stride))
    gathered = [gathered_power(table) if roles == ("power",) else None for table in tables]
    parts = [
        plain_frames(table, roles, power, modality, options)
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
        for name, (roles, _) in SENSORS.items()
        if any(_has(table, name, roles[0]) for table in tables)
    ]


def _has(table: Table, modality: str, role: str) -> bool:
    if role == "power" and gathered_power(table) is not None:
        return True
    if role == "lidar" and steps_of(table, "scan") == steps_of(table, "lidar"):
        return False  # its files are `.mat`, which are scans as a rule
    return bool(steps_of(table, role))


def _loaded(
    parts: Sequence[SensorFrames],
    gathered: Sequence[Gathered | None],
    sensor: Sensor,
    modality: str,
    seed: int,
    options: dict[str, Any],
    cut: tuple[int, int],
) -> ModalityData:
    frames = joined(parts)
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
    return load_sensor_frames(
        frames, sensor, modality, seed, options, window=cut[0], stride=cut[1], read=read
    )
