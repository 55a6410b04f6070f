"""What exported folders hold, by plain code that shares nothing with the loader."""

import csv
from pathlib import Path
from typing import Any

from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.data.scenes.world import World, build_world

SIZES = {"plain": (60, 6), "blockage": (48, 12), "challenge": (40, 8), "authors": (36, 9)}
"""Variant -> events, frames of a sequence."""
Rows = list[dict[str, str]]


def world_of(variant: str) -> World:
    events, frames = SIZES[variant]
    return build_world(
        0, events=events, frames=frames, horizon=5, night=0.25, fog=0.2, traffic=0.75, trees=0.5
    )


def tables(folder: Path) -> dict[int, Rows]:
    """Return number of the scenario -> its rows, with the table's folder under '/'."""
    found = {}
    for path in sorted(folder.glob("*/*.csv")):
        with path.open(newline="") as file:
            found[int(path.stem[-2:])] = [
                {**row, "/": str(path.parent)} for row in csv.DictReader(file)
            ]
    return found


def all_rows(folder: Path) -> list[tuple[int, dict[str, str]]]:
    return [(number, row) for number, rows in tables(folder).items() for row in rows]


def write(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, [name for name in rows[0] if name != "/"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(rows)


def load(folder: Path, modality: str, seed: int = 0, **options: Any) -> Any:
    return load_modality("deepsense6g", modality, seed, {"path": str(folder), **options}, "test")
