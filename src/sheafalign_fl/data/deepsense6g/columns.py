"""What the columns of DeepSense 6G are called in its series and copies, in one table."""

import re
from collections.abc import Sequence

from sheafalign_fl.data.deepsense6g.tables import Table

ALIASES: dict[str, tuple[str, ...]] = {
    "camera": ("unit1_rgb",),
    "lidar": ("unit1_lidar",),
    "scan": ("unit1_lidar_scr", "unit1_lidar"),
    "radar": ("unit1_radar",),
    "power": ("unit1_pwr_60ghz",),
    "user": ("unit2_loc_cal", "unit2_loc"),
    "unit": ("unit1_loc",),
    "beam": ("unit1_beam", "unit1_beam_index"),
    "blockage": ("unit1_blockage", "blockage_label"),
}
"""Role -> the names of its column, in lower case, the better first (`_cal`: calibrated position).

Each may be followed by ``_1`` to ``_N``: the frames of a row, the newest last.
"""
SENSORS = ("camera", "lidar", "scan", "radar", "power", "user")
"""Roles whose cells name files that differ from frame to frame."""
AHEAD = "blockage"
"""``blockage_1`` to ``blockage_N``: is the user blocked so many frames after the row's newest?"""
AHEAD_AT_ALL = "blockage_final"
"""Is the user blocked in any of the frames after the row's newest?"""


def numbered(columns: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the columns ``NAME_1``, ``NAME_2``, ... in the order of their numbers."""
    found = {
        int(match[1]): column
        for column in columns
        if (match := re.fullmatch(rf"{re.escape(name)}_(\d+)", column))
    }
    return tuple(found[number] for number in sorted(found))


def steps_of(table: Table, role: str) -> tuple[str, ...]:
    """Return the columns of a role, one for each frame of a row, the newest last; () if none."""
    for name in ALIASES[role]:
        steps = numbered(table.columns, name) or ((name,) if name in table.columns else ())
        if steps and (role != "scan" or name != "unit1_lidar" or _scans(table, steps[0])):
            return steps
    return ()


def frames_of_a_row(table: Table) -> int:
    """Return how many frames a row has: as many as the sensor with the most."""
    return max((len(steps_of(table, role)) for role in SENSORS), default=0)


def is_windowed(table: Table) -> bool:
    """Say whether the rows are windows of frames, which `seq_index` may leave out."""
    return any(numbered(table.columns, name) for role in SENSORS for name in ALIASES[role])


def names_of_frames(table: Table) -> list[list[str]]:
    """Return for each row the files that it may have in common with others of its sequence."""
    columns = [
        column
        for role in SENSORS
        for name in ALIASES[role]
        for column in numbered(table.columns, name)
    ]
    names = [[row[column] for column in columns if row[column]] for row in table.rows]
    if "seq_index" in table.columns:
        for row, cells in zip(table.rows, names, strict=True):
            cells.append(f"sequence {row['seq_index']}")
    return names


def _scans(table: Table, column: str) -> bool:
    """Say whether the LiDAR's files are `.mat`, as scans are, and not clouds."""
    cell = next((row[column] for row in table.rows if row[column]), "")
    return cell.lower().endswith(".mat")
