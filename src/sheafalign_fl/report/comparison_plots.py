"""The figures of a report that compares runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sheafalign_fl.numbers import mean
from sheafalign_fl.report.plots import BYTES_AXIS
from sheafalign_fl.report.style import CYCLE, new_figure
from sheafalign_fl.runs.reading import Run

Groups = Mapping[str, Sequence[Run]]
_MARKS = "osD^vPX*"
_DASHES = ("-", "--", "-.", ":")


def retrieval_comparison(groups: Groups) -> Figure | None:
    """Draw each run's validation R@10 by exchanges and by training payload, a colour per method."""
    if not any(_curve(run) for runs in groups.values() for run in runs):
        return None
    figure, panels = new_figure(9.2, 3.7, 2, share="y")
    for number, (name, runs) in enumerate(groups.items()):
        for index, run in enumerate(runs):
            curve = _curve(run)
            style: dict[str, Any] = {
                "marker": _MARKS[number % len(_MARKS)],
                "label": name if index == 0 else None,
                **_look(number),
            }
            for axes, column in zip(panels, (0, 1), strict=True):
                axes.plot(
                    [row[column] for row in curve],
                    [row[2] for row in curve],
                    markersize=3.5,
                    **style,
                )
    _finish(figure, panels, "R@10 on validation events, %")
    panels[0].set_xlabel("exchanges")
    panels[1].set_xlabel("training payload, all edges and directions")
    panels[1].xaxis.set_major_formatter(BYTES_AXIS)
    panels[1].xaxis.set_major_locator(MaxNLocator(nbins=6))
    for axes in panels:
        axes.set_xlim(left=0)
    return figure


def missing_comparison(groups: Groups) -> Figure | None:
    """Draw the fused probe's accuracy, imputed, by number of missing clients; means over seeds."""
    figure, (axes,) = new_figure(6.4, 3.6)
    drawn = False
    for number, (name, runs) in enumerate(groups.items()):
        tables = [
            run.summary.quality.missing
            for run in runs
            if run.summary is not None and run.summary.quality.missing
        ]
        if not tables:
            continue
        drawn = True
        counts = range(min(len(table) for table in tables))
        values = [
            100 * float(np.mean([table[count].best_known for table in tables])) for count in counts
        ]
        axes.plot(
            counts,
            values,
            marker=_MARKS[number % len(_MARKS)],
            markersize=5,
            label=name,
            **_look(number),
        )
    if not drawn:
        return None
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("missing clients")
    _finish(figure, [axes], "accuracy, imputed, %")
    return figure


def _curve(run: Run) -> list[tuple[int, int, float]]:
    """Return (exchanges, payload bytes, mean R@10 in %) of every validation."""
    return [
        (
            row.exchange,
            row.payload_bytes,
            100 * (mean(item.recall_at_10 for item in row.quality.retrieval) or 0),
        )
        for row in run.evaluations
        if row.quality.split == "validation" and row.quality.retrieval
    ]


def _look(number: int) -> dict[str, Any]:
    return {
        "color": CYCLE[number % len(CYCLE)],
        "linestyle": _DASHES[number // len(CYCLE) % len(_DASHES)],
    }


def _finish(figure: Figure, panels: Sequence[Axes], label: str) -> None:
    panels[0].set_ylabel(label)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)))
