"""Tables with a row for every N frames, the newest last; rows that share files are one sequence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.deepsense6g.columns import frames_of_a_row, names_of_frames, steps_of
from sheafalign_fl.data.deepsense6g.labels import labels_of
from sheafalign_fl.data.deepsense6g.rows import (
    IDS_OF_A_TABLE,
    chosen_note,
    files_of,
    given_splits,
    usual,
)
from sheafalign_fl.data.deepsense6g.tables import Table, linked
from sheafalign_fl.data.sensor_frames import SensorFrames
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.labels import UNLABELLED


def check_rows(window: int, stride: int) -> None:
    """Raise `ConfigError` unless rows can be events of `window` frames."""
    if stride != 1:
        raise ConfigError(
            "data.options.stride: rows of several frames are events; leave stride at 1"
        )
    if window < 1:
        raise ConfigError(f"data.options.window: must be 1 or more, not {window}")


def common_length(parts: Sequence[SensorFrames], modality: str, options: dict[str, Any]) -> int:
    """Return how many frames each row gives; they must be the same in all tables."""
    length, *others = sorted({len(np.unique(part.position)) for part in parts})
    if others:
        raise DataError(
            f"{options['path']}: rows give {length} frames of {modality} in some tables and "
            f"{others[0]} in others; choose with data.options.scenarios, or a smaller window"
        )
    return length


def windowed_frames(
    table: Table, roles: Sequence[str], modality: str, options: dict[str, Any]
) -> SensorFrames:
    """Return the last `window` frames of every row; every row is a recording of its own."""
    chosen = _steps(table, roles, modality, int(options["window"]))
    sequence = linked(names_of_frames(table))
    groups = [f"{table.scenario}/{value:06d}" for value in sequence.tolist()]
    given = given_splits(table, options)
    nothing = np.empty(0, dtype=np.int64)
    labels, notes = labels_of(table, nothing, nothing, int(options["horizon"]))
    named = [table.files(name) for step in chosen for name in step]
    keep, files, absent = files_of(table, named, modality, given)
    steps, width = len(chosen), len(chosen[0])
    at = np.repeat(keep, steps)
    return SensorFrames(
        files=[row[k * width : (k + 1) * width] for row in files for k in range(steps)],
        where=[table.where(row) for row in at.tolist()],
        event_ids=table.number * IDS_OF_A_TABLE + at + 1,
        recording=table.number * IDS_OF_A_TABLE + at,
        position=np.tile(np.arange(steps), len(keep)),
        group=np.array(groups)[at],
        groups=np.unique(groups).tolist(),
        labels={name: values[at] for name, values in labels.items()},
        notes=(
            *table.notes,
            chosen_note(table, [step[0] for step in chosen]),
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
            f"{table.path}: has no columns '{usual(roles[0])}' or '{usual(roles[0])}_1', which "
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
    """Return a note on sequences that the tables' splits divide: training sees testing there."""
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
