"""One sentence for each claim of the paper (arXiv 2510.20540) and data set: holds, or not, and by how much.

A claim that one method is better than, or equal to, another "holds" if its mean over seeds is not below the other's.
Where the difference is smaller than sqrt(s1^2 + s2^2), with s the standard deviations over seeds, the sentence says
that it is within the spread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Literal

from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.summaries import Entry, Spread, best, bytes_to, data_sets, entries, target_of
from sheafalign_fl.report.numbers import human_bytes

Verdict = Literal["holds", "does not hold", "not measured"]
RULE = (
    "A claim holds if the mean over seeds is not below that of the best single-space method; differences smaller than "
    "the standard deviations together (root of the sum of squares) are marked as within the spread."
)
QUALITY: dict[str, tuple[str, ...]] = {
    "retrieval": ("R@1", "R@10"),
    "zero-shot transfer": ("transfer, prototypes", "transfer, logistic"),
    "linear probe": ("probe",),
    "missing modalities": ("1 missing", "2 missing"),
}
_SAME_BYTES = 1.05
"""At the same bytes: at most 5 % more."""
_FRACTION = 0.95
_FEWER = 20


@dataclass(frozen=True)
class Claim:
    """What came of one claim on one data set."""

    claim: str
    data: str
    verdict: Verdict
    sentence: str


def claims(benchmark: Benchmark) -> list[Claim]:
    """Return all claims on all data sets on which comparison spaces are compared with single spaces."""
    found: list[Claim] = []
    for data in data_sets(benchmark):
        there = entries(benchmark, data)
        sheaves = [entry for entry in there if entry.kind == "sheaf" and not entry.variant]
        single = [entry for entry in there if entry.kind == "single-space"]
        if not sheaves or not single:
            continue
        sheaf = next((entry for entry in sheaves if entry.method == "sheafalign"), sheaves[0])
        for claim, names in QUALITY.items():
            found += [_quality(claim, name, sheaf, single) for name in names]
        found += _half_the_bytes(data, there)
        found += _bytes_to_quality(data, there)
    return found


def _quality(claim: str, name: str, sheaf: Entry, single: Sequence[Entry]) -> Claim:
    """Compare the sheaf with the best single-space method that sends no more bytes."""
    cheap = [entry for entry in single if entry.payload_bytes <= _SAME_BYTES * sheaf.payload_bytes]
    other = best(cheap or single, name)
    ours = sheaf.score(name)
    title = f"{claim}: {name}" if len(QUALITY[claim]) > 1 else claim
    theirs = other.score(name) if other is not None else None
    if other is None or ours is None or theirs is None:
        return Claim(title, sheaf.data, "not measured", f"{name} was not measured on {sheaf.data}.")
    where = "at the same bytes" if cheap else "at more bytes, as none sends so few"
    margin = 100 * (ours.mean - theirs.mean)
    within = ", within the spread" if abs(ours.mean - theirs.mean) <= hypot(ours.deviation, theirs.deviation) else ""
    verdict: Verdict = "holds" if ours.mean >= theirs.mean else "does not hold"
    sentence = (
        f"{sheaf.method} reaches {_percent(ours)} %; {other.method}, the best single space {where}, reaches "
        f"{_percent(theirs)} %: {margin:+.1f} points{within}."
    )
    if cheap and (overall := best(single, name)) is not None and overall is not other:
        sentence += f" At any bytes the best is {overall.method} with {_percent(overall.score(name))} %."
    return Claim(title, sheaf.data, verdict, sentence)


def _half_the_bytes(data: str, there: Sequence[Entry]) -> Iterator[Claim]:
    """Check the paper's 50 % in its own setting: its method against ImageBind and CLIP-pairs, exchange by exchange."""
    paper = _named(there, "paper")
    for name in ("imagebind", "clip-pairs"):
        other = _named(there, name)
        if paper is None or other is None or not (ours := paper.bytes_per_exchange):
            continue
        if not (theirs := other.bytes_per_exchange):
            continue
        ratio = ours / theirs
        dims = paper.cells[0].edge_dim, other.cells[0].edge_dim
        links = paper.cells[0].directions, other.cells[0].directions
        sentence = (
            f"An exchange of paper costs {human_bytes(round(ours))}, of {name} {human_bytes(round(theirs))}: "
            f"{100 * (1 - ratio):.0f} % less. The ratio is d_e / d = {dims[0]} / {dims[1]} times the directed edges "
            f"that each graph has, {links[0]} / {links[1]}."
        )
        yield Claim(f"half the bytes of {name}", data, "holds" if ratio <= 0.5 else "does not hold", sentence)


def _bytes_to_quality(data: str, there: Sequence[Entry]) -> Iterator[Claim]:
    """Check a twentieth of the bytes until R@10 is at 95 % of the baseline's final value (validation events)."""
    lean = _named(there, "lean")
    for name in ("imagebind", "clip-pairs"):
        other = _named(there, name)
        if lean is None or other is None or (target := target_of(other, _FRACTION)) is None:
            continue
        claim = f"a twentieth of {name}'s bytes to its quality"
        ours, theirs = bytes_to(lean, target), bytes_to(other, target)
        wanted = f"R@10 of {100 * target:.1f} % (95 % of {name}'s final value, validation)"
        if ours.payload_bytes is None or theirs.payload_bytes is None or ours.count < ours.seeds:
            sentence = f"lean reaches {wanted} with {ours.count} of {ours.seeds} seeds."
            yield Claim(claim, data, "does not hold", sentence)
            continue
        ratio = theirs.payload_bytes / ours.payload_bytes
        sentence = (
            f"lean reaches {wanted} after {human_bytes(round(ours.payload_bytes))}, {name} after "
            f"{human_bytes(round(theirs.payload_bytes))}: {ratio:.0f} times as many."
        )
        yield Claim(claim, data, "holds" if ratio >= _FEWER else "does not hold", sentence)


def _named(there: Sequence[Entry], name: str) -> Entry | None:
    return next((entry for entry in there if entry.method == name), None)


def _percent(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{100 * spread.mean:.1f} ± {100 * spread.deviation:.1f}" if spread.count > 1 else f"{100 * spread.mean:.1f}"
