"""Clocks of phone loggers: seconds since a recording began, and when that was."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.tables.columns import read_columns
from sheafalign_fl.errors import DataError


def experiment_to_system_time(times: NDArray[Any], folder: Path) -> NDArray[Any]:
    """Return times since 1970 for times since the start that phyphox wrote to `folder`.

    phyphox notes in ``meta/time.csv`` when the experiment was started and paused, by both clocks:
    `experiment time` and `system time`, in seconds. Recordings of several phones have only the
    latter in common. Other times, and those of other programs, are returned as they are.
    """
    path = folder / "meta" / "time.csv"
    if not path.is_file() or times.dtype.kind not in "fiu" or not len(times):
        return times
    try:
        columns = {name.lower(): values for name, values in read_columns(path).arrays.items()}
    except DataError:
        return times
    start = columns.get("event", np.array([])) == "START"
    experiment, system = columns.get("experiment time"), columns.get("system time")
    if experiment is None or system is None or not np.any(start):
        return times
    begun, offset = experiment[start], (system - experiment)[start]
    place = np.maximum(np.searchsorted(begun, times, side="right") - 1, 0)
    return np.asarray(times + offset[place])
