"""The figures of a benchmark's report."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sheafalign_fl.benchmark.summaries import Entry, Spread, imputed
from sheafalign_fl.report.plots import BYTES_AXIS
from sheafalign_fl.report.style import CYCLE, GREY, new_figure

_MARKS = "osD^vPX*<>hp"
_DASHES = ("-", "--", "-.", ":")


def pareto_plot(found: Sequence[Entry]) -> Figure | None:
    """Draw test R@10 against training payload, one mark for each method, and the front that no method betters."""
    points = [
        (entry.payload_bytes, spread, number, entry.method)
        for number, entry in enumerate(found)
        if entry.payload_bytes > 0 and (spread := entry.score("R@10")) is not None
    ]
    if not points:
        return None
    figure, (axes,) = new_figure(7.6, 4.2)
    for payload, spread, number, name in points:
        look: dict[str, Any] = {"color": CYCLE[number % len(CYCLE)], "marker": _MARKS[number % len(_MARKS)]}
        axes.errorbar(
            payload, 100 * spread.mean, yerr=100 * spread.deviation, label=name, linestyle="", capsize=2, **look
        )
    front = _front([(payload, spread) for payload, spread, _, _ in points])
    axes.step([x for x, _ in front], [y for _, y in front], where="post", color=GREY, linewidth=1, zorder=0)
    _bytes_axis(axes)
    axes.set_xlabel("training payload, all edges and directions")
    _finish(figure, axes, "R@10 on test events, %")
    return figure


def learning_plot(found: Sequence[Entry]) -> Figure | None:
    """Draw validation R@10 against training payload: a line for each seed, a colour for each method."""
    if not any(cell.curve for entry in found for cell in entry.cells):
        return None
    figure, (axes,) = new_figure(7.6, 4.2)
    for number, entry in enumerate(found):
        for index, cell in enumerate(cell for cell in entry.cells if cell.curve):
            axes.plot(
                [point.payload_bytes for point in cell.curve],
                [100 * point.recall_at_10 for point in cell.curve],
                label=entry.method if index == 0 else None,
                color=CYCLE[number % len(CYCLE)],
                linestyle=_DASHES[number // len(CYCLE) % len(_DASHES)],
                linewidth=1.2,
            )
    _bytes_axis(axes)
    axes.set_xlabel("training payload, all edges and directions")
    _finish(figure, axes, "R@10 on validation events, %")
    return figure


def missing_plot(found: Sequence[Entry]) -> Figure | None:
    """Draw the fused probe's accuracy, imputed, against the number of missing clients; means over seeds."""
    figure, (axes,) = new_figure(7.6, 4.0)
    drawn = False
    for number, entry in enumerate(found):
        counts = [point.missing for point in entry.cells[0].missing]
        if not counts:
            continue
        drawn = True
        spreads = [Spread.of(imputed(cell, count) for cell in entry.cells) for count in counts]
        look: dict[str, Any] = {"color": CYCLE[number % len(CYCLE)], "marker": _MARKS[number % len(_MARKS)]}
        values = [100 * spread.mean for spread in spreads if spread is not None]
        axes.plot(counts, values, label=entry.method, linestyle=_DASHES[number // len(CYCLE) % 4], **look)
    if not drawn:
        return None
    axes.set_xticks(sorted({point.missing for entry in found for point in entry.cells[0].missing}))
    axes.set_xlabel("missing clients")
    _finish(figure, axes, "accuracy, imputed, %")
    return figure


def _front(points: Sequence[tuple[float, Spread]]) -> list[tuple[float, float]]:
    """Return (bytes, %) of the points that no cheaper point is as good as."""
    front: list[tuple[float, float]] = []
    for payload, spread in sorted(points, key=lambda point: (point[0], -point[1].mean)):
        if not front or 100 * spread.mean > front[-1][1]:
            front.append((payload, 100 * spread.mean))
    return front


def _bytes_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(BYTES_AXIS)
    axes.xaxis.set_minor_formatter("")


def _finish(figure: Figure, axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper")
