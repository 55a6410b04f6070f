"""What a run's report says of the learnt sheaf: spectrum and harmonic space of its Laplacian."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sheafalign_fl.numbers import percent
from sheafalign_fl.report.page import Html, paragraph
from sheafalign_fl.report.style import BLUE, ORANGE, draw, new_figure
from sheafalign_fl.runs.reading import Run
from sheafalign_fl.shares.sheaf import read_sheaf
from sheafalign_fl.sheaf.laplacian import Spectrum

_MOST_NAMED = 12


def sheaf_section(run: Run) -> list[Html | None]:
    """Return what is said of the sheaf; nothing where not all shares are in the run folder."""
    sheaf = read_sheaf(run.path)
    if sheaf is None:
        return []
    found = sheaf.spectrum()
    caption = (
        "All eigenvalues of L, in order; those of the harmonic space are 0. Good is no shape in "
        "itself: the maps' initial values have much of it already (docs/sheaf.md)."
    )
    return [
        paragraph(_words(found)),
        draw("spectrum", spectrum_plot(found), "Spectrum of the sheaf Laplacian", caption),
    ]


def _words(found: Spectrum) -> str:
    dims, harmonic = len(found.values), found.harmonic
    beyond = harmonic - found.counted
    meaning = (
        f"That is {beyond} more than dimensions alone leave free ({found.counted}), so the maps "
        "themselves let that many directions agree on every edge at once: the space of what all "
        "modalities may share."
        if beyond
        else "That is what dimensions alone leave free, the sum of all d_i less the sum of all "
        "d_e, whatever the maps are: it says nothing about how redundant the modalities are. "
        "Retrieval and consistency do."
    )
    parts = ", ".join(
        f"{client} {percent(part)} %" for client, part in list(found.parts.items())[:_MOST_NAMED]
    )
    more = ", ..." if len(found.parts) > _MOST_NAMED else ""
    return (
        f"The harmonic space, where all edges agree exactly, has {harmonic} of the {dims} "
        f"dimensions of all stalks (singular values of the coboundary up to {found.tolerance:.1g} "
        f"count as 0). {meaning} Of each client's stalk it takes: {parts}{more}."
    )


def spectrum_plot(found: Spectrum) -> Figure:
    """Draw the eigenvalues in ascending order, and where the harmonic space ends."""
    figure, (axes,) = new_figure(9.2, 2.6)
    axes.plot(range(1, len(found.values) + 1), found.values, color=BLUE)
    axes.axvline(
        found.harmonic + 0.5, color=ORANGE, linestyle="--", linewidth=1.2,
        label=f"harmonic space: {found.harmonic}",
    )  # fmt: skip
    axes.set_xlabel("eigenvalue, ascending")
    axes.set_ylabel("value")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")
    return figure
