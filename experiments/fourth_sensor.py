"""`python -m experiments.fourth_sensor OUT`: a sensor beside three that stay as they are.

Three sensors of the built-in scenes learn together. Then a fourth one comes: beside the three as
they are (`freeze: true`, `init_from`), or all four anew. R@10 of test events over the new edges and
over the old ones, and what was sent, by seed and in the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

import sheafalign_fl as sf
from sheafalign_fl.report.content import Table
from sheafalign_fl.report.tables import rich_table
from sheafalign_fl.runs.reading import Run

OLD, NEW = ("camera", "lidar", "radar"), "beam"
NAMES = {
    "three": "three",
    "a fourth, the three frozen": "frozen",
    "a fourth, all go on": "going-on",
    "all four anew": "anew",
}
"""What is run -> its folder."""


@dataclass(frozen=True)
class Outcome:
    """What one run has come to: R@10 over new and old edges, payload of training, seconds."""

    new: float | None
    old: float
    payload: int
    seconds: float

    @classmethod
    def of(cls, run: Run) -> "Outcome":
        """Return that of a run that is complete."""
        quality = run.quality
        if quality is None:
            raise RuntimeError(f"{run.path} was not measured")
        found: dict[bool, list[float]] = {True: [], False: []}
        for row in quality.retrieval:
            found[NEW in (row.source, row.target)].append(row.recall_at_10)
        payload = sum(row.payload_bytes for row in run.bytes if row.purpose == "train")
        new = float(np.mean(found[True])) if found[True] else None
        return cls(new, float(np.mean(found[False])), payload, run.seconds)


def main(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    seeds: Annotated[str, typer.Option(help="With commas.")] = "0,1,2",
    events: Annotated[int, typer.Option(help="Scenes.")] = 4000,
    exchanges: Annotated[int, typer.Option(help="Of each run.")] = 200,
) -> None:
    """Print the table."""
    found: dict[str, list[Outcome]] = {name: [] for name in NAMES}
    for seed in map(int, seeds.split(",")):
        where = out / f"seed-{seed}"
        common = _settings(seed, events, exchanges)
        three = {**common, "clients": list(OLD)}
        four = {**common, "clients": [*OLD, NEW]}
        frozen: dict[str, Any] = {**{name: {"freeze": True} for name in OLD}, NEW: {}}
        start = str((where / "three").resolve())
        runs = (
            three, {**common, "clients": frozen, "init_from": start},
            {**four, "init_from": start}, four,
        )  # fmt: skip
        for (name, folder), settings in zip(NAMES.items(), runs, strict=True):
            found[name].append(Outcome.of(sf.run(settings, where / folder)))
    rows = tuple(_row(name, outcomes) for name, outcomes in found.items())
    columns = ("", f"R@10, edges of {NEW}", "R@10, edges of the three", "payload", "seconds")
    title = f"{events} scenes, {exchanges} exchanges, seeds {seeds}: mean (deviation)"
    Console(width=120).print(rich_table(Table(title, columns, rows, text_columns=1)))


def _settings(seed: int, events: int, exchanges: int) -> dict[str, Any]:
    return {
        "name": "fourth",
        "seed": seed,
        "engine": "inprocess",
        "data": {"source": "scenes", "options": {"events": events}},
        "training": {"exchanges": exchanges, "batch_size": 128},
        "evaluation": {"every": 0, "metrics": ["retrieval"]},
    }


def _row(name: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    new = [outcome.new for outcome in outcomes if outcome.new is not None]
    old = [outcome.old for outcome in outcomes]
    payload = f"{np.mean([outcome.payload for outcome in outcomes]) / 1e6:.1f} MB"
    seconds = f"{np.mean([outcome.seconds for outcome in outcomes]):.0f}"
    return name, _mean(new), _mean(old), payload, seconds


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "–"
    deviation = f" ({100 * np.std(values, ddof=1):.1f})" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f} %{deviation}"


if __name__ == "__main__":
    typer.run(main)
