"""One sentence per claim of the paper (arXiv 2510.20540) and data set: holds or not, by how much.

`RULE` says when a claim about quality holds. No choice that favours comparison spaces is made on
test events: their entry is the one that is best on validation events, the opponent is the one that
is best on test events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, isclose
from typing import Literal

from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.summaries import (
    FRACTION,
    Entry,
    Spread,
    best,
    bytes_to,
    data_sets,
    entries,
    final_validation,
    named,
    target_of,
)
from sheafalign_fl.numbers import human_bytes, percent

Verdict = Literal["holds", "does not hold", "not measured"]
RULE = (
    "Means over seeds decide. Retrieval: the sheaf has to be above the best single space, whatever "
    "that sends. All other quality: it must not be below the best single space that sends at most "
    "5 % more bytes than the sheaf; where there is none, below the best of all. The sheaf is the "
    "main entry with the highest final R@10 on validation events; the single space is the one that "
    "is best on the very figure, on test events. A difference up to √(s₁² + s₂²), with s "
    "the standard deviations over seeds, is called within the spread: it could be chance."
)
QUALITY: dict[str, tuple[str, ...]] = {
    "retrieval": ("R@1", "R@10"),
    "zero-shot transfer": ("transfer, prototypes", "transfer, logistic"),
    "linear probe": ("probe",),
    "missing modalities": ("1 missing", "2 missing"),
}
BASELINES = ("imagebind", "clip-pairs")
"""What the paper compares bytes with."""
_SAME_BYTES = 1.05
"""At the same bytes: at most 5 % more."""
_FEWER = 20


@dataclass(frozen=True)
class Claim:
    """What came of one claim on one data set."""

    claim: str
    data: str
    verdict: Verdict
    sentence: str


def claims(benchmark: Benchmark) -> list[Claim]:
    """Return all claims on all data sets where comparison spaces and single spaces are compared."""
    found: list[Claim] = []
    for data in data_sets(benchmark):
        there = entries(benchmark, data)
        sheaf = chosen_sheaf(there)
        single = [entry for entry in there if entry.kind == "single-space"]
        if sheaf is None or not single:
            continue
        for claim, names in QUALITY.items():
            found += [_quality(claim, name, sheaf, single) for name in names]
        found += [_half_the_bytes(data, there, name) for name in BASELINES]
        found += [_bytes_to_quality(data, there, name) for name in BASELINES]
    return found


def chosen_sheaf(there: Sequence[Entry]) -> Entry | None:
    """Return the main entry of comparison spaces best on validation events, the first of equals."""
    sheaves = [entry for entry in there if entry.kind == "sheaf" and not entry.variant]
    finals = [final_validation(entry) for entry in sheaves]
    scores = [-1.0 if final is None else final.mean for final in finals]
    return sheaves[scores.index(max(scores))] if sheaves else None


def _quality(claim: str, name: str, sheaf: Entry, single: Sequence[Entry]) -> Claim:
    """Compare the sheaf with the best single space.

    In retrieval with any, else with those that send no more bytes.
    """
    anyone = claim == "retrieval"
    cheap = [entry for entry in single if entry.payload_bytes <= _SAME_BYTES * sheaf.payload_bytes]
    other = best(single if anyone else cheap, name) or best(single, name)
    ours, theirs = sheaf.score(name), None if other is None else other.score(name)
    title = f"{claim}: {name}" if len(QUALITY[claim]) > 1 else claim
    if other is None or ours is None or theirs is None:
        return Claim(
            title, sheaf.data, "not measured", f"{name} was not measured of both kinds of method."
        )
    holds = ours.mean > theirs.mean if anyone else ours.mean >= theirs.mean
    where = (
        "at any bytes"
        if anyone
        else "at the same bytes"
        if other in cheap
        else "at more bytes, as none sends so few"
    )
    sentence = (
        f"{sheaf.name} reaches {ours.percent} %; {other.name}, the best single space {where}, "
        f"reaches {theirs.percent} %: {_difference(ours, theirs)}."
    )
    overall = best(single, name)
    if overall is not None and overall is not other and (top := overall.score(name)) is not None:
        sentence += f" At any bytes the best is {overall.name} with {top.percent} %."
    return Claim(title, sheaf.data, "holds" if holds else "does not hold", sentence)


def _difference(ours: Spread, theirs: Spread) -> str:
    """Return the difference in points, and whether it is within the spread of the seeds."""
    margin = ours.mean - theirs.mean
    text = f"{100 * margin:+.1f} points"
    if min(ours.count, theirs.count) < 2:
        return f"{text}, of one seed, so its spread is unknown"
    return (
        f"{text}, within the spread"
        if abs(margin) <= hypot(ours.deviation, theirs.deviation)
        else text
    )


def _half_the_bytes(data: str, there: Sequence[Entry], name: str) -> Claim:
    """Check the paper's 50 % in its own setting: its method against a baseline, per exchange."""
    claim = f"half the bytes of {name}"
    paper, other = named(there, "paper"), named(there, name)
    ours = None if paper is None else paper.bytes_per_exchange
    theirs = None if other is None else other.bytes_per_exchange
    if paper is None or other is None or not ours or not theirs:
        return Claim(claim, data, "not measured", f"Not both paper and {name} were measured.")
    sentence = (
        f"An exchange of paper costs {human_bytes(round(ours))}, of {name} "
        f"{human_bytes(round(theirs))}: {_less(ours / theirs)}. {_why(paper, other, ours / theirs)}"
    )
    return Claim(claim, data, "holds" if ours / theirs <= 0.5 else "does not hold", sentence)


