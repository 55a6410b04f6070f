"""The figures of a benchmark's report."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from sheafalign_fl.benchmark.summaries import Entry, Spread, imputed
from sheafalign_fl.report.plots import BYTES_AXIS
from sheafalign_fl.report.style import CYCLE, GREY, new_figure

_MARKS = "osD^vPX*<>hp"
_DASHES = ("-", "--", "-.", ":")


def pareto_plot(found: Sequence[Entry]) -> Figure | None:
    """Draw test R@10 against training payload, a mark for each entry, and the federated front.

    No federated entry betters one on the front. What sends nothing has no place on a logarithmic
    axis and becomes a line across.
    """
    scored = [
        (number, entry, score)
        for number, entry in enumerate(found)
        if (score := entry.score("R@10")) is not None
    ]
    if not any(entry.payload_bytes > 0 for _, entry, _ in scored):
        return None
    figure, (axes,) = new_figure(8.6, 4.2)
    for number, entry, score in scored:
        colour, _, mark = _look(number)
        if entry.payload_bytes > 0:
            axes.errorbar(
                entry.payload_bytes,
                100 * score.mean,
                yerr=100 * score.deviation if score.count > 1 else None,
                label=entry.name,
                linestyle="",
                marker=mark,
                markersize=7,
                capsize=3,
                color=colour,
            )
        else:
            axes.axhline(
                100 * score.mean,
                color=colour,
                linestyle=":",
                linewidth=1.2,
                label=f"{entry.name}: no bytes",
            )
    front = _front(
        [
            (e.payload_bytes, s)
            for _, e, s in scored
            if e.payload_bytes > 0 and e.kind != "reference"
        ]
    )
    axes.step(
        [x for x, _ in front],
        [y for _, y in front],
        where="post",
        color=GREY,
        linewidth=1,
        zorder=0,
        label="front",
    )
    _bytes_axis(axes)
    _finish(figure, axes, "R@10 on test events, %")
    return figure


def learning_plot(found: Sequence[Entry]) -> Figure | None:
    """Draw validation R@10 against training payload: a line per seed, a colour per entry."""
    figure, (axes,) = new_figure(8.6, 4.2)
    for number, entry in enumerate(found):
        colour, dashes, _ = _look(number)
        # Before the first exchange nothing was sent, which a logarithmic axis cannot show.
        curves = [
            [point for point in cell.curve if point.payload_bytes > 0] for cell in entry.cells
        ]
        for index, curve in enumerate(curve for curve in curves if curve):
            axes.plot(
                [point.payload_bytes for point in curve],
                [100 * point.recall_at_10 for point in curve],
                label=entry.name if index == 0 else None,
                color=colour,
                linestyle=dashes,
                linewidth=1.2,
                marker="." if len(curve) == 1 else None,
            )
    if not axes.lines:
        return None
    _bytes_axis(axes)
    _finish(figure, axes, "R@10 on validation events, %")
    return figure


def missing_plot(found: Sequence[Entry]) -> Figure | None:
    """Draw the fused probe's accuracy, imputed, against the number of missing clients."""
    figure, (axes,) = new_figure(8.6, 4.0)
    shown: set[int] = set()
    for number, entry in enumerate(found):
        colour, dashes, mark = _look(number)
        counts = sorted({point.missing for cell in entry.cells for point in cell.missing})
        spreads = [
            (count, Spread.of(imputed(cell, count) for cell in entry.cells)) for count in counts
        ]
        known = [(count, spread) for count, spread in spreads if spread is not None]
        if not known:
            continue
        shown.update(count for count, _ in known)
        axes.errorbar(
            [count for count, _ in known],
            [100 * spread.mean for _, spread in known],
            yerr=[100 * spread.deviation for _, spread in known] if len(entry.cells) > 1 else None,
            label=entry.name,
            color=colour,
            linestyle=dashes,
            linewidth=1.4,
            marker=mark,
            markersize=5.5,
            elinewidth=0.9,
        )
    if not shown:
        return None
    axes.set_xticks(sorted(shown))
    axes.set_xlabel("missing clients")
    _finish(figure, axes, "accuracy, imputed, %")
    return figure


def _look(number: int) -> tuple[str, str, str]:
    """Return colour, dashes and mark of the entry of this number, the same in every figure."""
    return (
        CYCLE[number % len(CYCLE)],
        _DASHES[number // len(CYCLE) % len(_DASHES)],
        _MARKS[number % len(_MARKS)],
    )


def _front(points: Sequence[tuple[float, Spread]]) -> list[tuple[float, float]]:
    """Return (bytes, %) of the points that no cheaper point is as good as."""
    front: list[tuple[float, float]] = []
    for payload, spread in sorted(points, key=lambda point: (point[0], -point[1].mean)):
        if not front or 100 * spread.mean > front[-1][1]:
            front.append((payload, 100 * spread.mean))
    return front


def _bytes_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # Within little more than a decade the powers of ten alone would leave the axis without figures.
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0), numticks=12)
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(BYTES_AXIS)
    axes.set_xlabel("training payload, all edges and directions")


def _finish(figure: Figure, axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper")
