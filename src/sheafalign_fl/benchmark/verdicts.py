"""From what was found of a claim to its verdict: holds, does not hold, or open."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sheafalign_fl.benchmark.statistics import (
    ENOUGH_SEEDS,
    LEVEL,
    Paired,
    holm,
    seeds_to_settle,
)
from sheafalign_fl.numbers import count_of

Verdict = Literal["holds", "does not hold", "open", "not measured"]


@dataclass(frozen=True)
class Evidence:
    """What paired differences over seeds say of a claim.

    Attributes
    ----------
    shown
        Of the comparison that the claim's sentence speaks of.
    above
        Probability of differences so high if the claim were false.
    below
        Probability of differences so low if it were true.
    seeds
        How many there are of every comparison that it rests on.
    ratio
        What a difference of zero stands for where differences are of decadic logarithms of ratios;
        None where they are of fractions, shown in points.
    """

    shown: Paired
    above: float
    below: float
    seeds: int
    ratio: float | None = None

    @property
    def two_sided(self) -> float:
        """Both ways of being wrong are charged for."""
        return min(1.0, 2 * min(self.above, self.below))


@dataclass(frozen=True)
class Finding:
    """A claim on one data set before its verdict.

    `verdict` is given where nothing is left to chance: what was counted, or not measured. Else
    there is `evidence`.
    """

    claim: str
    data: str
    sentence: str
    verdict: Verdict | None = None
    evidence: Evidence | None = None
    remark: str = ""
    """What is said after the evidence."""
    methods: tuple[str, ...] = ()
    """Whose cells it rests on."""


@dataclass(frozen=True)
class Claim:
    """What came of one claim on one data set.

    Attributes
    ----------
    seeds
        How many seeds the verdict rests on; None where it rests on no test.
    probability
        p, two-sided, corrected for the number of claims.
    needed
        Seeds that an open verdict needs: at least so many, or, with enough of them, about so many
        if mean and deviation stay as they are. None where that is unknown.
    methods
        Whose cells it rests on.
    """

    claim: str
    data: str
    verdict: Verdict
    sentence: str
    seeds: int | None = None
    probability: float | None = None
    needed: int | None = None
    methods: tuple[str, ...] = ()


def settled(findings: Sequence[Finding], looks: int = 1) -> list[Claim]:
    """Return the verdicts, in order, after Holm's correction over all findings that are tests.

    Parameters
    ----------
    looks
        How often verdicts may be looked at while there are further seeds; each look has its part of
        `LEVEL`.
    """
    tests = [item.evidence for item in findings if item.evidence is not None]
    adjusted = iter(holm([evidence.two_sided for evidence in tests]))
    level = LEVEL / looks
    drafts = [(item, None if item.evidence is None else next(adjusted)) for item in findings]
    verdicts = [_verdict(item, value, level) for item, value in drafts]
    opened = sum(verdict == "open" for verdict in verdicts)
    return [
        _claim(item, verdict, value, level / max(opened, 1))
        for (item, value), verdict in zip(drafts, verdicts, strict=True)
    ]


def _verdict(item: Finding, probability: float | None, level: float) -> Verdict:
    evidence = item.evidence
    if evidence is None or probability is None:
        return item.verdict or "not measured"
    if evidence.seeds < ENOUGH_SEEDS or probability > level:
        return "open"
    return "holds" if evidence.above < evidence.below else "does not hold"


def _claim(item: Finding, verdict: Verdict, probability: float | None, level: float) -> Claim:
    evidence = item.evidence
    if evidence is None:
        return Claim(item.claim, item.data, verdict, item.sentence, methods=item.methods)
    needed = None
    if verdict == "open":
        few = evidence.seeds < ENOUGH_SEEDS
        needed = ENOUGH_SEEDS if few else seeds_to_settle(evidence.shown, level)
    return Claim(
        item.claim,
        item.data,
        verdict,
        f"{item.sentence} {_said(evidence, probability, needed)} {item.remark}".rstrip(),
        evidence.seeds,
        probability,
        needed,
        item.methods,
    )


def _said(evidence: Evidence, probability: float | None, needed: int | None) -> str:
    """Return interval, p and what is missing, in words."""
    shown = evidence.shown
    if shown.count < 2:
        return f"Of one seed; at least {ENOUGH_SEEDS} are needed."
    text = (
        f"95 % interval {_interval(evidence)} over {count_of(shown.count, 'seed')}, "
        f"p {_p(probability)}."
    )
    if evidence.seeds < ENOUGH_SEEDS:
        return f"{text} At least {ENOUGH_SEEDS} seeds are needed."
    if needed is None:
        return text
    return f"{text} If nothing changed, about {needed} seeds would settle it."


def _interval(evidence: Evidence) -> str:
    low, high = evidence.shown.interval()
    if evidence.ratio is None:
        return f"{100 * low:+.1f} to {100 * high:+.1f} points"
    return " to ".join(f"{evidence.ratio * 10**end:.3g}" for end in (low, high)) + " times"


def _p(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