def _less(ratio: float) -> str:
    return f"{100 * (1 - ratio):.0f} % less" if ratio <= 1 else f"{100 * (ratio - 1):.0f} % more"


def _why(paper: Entry, other: Entry, ratio: float) -> str:
    """Explain a ratio of counted bytes by d_e / d and the graphs' edges, as far as these can."""
    ours, theirs = paper.cells[0], other.cells[0]
    dims = f"d_e / d = {ours.edge_dim} / {theirs.edge_dim}"
    explained = ours.edge_dim * ours.directions / (theirs.edge_dim * theirs.directions)
    if ours.codec != theirs.codec or not isclose(ratio, explained, rel_tol=0.01):
        return (
            f"{dims} is a part of that; codec ({ours.codec}, {theirs.codec}) and shared events "
            "make the rest."
        )
    if ours.directions == theirs.directions:
        return f"That is {dims} alone, as both graphs have the same edges."
    edges = f"{ours.directions} / {theirs.directions}"
    text = f"That is {dims} times the directed edges, {edges}"
    n = theirs.clients
    if (ours.directions, theirs.directions) == (n * (n - 1), 2 * (n - 1)):
        return (
            f"{text}: a star has fewer edges than a complete graph, which counts against the "
            "smaller space."
        )
    return f"{text}."


def _bytes_to_quality(data: str, there: Sequence[Entry], name: str) -> Claim:
    """Check a twentieth of the bytes until R@10 is at 95 % of the baseline's final value.

    Both values are those on validation events.
    """
    claim = f"a twentieth of {name}'s bytes to its quality"
    lean = next(
        (entry for entry in there if (entry.kind, entry.variant) == ("sheaf", "lean")), None
    )
    other = named(there, name)
    target = None if other is None else target_of(other)
    if (
        lean is None
        or other is None
        or target is None
        or not any(cell.curve for cell in lean.cells)
    ):
        return Claim(
            claim,
            data,
            "not measured",
            f"Not both a lean sheaf and {name} were measured on the way.",
        )
    ours, theirs = bytes_to(lean, target), bytes_to(other, target)
    wanted = (
        f"R@10 of {percent(target)} % ({100 * FRACTION:.0f} % of {name}'s final value, on "
        "validation events)"
    )
    if ours.spread is None or theirs.spread is None or ours.count < ours.seeds:
        sentence = (
            f"lean reaches {wanted} with {ours.count} of {ours.seeds} seeds; {name} with "
            f"{theirs.count} of "
        )
        return Claim(claim, data, "does not hold", f"{sentence}{theirs.seeds}.")
    ratio = theirs.spread.mean / ours.spread.mean
    some = (
        ""
        if theirs.count == theirs.seeds
        else f" (the {theirs.count} of {theirs.seeds} seeds that got there)"
    )
    sentence = (
        f"lean reaches {wanted} after {ours.spread.bytes}, {name} after "
        f"{theirs.spread.bytes}{some}: {ratio:.{0 if ratio >= 10 else 1}f} times as much."
    )
    return Claim(claim, data, "holds" if ratio >= _FEWER else "does not hold", sentence)
