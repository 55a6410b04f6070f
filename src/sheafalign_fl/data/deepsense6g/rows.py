"""What tables of both kinds have in common: files of a row, splits that are given, what is said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.deepsense6g.labels import LABELS
from sheafalign_fl.data.deepsense6g.tables import Table
from sheafalign_fl.data.preparation import Files
from sheafalign_fl.data.sensor_frames import SensorFrames
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.labels import UNLABELLED

IDS_OF_A_TABLE = 10_000_000
"""An event's id is this many times its scenario's number, and the number of its row."""


def joined(parts: Sequence[SensorFrames]) -> SensorFrames:
    """Return the frames of all tables, one after the other."""
    names = [label.name for label in LABELS if any(label.name in part.labels for part in parts)]
    given = [part.split for part in parts if part.split is not None]
    return SensorFrames(
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


def _label(part: SensorFrames, name: str) -> NDArray[np.int64]:
    return part.labels.get(name, np.full(len(part.files), UNLABELLED, dtype=np.int64))


_USUAL = {
    "camera": "unit1_rgb",
    "scan": "unit1_lidar_SCR",
    "user": "unit2_loc",
    "power": "unit1_pwr_60ghz",
}


def usual(role: str) -> str:
    """Return what the column of a role is called in most tables, for messages."""
    return _USUAL.get(role, f"unit1_{role}")


def chosen_note(table: Table, columns: Sequence[str]) -> str:
    """Return which columns are read, for the notes that `data check` prints."""
    shown = [columns[0]] if len(columns) == 1 else [columns[0], columns[-1]]
    return (
        f"{table.scenario}: read {' and '.join(shown) if len(columns) < 3 else ' to '.join(shown)}"
    )


def given_splits(table: Table, options: dict[str, Any]) -> NDArray[np.int64] | None:
    """Return (rows,): the split of each row if the tables' own are asked for; None: by sequence.

    Raises
    ------
    ConfigError
        They are asked for, and there are none.
    """
    if options["splits"] != "tables":
        return None
    if table.splits is None:
        raise ConfigError(
            f"data.options.splits: {table.path} has no {table.scenario}_train.csv, _val or _test "
            "beside it; leave splits at sequences"
        )
    return table.splits


def files_of(
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
