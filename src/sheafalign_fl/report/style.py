"""How figures look, and how they become SVG that can stand inside an HTML page."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sheafalign_fl.report.page import Html, figure

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
)
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#5b4b8a", "#8c6d31")
_PIXELS = 96 / 72 * 1.12
"""Pixels for a point, a little enlarged: figures are set in 9 point, the page in 16 pixels."""
INK, GREY, PALE = "#1f2933", "#7b8794", "#d9dee4"

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#e9edf1",
    "grid.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "sheafalign",
    "text.color": INK,
    # Names of clients are no formulas, whatever dollar signs they hold.
    "text.parse_math": False,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw in the report's style inside the block, whatever the user's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_figure(
    width: float, height: float, panels: int = 1, *, share: str = ""
) -> tuple[Figure, list[Axes]]:
    """Return a windowless figure of `width` x `height` inches with `panels` axes side by side.

    `share` names the axes that the panels have in common: "", "y" or "xy".
    """
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, panels, squeeze=False, sharex="x" in share, sharey="y" in share)
    return figure, list(axes[0])


def to_svg(figure: Figure, name: str) -> str:
    """Return `figure` as an ``<svg>`` element.

    All its ids begin with `name`, so that the figures of a page differ.
    """
    buffer = io.StringIO()
    with figure_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    opening, rest = text.split(">", 1)
    # A height in points would fix the size; the view box and the style sheet decide instead.
    width = re.search(r'\bwidth="([0-9.]+)pt"', opening)
    opening = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    return (
        f'{opening} style="max-width: {float(width[1]) * _PIXELS:.0f}px" role="img">{rest}'
        if width
        else text
    )


def draw(name: str, drawn: Figure | None, title: str, caption: str) -> Html | None:
    """Return a figure for the page, None where there was nothing to draw."""
    return None if drawn is None else figure(to_svg(drawn, name), title, caption)
