"""One sentence per claim of the paper (arXiv 2510.20540) and data set, and its verdict.

`RULE` says when a claim holds. No choice that favours comparison spaces is made on test events:
their entry is the one that is best on validation events, and it has to be above every single space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sheafalign_fl.benchmark.byte_claims import BASELINES, bytes_to_quality_claims, half_the_bytes
from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.statistics import ENOUGH_SEEDS, LEVEL, Paired
from sheafalign_fl.benchmark.summaries import (
    ON_PAIRS,
    Entry,
    Spread,
    best,
    data_sets,
    entries,
    final_validation,
    per_seed,
    score_of,
)
from sheafalign_fl.benchmark.verdicts import Claim, Evidence, Finding, settled

RULE = (
    "A claim about quality says that comparison spaces are above every single space: in retrieval "
    "whatever that sends, else every one that sends at most 5 % more bytes (where there is none, "
    "every one). A star is compared on all pairs and on the edges that it trains. The sheaf is the "
    "main entry with the highest final R@10 on validation events. Methods are compared seed by "
    "seed: a claim holds if the differences are above zero by a paired t-test, does not hold if "
    f"they are below zero or zero with every seed, and is open else, or with fewer than "
    f"{ENOUGH_SEEDS} seeds. p is two-sided and corrected for the number of tests (Holm), so that "
    f"all verdicts together are right with a probability of {100 * (1 - LEVEL):.0f} %; intervals "
    "are of one difference alone. Half the bytes is counted, so there is no chance in it. Bytes to "
    "quality: the ratio of bytes is tested on a logarithmic scale against 20, or against 1 where "
    "both methods are lean; an opponent that did not get there is counted with all that it sent, "
    "and the claim falls with one seed in which lean did not."
)
QUALITY: dict[str, tuple[str, ...]] = {
    "retrieval": ("R@1", "R@10"),
    "zero-shot transfer": ("transfer, prototypes", "transfer, logistic"),
    "linear probe": ("probe",),
    "missing modalities": ("1 missing", "2 missing"),
}
_SAME_BYTES = 1.05
"""At the same bytes: at most 5 % more."""


def claims(benchmark: Benchmark) -> list[Claim]:
    """Return all claims on all data sets where comparison spaces and single spaces are compared."""
    found: list[Finding] = []
    for data in data_sets(benchmark):
        there = entries(benchmark, data)
        sheaf = chosen_sheaf(there)
        single = [entry for entry in there if entry.kind == "single-space" and not entry.base]
        if sheaf is None or not single:
            continue
        whole = benchmark.looks > 1
        for claim, names in QUALITY.items():
            found += [_quality(claim, name, sheaf, single, whole=whole) for name in names]
        found += [half_the_bytes(data, there, name) for name in BASELINES]
        found += bytes_to_quality_claims(data, there, whole=whole)
    return settled(found, benchmark.looks)


def chosen_sheaf(there: Sequence[Entry]) -> Entry | None:
    """Return the main entry of comparison spaces best on validation events, the first of equals."""
    sheaves = [entry for entry in there if entry.kind == "sheaf" and not entry.variant]
    finals = [final_validation(entry) for entry in sheaves]
    scores = [-1.0 if final is None else final.mean for final in finals]
    return sheaves[scores.index(max(scores))] if sheaves else None


@dataclass(frozen=True)
class _Rival:
    """A single space, on all pairs or on those alone that it trains, and the sheaf on the same."""

    entry: Entry
    name: str
    ours: Spread
    theirs: Spread
    paired: Paired


def _quality(
    claim: str, name: str, sheaf: Entry, single: Sequence[Entry], *, whole: bool
) -> Finding:
    """Compare the sheaf with every single space.

    In retrieval with any, else with those that send no more bytes.
    """
    title = f"{claim}: {name}" if len(QUALITY[claim]) > 1 else claim
    anyone = claim == "retrieval"
    cheap = [entry for entry in single if entry.payload_bytes <= _SAME_BYTES * sheaf.payload_bytes]
    allowed = single if anyone or best(cheap, name) is None else cheap
    rivals = [rival for entry in allowed for rival in _rivals(name, sheaf, entry, whole=whole)]
    if not rivals:
        text = f"{name} was not measured of both kinds of method with one seed."
        return Finding(title, sheaf.data, text, "not measured")
    where = (
        "at any bytes"
        if anyone
        else "at the same bytes"
        if allowed is cheap
        else "at more bytes, as none sends so few"
    )
    shown = min(rivals, key=lambda rival: rival.paired.mean)
    sentence = (
        f"{sheaf.name} reaches {shown.ours.percent} %; {shown.name}, the strongest single space "
        f"{where}, reaches {shown.theirs.percent} %: {100 * shown.paired.mean:+.1f} points."
    )
    overall, remark = best(single, name), ""
    if overall not in allowed and overall is not None and (top := overall.score(name)) is not None:
        remark = f"At any bytes the best is {overall.name} with {top.percent} %."
    methods = (sheaf.method, *dict.fromkeys(rival.entry.method for rival in rivals))
    evidence = _evidence(shown, rivals)
    return Finding(title, sheaf.data, sentence, evidence=evidence, remark=remark, methods=methods)


def _rivals(name: str, sheaf: Entry, entry: Entry, *, whole: bool) -> list[_Rival]:
    """Return the comparison on all pairs and, with a star, the one on its own edges."""
    found = []
    own = entry.own_edges if name in ON_PAIRS else None
    for pairs, label in ((None, entry.name), (own, f"{entry.name} on its own edges")):
        if pairs is None and label != entry.name:
            continue
        values = per_seed(sheaf, entry, partial(score_of, name=name, pairs=pairs), whole=whole)
        ours, theirs = Spread.of(a for a, _ in values), Spread.of(b for _, b in values)
        if ours is not None and theirs is not None:
            differences = Paired.of([a - b for a, b in values])
            found.append(_Rival(entry, label, ours, theirs, differences))
    return found


def _evidence(shown: _Rival, rivals: Sequence[_Rival]) -> Evidence:
    """Return what speaks for being above all of `rivals`, and what against it.

    Above all is shown by the weakest of the tests, which needs no correction (an intersection-union
    test). That one of them is above the sheaf is found by looking at all of them, so it is
    corrected for their number. Where the strongest is equal with every seed, the sheaf is not above
    it, and no further seed is needed to say so.
    """
    equal = shown.paired.deviation == 0 and shown.paired.mean <= 0
    below = min(rival.paired.below() for rival in rivals)
    return Evidence(
        shown.paired,
        above=max(rival.paired.above() for rival in rivals),
        below=0.0 if equal else min(1.0, len(rivals) * below),
        seeds=min(rival.paired.count for rival in rivals),
    )
