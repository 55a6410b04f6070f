"""Tables with a row for each frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.deepsense6g.columns import steps_of
from sheafalign_fl.data.deepsense6g.gathered import Gathered
from sheafalign_fl.data.deepsense6g.labels import labels_of
from sheafalign_fl.data.deepsense6g.rows import (
    IDS_OF_A_TABLE,
    chosen_note,
    files_of,
    given_splits,
    usual,
)
from sheafalign_fl.data.deepsense6g.tables import Table
from sheafalign_fl.data.sensor_frames import SensorFrames
from sheafalign_fl.errors import DataError

_ROWS_OF_A_BLOCK = 100
"""Rows that count as one sequence where a table does not say what its sequences are."""


def plain_frames(
    table: Table,
    roles: Sequence[str],
    gathered: Gathered | None,
    modality: str,
    options: dict[str, Any],
) -> SensorFrames:
    """Return the frames of `table`, one a row; the power's are those of `gathered` where given.

    Raises
    ------
    ConfigError
        The table's own splits are asked for, and it has none.
    DataError
        It has no column for `modality`, no row that names a file, or an index twice.
    """
    named: list[list[Path | None]]
    if gathered is not None:
        rows = [Path(str(row)) for row in range(len(table.rows))]
        named, chosen = [[gathered.path] * len(rows), list(rows)], gathered.note
    else:
        columns = [step for role in roles for step in _one(table, role, roles, modality)]
        named, chosen = [table.files(column) for column in columns], chosen_note(table, columns)
    index = (
        table.numbers("index", least=1)
        if "index" in table.columns
        else np.arange(1, len(table.rows) + 1)
    )
    # `seq_index` starts again in every scenario, so a sequence is named by both.
    sequence, note = _sequences(table)
    _check_index(table, index, sequence)
    group = np.array([f"{table.scenario}/{value:06d}" for value in sequence.tolist()])
    given = given_splits(table, options)
    keep, files, absent = files_of(table, named, modality, given)
    recording = group if given is None else np.char.add(group, given.astype(np.str_))
    labels, notes = labels_of(table, group, index, int(options["horizon"]))
    return SensorFrames(
        files=files,
        where=[table.where(row) for row in keep.tolist()],
        event_ids=(table.number * IDS_OF_A_TABLE + index)[keep],
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
            f"{table.path}: has no column for {modality}, such as '{usual(role)}'; "
            "see data.options.scenarios"
        )
    return columns[-1:]


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
    if values[-1] >= IDS_OF_A_TABLE:
        raise DataError(f"{table.where(int(np.argmax(index)))}: index {values[-1]} is too large")
