"""Labels of DeepSense 6G's rows: blockage now and ahead, the best beam and its sector."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.deepsense6g.columns import AHEAD, AHEAD_AT_ALL, numbered, steps_of
from sheafalign_fl.data.deepsense6g.gathered import gathered_power
from sheafalign_fl.data.deepsense6g.tables import Table
from sheafalign_fl.data.description import Labels
from sheafalign_fl.data.readers.base import BadFileError
from sheafalign_fl.data.readers.links import read_sweep
from sheafalign_fl.data.windows import any_ahead
from sheafalign_fl.errors import DataError
from sheafalign_fl.labels import UNLABELLED

BEAMS, SECTORS = 64, 8
LABELS = (
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
        "blockage_final",
        ("clear", "blocked"),
        "the user is blocked in any later frame that the table looks at; scenarios 17 to 22",
    ),
    Labels(
        "beam_sector",
        tuple(f"sector {k}" for k in range(SECTORS)),
        "eighth of the beams with the best",
    ),
    Labels("beam", tuple(str(k) for k in range(BEAMS)), "the best beam, from 0"),
)
Values = dict[str, NDArray[np.int64]]


def labels_of(
    table: Table, group: NDArray[Any], index: NDArray[np.int64], horizon: int
) -> tuple[Values, tuple[str, ...]]:
    """Return the labels of each row, `UNLABELLED` where unknown, and what is worth saying of them.

    Parameters
    ----------
    group, index
        (rows,): the sequence of each row and its place there; empty where rows are windows, which
        say themselves what is ahead.
    horizon
        How many frames `blockage_ahead` looks ahead.
    """
    labels: Values = {}
    used: list[str] = []
    notes: tuple[str, ...] = ()
    ahead = numbered(table.columns, AHEAD)
    now = steps_of(table, "blockage")
    if now:
        labels["blockage"] = _blocked(table, now[-1])
        used.append(now[-1])
        if len(index):
            labels["blockage_ahead"] = any_ahead(labels["blockage"], group, index, horizon)
    if ahead:
        looked = ahead[:horizon]
        labels["blockage_ahead"] = _any([_blocked(table, column) for column in looked])
        used.append(looked[0] if len(looked) == 1 else f"{looked[0]} to {looked[-1]}")
    if AHEAD_AT_ALL in table.columns:
        labels[AHEAD_AT_ALL] = _blocked(table, AHEAD_AT_ALL)
        used.append(AHEAD_AT_ALL)
    if beam := steps_of(table, "beam"):
        beams, notes = _beams(table, beam[-1])
        labels |= beams
        used.append(beam[-1])
    chosen = f"{table.scenario}: labels from {', '.join(used) if used else 'nothing'}"
    return labels, (chosen, *notes)


def _any(values: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    stacked = np.stack(values)
    known = (stacked != UNLABELLED).all(axis=0)
    return np.where((stacked == 1).any(axis=0), 1, np.where(known, 0, UNLABELLED)).astype(np.int64)


def _blocked(table: Table, column: str) -> NDArray[np.int64]:
    values = table.numbers(column)
    if (wrong := values > 1).any():
        raise DataError(f"{table.where(int(np.argmax(wrong)))}: {column} must be 0, 1 or empty")
    return values


def _beams(table: Table, column: str) -> tuple[Values, tuple[str, ...]]:
    """Return the labels beam and beam_sector, unknown where they may be wrong, and how many are."""
    beam = table.numbers(column, least=1)
    if (wrong := beam > BEAMS).any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{table.where(row)}: {column} is {beam[row]}; beams are numbered from 1 to {BEAMS}"
        )
    doubtful = _sweeps_with_nan(table)
    known = (beam != UNLABELLED) & ~doubtful
    zero_based = np.where(known, beam - 1, UNLABELLED)
    sector = np.where(known, zero_based * SECTORS // BEAMS, UNLABELLED)
    count = int(doubtful.sum())
    note = (
        f"{table.scenario}: beam labels of {count} of {len(known)} rows not used, as their "
        "sweeps hold NaN"
    )
    return {"beam_sector": sector, "beam": zero_based}, (note,) if count else ()


def _sweeps_with_nan(table: Table) -> NDArray[np.bool_]:
    """Return which rows' newest power sweeps hold NaN, as far as the files are here.

    The best beam may be another there.
    """
    gathered = gathered_power(table)
    if gathered is not None:
        return np.asarray(np.isnan(gathered.power).any(axis=1))
    doubtful = np.zeros(len(table.rows), dtype=bool)
    for column in steps_of(table, "power")[-1:]:
        for row, path in enumerate(table.files(column)):
            if path is not None and path.is_file():
                try:
                    doubtful[row] = bool(np.isnan(read_sweep(path)).any())
                except BadFileError:  # said by whoever reads the powers themselves
                    continue
    return doubtful
