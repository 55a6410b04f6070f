"""Verdicts keep their promise: rarely one of them is wrong, however many claims and looks."""

import numpy as np
import pytest

from sheafalign_fl.benchmark.statistics import ENOUGH_SEEDS, LEVEL, Paired
from sheafalign_fl.benchmark.verdicts import Evidence, Finding, settled

BENCHMARKS, CLAIMS = 150, 6


def finding(differences: list[float]) -> Finding:
    found = Paired.of(differences)
    evidence = Evidence(found, found.above(), found.below(), found.count)
    return Finding("a claim", "data", "It was measured.", evidence=evidence)


def wrong(rates: np.ndarray, looks: int) -> float:
    """Return how often a verdict is reached though nothing differs, by looking at each stage."""
    mistaken = 0
    for differences in rates:
        stages = range(ENOUGH_SEEDS, differences.shape[1] + 1, ENOUGH_SEEDS)
        mistaken += any(
            claim.verdict != "open"
            for count in stages
            for claim in settled([finding(row[:count].tolist()) for row in differences], looks)
        )
    return mistaken / len(rates)


@pytest.mark.parametrize("looks", [1, 2])
def test_nothing_is_claimed_where_nothing_differs(looks: int) -> None:
    draws = np.random.default_rng(0).normal(size=(BENCHMARKS, CLAIMS, looks * ENOUGH_SEEDS))
    # Three standard errors above the level that is promised.
    assert wrong(draws, looks) <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / BENCHMARKS) ** 0.5


def test_without_the_corrections_much_would_be_claimed() -> None:
    """The test above can fail: each claim for itself is wrong about as often as 6 times 5 %."""
    draws = np.random.default_rng(0).normal(size=(BENCHMARKS, CLAIMS, ENOUGH_SEEDS))
    alone = [
        any(settled([finding(row.tolist())])[0].verdict != "open" for row in differences)
        for differences in draws
    ]
    assert np.mean(alone) > 3 * LEVEL


def test_what_is_counted_needs_no_test_and_is_in_no_correction() -> None:
    counted = Finding("half the bytes", "data", "It is half.", "holds")
    steady = finding([0.1, 0.11, 0.1, 0.12, 0.1])
    alone, beside = settled([steady]), settled([counted, steady, counted])
    assert [claim.verdict for claim in beside] == ["holds", "holds", "holds"]
    assert beside[1] == alone[0]
    assert (beside[0].probability, beside[0].sentence) == (None, "It is half.")


def test_an_open_claim_says_about_how_many_seeds_would_settle_it() -> None:
    (claim,) = settled([finding([0.02, -0.01, 0.03, 0.01, -0.005])])
    assert claim.verdict == "open"
    assert claim.needed is not None
    assert claim.needed > ENOUGH_SEEDS
    assert f"about {claim.needed} seeds would settle it" in claim.sentence
    (single,) = settled([finding([0.3])])
    assert (single.verdict, single.needed) == ("open", ENOUGH_SEEDS)
