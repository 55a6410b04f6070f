"""The figures of one run's report.

Every function draws and returns a new figure, or None where there is nothing to draw. They expect
to be called inside `style.figure_style`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from sheafalign_fl.metrics.missing import Missing
from sheafalign_fl.metrics.probe import Probe
from sheafalign_fl.metrics.retrieval import Retrieval
from sheafalign_fl.numbers import human_bytes, mean
from sheafalign_fl.protocol.rows import EdgeBytes, EvaluationRow
from sheafalign_fl.report.content import direction, in_order, is_edge
from sheafalign_fl.report.style import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    VERMILION,
    new_figure,
)
from sheafalign_fl.runs.course import BestFacts
from sheafalign_fl.runs.reading import ExchangePoint, Projection
from sheafalign_fl.sheaf.terms import TOTAL, title_of

_MOST_BARS = 30
_MOST_EVENTS = 250
_MOST_LINKS = 80


def loss_curves(exchanges: Sequence[ExchangePoint]) -> Figure | None:
    """Draw the loss against exchanges.

    Left is the weighted total, right are its unweighted terms, on a logarithmic axis.
    """
    points = [point for point in exchanges if point.losses]
    if not points:
        return None
    figure, (left, right) = new_figure(9.2, 3.3, 2)
    x = np.array([point.exchange + 1 for point in points])
    _curve(left, x, np.array([point.losses["total"] for point in points]), INK, "total")
    left.set_title("Total")
    terms = dict.fromkeys(name for point in points for name in point.losses if name != TOTAL)
    for term, colour in zip(terms, cycle(CYCLE), strict=False):
        values = np.array([point.losses.get(term, np.nan) for point in points])
        if (values > 0).any():
            _curve(right, x, np.where(values > 0, values, np.nan), colour, title_of(term))
    right.set_yscale("log")
    right.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=9))
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.set_title("By term, unweighted")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=4)
    for axes in (left, right):
        axes.set_xlabel("exchange")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        _mark_absences(axes, exchanges)
    return figure


def retrieval_curves(
    evaluations: Sequence[EvaluationRow], best: BestFacts | None = None
) -> Figure | None:
    """Draw R@1 and R@10 by exchanges and by training payload: mean over directions, and range.

    A line shows R@10 before training, where it was measured, and another one the `best` exchange.
    """
    rows = [row for row in evaluations if row.quality.retrieval]
    if not rows:
        return None
    figure, panels = new_figure(9.2, 3.3, 2, share="y")
    for axes, by_bytes in zip(panels, (False, True), strict=True):
        _retrieval_panel(axes, rows, by_bytes=by_bytes)
        _mark_course(axes, rows, best, by_bytes=by_bytes)
    panels[0].set_ylabel("recall, %")
    panels[0].set_title("Against exchanges")
    panels[1].set_title("Against training payload")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure


def _mark_course(
    axes: Axes, rows: Sequence[EvaluationRow], best: BestFacts | None, *, by_bytes: bool
) -> None:
    """Mark what was measured before training, and the exchange that was best."""
    places = {
        row.exchange: row.payload_bytes if by_bytes else row.exchange
        for row in rows
        if row.quality.split == "validation"
    }
    if 0 in places:
        untrained = _recalls([row for row in rows if row.exchange == 0][:1], 10, _mean)[0]
        axes.axhline(untrained, color=ORANGE, linewidth=1, linestyle="--", label="R@10, untrained")
    if best is not None and best.exchange in places:
        told = f"best, exchange {best.exchange}"
        axes.axvline(places[best.exchange], color=INK, linewidth=1, linestyle=":", label=told)


def bytes_bars(rows: Sequence[EdgeBytes], clients: Sequence[str]) -> Figure | None:
    """Draw what training sent over every directed edge: payload, framing, relay.

    Where edges are many, it is drawn by client.
    """
    edges = in_order([row for row in rows if row.purpose == "train" and is_edge(row)], clients)
    if not edges:
        return None
    by_client = len(edges) > _MOST_BARS
    totals: dict[str, NDArray[np.float64]] = {}
    for row in edges:
        key = row.source if by_client else direction(row.source, row.target)
        framing, relay = row.message_bytes - row.payload_bytes, row.relay_bytes - row.message_bytes
        totals[key] = totals.get(key, np.zeros(3)) + np.array([row.payload_bytes, framing, relay])
    parts = np.array(list(totals.values()))
    bars = range(len(parts))
    figure, (axes,) = new_figure(9.2, 1.1 + 0.24 * len(parts) if len(parts) <= _MOST_BARS else 5.5)
    start = np.zeros(len(parts))
    for part, (label, colour) in enumerate(
        (("payload", BLUE), ("framing", ORANGE), ("relay", PALE))
    ):
        axes.barh(bars, parts[:, part], left=start, color=colour, label=label, height=0.72)
        start = start + parts[:, part]
    axes.set_yticks(bars, list(totals) if len(parts) <= _MOST_BARS else [""] * len(parts))
    axes.invert_yaxis()
    axes.margins(y=0.6 / len(parts))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(BYTES_AXIS)
    axes.set_xlabel(
        "bytes of training, by sending client"
        if by_client
        else "bytes of training, by directed edge"
    )
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def missing_curve(rows: Sequence[Missing], probes: Sequence[Probe]) -> Figure | None:
    """Draw the fused probe's accuracy against the number of missing clients.

    Ridge regression is in front where there is one; runs of earlier versions have the paper's way
    alone.
    """
    if not rows:
        return None
    figure, (axes,) = new_figure(5.4, 3.6)
    x = [row.missing for row in rows]
    marks: dict[str, Any] = {"markersize": 5.5 if len(x) <= 20 else 0}
    own_way = [100 * row.imputed for row in rows]
    first, worst = own_way, [100 * row.worst_imputed for row in rows]
    ridge = [(row.ridge, row.worst_ridge) for row in rows]
    if all(found is not None for found, _ in ridge):
        first = [100 * (found or 0.0) for found, _ in ridge]
        worst = [100 * (found or 0.0) for _, found in ridge]
        axes.plot(x, own_way, "D-.", color=GREEN, label="the paper's way", **marks)
    axes.plot(x, first, "o-", color=BLUE, label="imputed from neighbours", zorder=3, **marks)
    axes.fill_between(
        x, worst, first, color=BLUE, alpha=0.12, linewidth=0, label="down to the worst subset"
    )
    axes.plot(
        x, [100 * row.mean_fill for row in rows], "s--", color=ORANGE, label="mean-fill", **marks
    )
    axes.plot(
        x, [100 * row.zero_fill for row in rows], "^:", color=VERMILION, label="zero-fill", **marks
    )
    if (majority := mean(probe.majority for probe in probes)) is not None:
        axes.axhline(
            100 * majority,
            color=GREY,
            linewidth=1,
            linestyle=(0, (2, 3)),
            label="most frequent class",
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("missing clients")
    axes.set_ylabel("accuracy, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def recall_matrix(rows: Sequence[Retrieval], clients: Sequence[str]) -> Figure | None:
    """Draw R@10 of every direction as a square; only for three clients and more."""
    if not rows or len(clients) < 3:
        return None
    index = {client: number for number, client in enumerate(clients)}
    values = np.full((len(clients), len(clients)), np.nan)
    for row in rows:
        values[index[row.source], index[row.target]] = 100 * row.recall_at_10
    size = min(2.2 + 0.42 * len(clients), 7.5)
    figure, (axes,) = new_figure(size + 1.4, size)
    image = axes.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=0, vmax=100)
    if len(clients) <= 12:
        for source, target in zip(*np.nonzero(np.isfinite(values)), strict=True):
            colour = "white" if values[source, target] > 55 else INK
            text = f"{values[source, target]:.0f}"
            axes.text(target, source, text, ha="center", va="center", color=colour, fontsize=9)
    names = list(clients) if len(clients) <= 40 else [""] * len(clients)
    font = 8.5 if len(clients) <= 20 else 6
    axes.set_xticks(
        range(len(clients)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=font
    )
    axes.set_yticks(range(len(clients)), names, fontsize=font)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set_xlabel("to (gallery)")
    axes.set_ylabel("from (query)")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="R@10, %")
    bar.outline.set_visible(False)
    return figure


def projection_plot(projection: Projection) -> Figure:
    """Draw an edge's comparison space, flattened to its two main directions: by end, and by label.

    Principal components of unit vectors, since retrieval compares by cosine; both ends are
    projected together.
    """
    labels = projection.labels[:_MOST_EVENTS]
    a, b, explained = _two_components(projection.z_i[:_MOST_EVENTS], projection.z_j[:_MOST_EVENTS])
    figure, (left, right) = new_figure(9.2, 4.3, 2)
    # A thin line for some events joins the two ends: short lines are good.
    for start, end in zip(a[:_MOST_LINKS], b[:_MOST_LINKS], strict=True):
        left.plot(
            [start[0], end[0]], [start[1], end[1]], color=GREY, linewidth=0.6, alpha=0.6, zorder=1
        )
    left.scatter(
        a[:, 0], a[:, 1], s=15, color=BLUE, label=projection.source, linewidths=0, alpha=0.85
    )
    left.scatter(
        b[:, 0],
        b[:, 1],
        s=17,
        color=ORANGE,
        label=projection.target,
        marker="^",
        linewidths=0,
        alpha=0.85,
    )
    left.set_title("By client; a line joins one event")
    left.legend(loc="best", markerscale=1.4, frameon=True, framealpha=0.85, edgecolor="none")
    _by_label(right, a, b, labels, projection.classes)
    right.set_title("By label")
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set_visible(False)
        axes.set_xlabel(f"first component ({100 * explained[0]:.0f} % of variance)")
    left.set_ylabel(f"second component ({100 * explained[1]:.0f} %)")
    return figure


def _curve(
    axes: Axes, x: NDArray[np.int64], y: NDArray[np.float64], colour: str, label: str
) -> None:
    """Draw a noisy curve faintly and its running mean clearly."""
    width = max(1, len(y) // 40)
    if width == 1:
        axes.plot(x, y, color=colour, label=label, marker="o" if len(x) == 1 else None)
        return
    axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.3)
    kernel = np.ones(width)
    known = np.where(np.isfinite(y), y, 0.0)
    # At both ends the mean is over the part of the window that exists.
    smooth = np.convolve(known, kernel, "same") / np.maximum(
        np.convolve(np.isfinite(y), kernel, "same"), 1
    )
    axes.plot(x, np.where(np.isfinite(y), smooth, np.nan), color=colour, label=label)


def _mark_absences(axes: Axes, exchanges: Sequence[ExchangePoint]) -> None:
    """Shade the exchanges in which a client was absent."""
    away = [point.exchange + 1 for point in exchanges if point.absent]
    spans: list[list[int]] = []
    for exchange in away:
        if spans and exchange == spans[-1][1] + 1:
            spans[-1][1] = exchange
        else:
            spans.append([exchange, exchange])
    for first, last in spans:
        axes.axvspan(first - 0.5, last + 0.5, color=ORANGE, alpha=0.16, linewidth=0, zorder=0)


def _retrieval_panel(axes: Axes, rows: Sequence[EvaluationRow], *, by_bytes: bool) -> None:
    validation = [row for row in rows if row.quality.split == "validation"]
    test = [row for row in rows if row.quality.split == "test"][-1:]

    def x(row: EvaluationRow) -> int:
        return row.payload_bytes if by_bytes else row.exchange

    for k, colour, mark in ((10, BLUE, "o"), (1, VERMILION, "s")):
        low, mid, high = (_recalls(validation, k, pick) for pick in (min, _mean, max))
        places = [x(row) for row in validation]
        if places:
            axes.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)
            axes.plot(
                places, mid, color=colour, marker=mark, markersize=4, label=f"R@{k}, validation"
            )
        if test:
            style: dict[str, Any] = {
                "markersize": 8,
                "markeredgewidth": 1.6,
                "linestyle": "none",
                "markerfacecolor": "white",
            }
            axes.plot(
                [x(test[0])],
                _recalls(test, k, _mean),
                marker="D",
                color=colour,
                label=f"R@{k}, test",
                **style,
            )
    last = rows[-1].quality.retrieval
    chance = 100 * _mean([min(1.0, 10 / row.events) for row in last])
    axes.axhline(chance, color=GREY, linewidth=1, linestyle=(0, (2, 3)), label="chance of R@10")
    top = max(chance, *(max(_recalls([row], 10, max)) for row in rows))
    axes.set_ylim(-0.02 * top, min(102, 1.1 * top))
    axes.set_xlim(left=0)
    if by_bytes:
        axes.xaxis.set_major_formatter(BYTES_AXIS)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_xlabel("payload bytes, all edges and directions" if by_bytes else "exchanges")


def _recalls(
    rows: Sequence[EvaluationRow], k: int, pick: Callable[[list[float]], float]
) -> list[float]:
    return [
        100 * pick([getattr(item, f"recall_at_{k}") for item in row.quality.retrieval])
        for row in rows
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _two_components(
    z_i: NDArray[np.float64], z_j: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    both = np.concatenate([z_i, z_j])
    lengths = np.linalg.norm(both, axis=1, keepdims=True)
    both = both / np.where(lengths > 0, lengths, 1.0)
    both = both - both.mean(axis=0)
    _, sizes, directions = np.linalg.svd(both, full_matrices=False)
    # A space of one dimension, or a collapsed one, has no second component.
    flat = np.zeros((len(both), 2))
    found = min(2, len(directions))
    flat[:, :found] = both @ directions[:found].T
    shares = np.append(np.square(sizes), [0.0, 0.0])
    shares = shares / (shares.sum() or 1.0)
    return flat[: len(z_i)], flat[len(z_i) :], (float(shares[0]), float(shares[1]))


def _by_label(
    axes: Axes,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
) -> None:
    known = sorted({int(label) for label in labels if label >= 0})
    shades = _shades(len(known)) if len(known) > len(CYCLE) else dict(enumerate(CYCLE))
    for rank, label in enumerate([*known, -1]):
        rows = labels == label if label >= 0 else labels < 0
        if not rows.any():
            continue
        name = (
            "no label"
            if label < 0
            else classes[label]
            if label < len(classes)
            else f"class {label}"
        )
        colour = PALE if label < 0 else shades[rank]
        look: dict[str, Any] = {
            "color": colour,
            "linewidths": 0,
            "alpha": 0.85,
            "zorder": 2 if label >= 0 else 1,
        }
        axes.scatter(a[rows, 0], a[rows, 1], s=15, label=name, **look)
        axes.scatter(b[rows, 0], b[rows, 1], s=17, marker="^", **look)
    if len(known) <= 12:
        axes.legend(loc="best", markerscale=1.4, frameon=True, framealpha=0.85, edgecolor="none")


def _shades(count: int) -> Mapping[int, str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = colormaps["viridis"]
    return {rank: to_hex(scale(rank / max(1, count - 1))) for rank in range(count)}


def _bytes_tick(value: float, _: object) -> str:
    """Return a tick such as "500 kB" or "2.5 MB"; round numbers need no trailing zeros."""
    if value < 0:
        return ""
    number, unit = human_bytes(round(value)).split(" ")
    return f"{float(number):g} {unit}"


BYTES_AXIS = FuncFormatter(_bytes_tick)
