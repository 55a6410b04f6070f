"""The paper's claims about bytes: half of them for an exchange, and far fewer to a quality."""

from collections.abc import Sequence
from math import isclose, log10

from sheafalign_fl.benchmark.results import Cell
from sheafalign_fl.benchmark.statistics import Paired
from sheafalign_fl.benchmark.summaries import (
    FRACTION,
    Entry,
    Reached,
    bytes_to,
    first_reach,
    named,
    per_seed,
    target_of,
)
from sheafalign_fl.benchmark.verdicts import Evidence, Finding
from sheafalign_fl.numbers import human_bytes, percent

BASELINES = ("imagebind", "clip-pairs")
"""What the paper compares bytes with."""
LEAN = "lean"
"""The variant that is made for few bytes."""
_FEWER = 20


def half_the_bytes(data: str, there: Sequence[Entry], name: str) -> Finding:
    """Check the paper's 50 % in its own setting: its method against a baseline, per exchange.

    Bytes are counted, not sampled, so the verdict needs no test.
    """
    claim = f"half the bytes of {name}"
    paper, other = named(there, "paper"), named(there, name)
    ours = None if paper is None else paper.bytes_per_exchange
    theirs = None if other is None else other.bytes_per_exchange
    if paper is None or other is None or not ours or not theirs:
        return Finding(claim, data, f"Not both paper and {name} were measured.", "not measured")
    messages = paper.message_bytes / paper.exchanges, other.message_bytes / other.exchanges
    sentence = (
        f"An exchange of paper costs {human_bytes(round(ours))}, of {name} "
        f"{human_bytes(round(theirs))}: {_less(ours / theirs)} (with all framing "
        f"{_less(messages[0] / messages[1])}). {_why(paper, other, ours / theirs)}"
    )
    return Finding(claim, data, sentence, "holds" if ours / theirs <= 0.5 else "does not hold")


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


def bytes_to_quality_claims(data: str, there: Sequence[Entry], *, whole: bool) -> list[Finding]:
    """Check a twentieth of each baseline's bytes, and fewer bytes than those of its lean variant.

    Bytes are those until R@10 is at 95 % of the opponent's final value.
    """
    found = []
    for name in BASELINES:
        claim = f"a twentieth of {name}'s bytes to its quality"
        found.append(_bytes_to_quality(claim, data, there, named(there, name), _FEWER, whole=whole))
    for other in there:
        if other.kind == "single-space" and other.base and other.variant == LEAN:
            claim = f"fewer bytes than {other.base} to its quality, both lean"
            found.append(_bytes_to_quality(claim, data, there, other, 1, whole=whole))
    return found


def _bytes_to_quality(
    claim: str,
    data: str,
    there: Sequence[Entry],
    other: Entry | None,
    fewer: float,
    *,
    whole: bool,
) -> Finding:
    """Check `fewer` times fewer bytes until R@10 is at 95 % of the opponent's final value.

    Both values are those on validation events. Of an opponent that does not get to its own target
    with a seed all bytes are counted, which is less than it would need.
    """
    lean = lean_sheaf(there)
    target = None if other is None else target_of(other)
    curves = lean is not None and any(cell.curve for cell in lean.cells)
    if lean is None or other is None or target is None or not curves:
        text = "Not both a lean sheaf and the other method were measured on the way."
        return Finding(claim, data, text, "not measured")
    ours, theirs = bytes_to(lean, target), bytes_to(other, target)
    wanted = (
        f"R@10 of {percent(target)} % ({100 * FRACTION:.0f} % of {other.name}'s final value, on "
        "validation events)"
    )
    if ours.spread is None or ours.count < ours.seeds:
        text = (
            f"{lean.name} reaches {wanted} with {ours.count} of {ours.seeds} seeds; {other.name} "
            f"with {theirs.count} of {theirs.seeds}."
        )
        return Finding(claim, data, text, "does not hold")
    values = per_seed(lean, other, lambda cell: _spent(cell, target), whole=whole)
    if not values:
        text = f"No seed is there of both {lean.name} and {other.name}."
        return Finding(claim, data, text, "not measured")
    ratios = Paired.of([log10(b / a) - log10(fewer) for a, b in values])
    middle = fewer * 10**ratios.mean
    framing = lean.framing / other.framing
    sentence = (
        f"{lean.name} reaches {wanted} after {ours.spread.bytes}, {other.name} "
        f"{_after(theirs)}: {_times(middle)} times as much (with all framing "
        f"{_times(middle / framing)}), geometric mean of the seeds."
    )
    above, below = ratios.above(), ratios.below()
    if ratios.deviation == 0:
        # Exactly a twentieth is one; exactly as many bytes are no fewer.
        met = ratios.mean > 0 or (ratios.mean == 0 and fewer > 1)
        above, below = (0.0, 1.0) if met else (1.0, 0.0)
    evidence = Evidence(ratios, above, below, ratios.count, fewer)
    return Finding(claim, data, sentence, evidence=evidence, methods=(lean.method, other.method))


def lean_sheaf(there: Sequence[Entry]) -> Entry | None:
    """Return the variant of comparison spaces that is made for few bytes."""
    leans = (entry for entry in there if (entry.kind, entry.variant) == ("sheaf", LEAN))
    return next(leans, None)


def _spent(cell: Cell, target: float) -> float:
    """Return the payload until the target, or all of it where the target was not reached."""
    reached = first_reach(cell, target)
    return float(cell.curve[-1].payload_bytes if reached is None else reached)


def _after(reached: Reached) -> str:
    """Return after how many bytes, and with how many seeds if not with all."""
    if reached.spread is None:
        return f"with none of {reached.seeds} seeds, so all that it sent is counted"
    text = f"after {reached.spread.bytes}"
    if reached.count == reached.seeds:
        return text
    return f"{text} (the {reached.count} of {reached.seeds} seeds that got there)"


def _times(ratio: float) -> str:
    return f"{ratio:.{0 if ratio >= 10 else 1}f}"
