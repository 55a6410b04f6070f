"""Summaries and claims against figures that were worked out by hand."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from sheafalign_fl.benchmark.claims import claims
from sheafalign_fl.benchmark.results import Cell, Kind, PairFigures
from sheafalign_fl.benchmark.summaries import (
    Spread,
    best,
    bytes_to,
    bytes_to_quality,
    entries,
    target_of,
)
from sheafalign_fl.benchmark.verdicts import Claim
from tests.benchmark.made_benchmark import benchmark, cell, curve


def claim(name: str, *cells: Cell, looks: int = 1) -> Claim:
    made = benchmark(*cells).model_copy(update={"looks": looks})
    (found,) = [row for row in claims(made) if row.claim == name]
    return found


def seeded(method: str, kind: Kind, values: Sequence[float], **changes: Any) -> list[Cell]:
    """Return a cell for each seed with its own R@1."""
    return [
        cell(method, kind, seed, recall_at_1=value, **changes) for seed, value in enumerate(values)
    ]


def test_a_spread_is_mean_and_sample_deviation_of_what_is_known() -> None:
    values = [0.1, 0.4, 0.25]
    spread = Spread.of([*values, None])
    assert spread is not None
    assert spread.mean == pytest.approx(statistics.mean(values))
    assert spread.deviation == pytest.approx(statistics.stdev(values))
    assert (spread.count, Spread.of([0.3]), Spread.of([None])) == (3, Spread(0.3, 0.0, 1), None)


def test_seeds_of_a_method_are_one_entry_in_the_order_of_the_cells() -> None:
    made = benchmark(
        cell("b", "sheaf", 0),
        cell("a", "sheaf", 0),
        cell("b", "sheaf", 1, payload_bytes=3000),
        cell("c", "sheaf", data="x"),
    )
    found = entries(made, "toy")
    assert [(entry.method, len(entry.cells)) for entry in found] == [("b", 2), ("a", 1)]
    assert (found[0].payload_bytes, found[0].bytes_per_exchange) == (2000, 200)


def test_nothing_is_exchanged_without_exchanges() -> None:
    (floor, pooled) = entries(
        benchmark(
            cell("random", "reference", exchanges=0, curve=()),
            cell("pooled", "reference", curve=()),
        ),
        "toy",
    )
    assert floor.bytes_per_exchange is None
    assert pooled.bytes_per_exchange is None


def test_bytes_to_a_target_are_those_of_the_first_validation_that_reaches_it() -> None:
    runs = [
        cell("a", "sheaf", seed, curve=c)
        for seed, c in enumerate([curve(0.2, 0.5, 0.4, 0.6), curve(0.1, 0.3, 0.55)])
    ]
    (entry,) = entries(benchmark(*runs), "toy")
    assert target_of(entry, 0.5) == pytest.approx(0.5 * (0.6 + 0.55) / 2)
    assert bytes_to(entry, 0.5).payload_bytes == (1000 + 1500) / 2
    assert bytes_to(entry, 0.6).payload_bytes == 2000
    assert (bytes_to(entry, 0.6).count, bytes_to(entry, 0.6).seeds) == (1, 2)
    assert bytes_to(entry, 0.9).payload_bytes is None


def test_the_best_is_the_first_of_equals_and_nobody_without_a_score() -> None:
    found = entries(
        benchmark(cell("a", "sheaf"), cell("b", "sheaf"), cell("c", "sheaf", recall_at_1=0.4)),
        "toy",
    )
    winner = best(found, "R@1")
    assert winner is not None
    assert winner.method == "a"
    assert best(entries(benchmark(cell("a", "sheaf", probe=None)), "toy"), "probe") is None


FIVE = (0.50, 0.51, 0.52, 0.49, 0.50)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.101, 0.099, 0.100, 0.102, 0.098), "holds"),
        ((-0.101, -0.099, -0.100, -0.102, -0.098), "does not hold"),
        ((0.02, -0.01, 0.03, 0.01, -0.005), "open"),
        ((0.1, 0.1, 0.1, 0.1, 0.1), "holds"),
        ((0.0, 0.0, 0.0, 0.0, 0.0), "does not hold"),
    ],
)
def test_a_claim_flips_with_the_paired_differences(gains: tuple[float, ...], verdict: str) -> None:
    ours = [value + gain for value, gain in zip(FIVE, gains, strict=True)]
    found = claim(
        "retrieval: R@1",
        *seeded("sheafalign", "sheaf", ours),
        *seeded("clip-pairs", "single-space", FIVE),
    )
    assert found.verdict == verdict
    assert found.seeds == 5
    assert f"{100 * statistics.fmean(gains):+.1f} points" in found.sentence
    assert "95 % interval" in found.sentence


def test_seeds_are_paired_and_a_spread_between_them_does_not_hide_a_gain() -> None:
    """Unpaired, the standard deviations of both are thirty times the gain."""
    theirs = (0.2, 0.4, 0.6, 0.5, 0.3)
    ours = [value + 0.005 + 0.0001 * seed for seed, value in enumerate(theirs)]
    found = claim(
        "retrieval: R@1",
        *seeded("sheafalign", "sheaf", ours)[::-1],
        *seeded("clip-pairs", "single-space", theirs),
    )
    assert found.verdict == "holds"


def test_fewer_than_five_seeds_are_open_and_say_how_many_are_needed() -> None:
    four = [value + 0.1 for value in FIVE[:4]]
    found = claim(
        "retrieval: R@1",
        *seeded("sheafalign", "sheaf", four),
        *seeded("clip-pairs", "single-space", FIVE),
    )
    assert (found.verdict, found.seeds, found.needed) == ("open", 4, 5)
    assert "At least 5 seeds are needed" in found.sentence


def test_above_the_best_mean_is_not_enough_where_another_may_be_above() -> None:
    """The one with the lower mean varies so much that nothing is known of it."""
    ours = [value + 0.1 for value in FIVE]
    wild = (0.1, 0.9, 0.2, 0.8, 0.1)
    sheaf = seeded("sheafalign", "sheaf", ours)
    steady = seeded("clip-pairs", "single-space", FIVE)
    assert claim("retrieval: R@1", *sheaf, *steady).verdict == "holds"
    both = claim("retrieval: R@1", *sheaf, *steady, *seeded("imagebind", "single-space", wild))
    assert both.verdict == "open"


def with_pairs(values: dict[tuple[str, str], float], trained: set[tuple[str, str]]) -> Any:
    """Return the changes of a cell that give it these R@1 for each pair."""
    pairs = tuple(
        PairFigures(
            source=a, target=b, trained=(a, b) in trained, recall_at_1=value, recall_at_10=value
        )
        for (a, b), value in values.items()
    )
    return {"pairs": pairs, "recall_at_1": statistics.fmean(values.values())}


def test_a_star_is_compared_on_its_own_edges_too() -> None:
    every = {(a, b) for a in "xyz" for b in "xyz" if a != b}
    own = {pair for pair in every if "x" in pair}
    cells = []
    for seed in range(5):
        off = 0.001 * seed
        ours = dict.fromkeys(sorted(every), 0.5 + off)
        star = {pair: 0.6 + 2 * off if pair in own else 0.1 for pair in sorted(every)}
        cells += [
            cell("sheafalign", "sheaf", seed, **with_pairs(ours, every)),
            cell("imagebind", "single-space", seed, directions=4, **with_pairs(star, own)),
        ]
    found = claim("retrieval: R@1", *cells)
    assert found.verdict == "does not hold"
    assert "imagebind on its own edges" in found.sentence
    (star_entry,) = [e for e in entries(benchmark(*cells), "toy") if e.method == "imagebind"]
    assert star_entry.own_edges == frozenset(own)
    spread = star_entry.score("R@1", star_entry.own_edges)
    assert spread is not None
    assert spread.mean == pytest.approx(0.604)
    whole = star_entry.score("R@1")
    assert whole is not None
    assert whole.mean == pytest.approx((4 * 0.604 + 2 * 0.1) / 6)


def test_who_adds_seeds_to_what_is_open_is_judged_at_whole_stages() -> None:
    """Seven seeds, of which the last two would spoil it: they wait until there are ten."""
    gains = (0.101, 0.099, 0.100, 0.102, 0.098, -0.5, -0.5)
    base = [*FIVE, 0.5, 0.5]
    cells = [
        *seeded("sheafalign", "sheaf", [a + b for a, b in zip(base, gains, strict=True)]),
        *seeded("clip-pairs", "single-space", base),
    ]
    assert claim("retrieval: R@1", *cells).verdict == "open"
    looked = claim("retrieval: R@1", *cells, looks=2)
    assert (looked.verdict, looked.seeds) == ("holds", 5)


def test_retrieval_is_compared_with_the_best_whatever_it_sends() -> None:
    dear = cell("clip-pairs", "single-space", recall_at_1=0.9, payload_bytes=2000)
    cheap = cell("clip-equal", "single-space", recall_at_1=0.4, variant="equal bytes")
    found = claim("retrieval: R@1", cell("sheafalign", "sheaf"), dear, cheap)
    assert "clip-pairs, the strongest single space at any bytes, reaches 90.0 %" in found.sentence
    assert found.methods == ("sheafalign", "clip-pairs", "clip-equal")


def test_the_sheaf_is_chosen_on_validation_and_never_on_test_events() -> None:
    lucky = cell("paper", "sheaf", recall_at_1=0.99, curve=curve(0.6))
    steady = cell("sheafalign", "sheaf", recall_at_1=0.4, curve=curve(0.1, 0.7))
    variant = cell("lean", "sheaf", variant="lean", curve=curve(0.9))
    found = claim("retrieval: R@1", lucky, variant, steady, cell("clip-pairs", "single-space"))
    assert found.sentence.startswith("sheafalign reaches 40.0 %")


def test_only_single_spaces_that_send_no_more_count_at_the_same_bytes() -> None:
    dear = cell("clip-pairs", "single-space", transfer_prototype=0.9, payload_bytes=2000)
    cheap = cell(
        "clip-equal",
        "single-space",
        transfer_prototype=0.5,
        payload_bytes=1050,
        variant="equal bytes",
    )
    sheaf = cell("sheafalign", "sheaf")
    found = claim("zero-shot transfer: transfer, prototypes", sheaf, dear, cheap)
    assert (
        "clip-equal (equal bytes), the strongest single space at the same bytes, reaches 50.0 %"
        in found.sentence
    )
    assert "At any bytes the best is clip-pairs with 90.0 %" in found.sentence
    alone = claim("zero-shot transfer: transfer, prototypes", sheaf, dear)
    assert "none sends so few" in alone.sentence


def test_what_was_not_measured_is_no_verdict() -> None:
    sheaf, single = (
        cell("sheafalign", "sheaf", probe=None),
        cell("clip-pairs", "single-space", probe=None),
    )
    assert claim("linear probe", sheaf, single).verdict == "not measured"


def test_half_the_bytes_is_a_matter_of_dimension_and_edges() -> None:
    paper = cell("paper", "sheaf", payload_bytes=3840)
    clip = cell("clip-pairs", "single-space", payload_bytes=7680, edge_dim=128)
    star = cell("imagebind", "single-space", payload_bytes=5120, edge_dim=128, directions=4)
    half = claim("half the bytes of clip-pairs", paper, clip)
    assert half.verdict == "holds"
    assert "50 % less" in half.sentence
    assert "64 / 128 alone" in half.sentence
    quarter = claim("half the bytes of imagebind", paper, star)
    assert quarter.verdict == "does not hold"
    assert "25 % less" in quarter.sentence
    assert "64 / 128 times the directed edges, 6 / 4: a star has fewer edges" in quarter.sentence
    assert claim("half the bytes of imagebind", paper, clip).verdict == "not measured"


def test_bytes_that_dimension_and_edges_do_not_explain_are_not_explained_by_them() -> None:
    paper = cell("paper", "sheaf", payload_bytes=1920, codec="float16")
    found = claim(
        "half the bytes of clip-pairs",
        paper,
        cell("clip-pairs", "single-space", payload_bytes=7680),
    )
    assert "75 % less" in found.sentence
    assert "codec (float16, float32)" in found.sentence


def test_variants_of_one_name_are_entries_of_their_own() -> None:
    made = benchmark(
        cell("a", "sheaf"), cell("a", "sheaf", variant="equal bytes", payload_bytes=3000)
    )
    found = entries(made, "toy")
    assert [(entry.name, entry.payload_bytes) for entry in found] == [
        ("a", 1000),
        ("a (equal bytes)", 3000),
    ]


def test_a_run_that_diverged_is_no_figure() -> None:
    spread = Spread.of([0.2, float("nan"), 0.4])
    assert spread is not None
    assert spread.mean == pytest.approx(0.3)
    assert spread.count == 2


def test_bytes_to_quality_is_over_all_entries_that_learn() -> None:
    made = benchmark(
        cell("clip-pairs", "single-space", 0, curve=curve(0.2, 0.6, 0.8)),
        cell("clip-pairs", "single-space", 1, curve=curve(0.2, 0.6)),
        cell("lean", "sheaf", 0, variant="lean", curve=curve(0.3, 0.9, step=7)),
        cell("random", "reference", curve=()),
    )
    target = target_of(entries(made, "toy")[0])
    assert target is not None
    assert target == pytest.approx(0.95 * (0.8 + 0.6) / 2)
    found = {
        entry.name: reached.by_seed for entry, reached in bytes_to_quality(made, "toy", target)
    }
    assert found == {"clip-pairs": (1500, None), "lean": (14,)}


@pytest.mark.parametrize(("step", "verdict"), [(25, "holds"), (26, "does not hold")])
def test_a_twentieth_is_a_twentieth(step: int, verdict: str) -> None:
    lean = [
        cell("lean", "sheaf", seed, variant="lean", curve=curve(0.7, step=step))
        for seed in range(5)
    ]
    clip = [cell("clip-pairs", "single-space", seed, curve=curve(0.7)) for seed in range(5)]
    found = claim(
        "a twentieth of clip-pairs's bytes to its quality",
        cell("sheafalign", "sheaf"),
        *lean,
        *clip,
    )
    assert found.verdict == verdict


def test_ratios_of_bytes_are_tested_on_a_logarithmic_scale() -> None:
    steps = (10, 12, 14, 9, 11)
    lean = [
        cell("lean", "sheaf", seed, variant="lean", curve=curve(0.7, step=step))
        for seed, step in enumerate(steps)
    ]
    clip = [cell("clip-pairs", "single-space", seed, curve=curve(0.7)) for seed in range(5)]
    sheaf = [cell("sheafalign", "sheaf", seed) for seed in range(5)]
    name = "a twentieth of clip-pairs's bytes to its quality"
    found = claim(name, *sheaf, *lean, *clip)
    ratios = [math.log(500 / step / 20) for step in steps]
    expected = stats.ttest_1samp(ratios, 0)
    assert found.probability is not None
    tests = 1 + sum(row.probability is not None for row in claims(benchmark(*sheaf, *clip)))
    assert expected.pvalue <= found.probability <= tests * expected.pvalue
    low, high = (20 * math.exp(end) for end in expected.confidence_interval())
    assert f"95 % interval {low:.3g} to {high:.3g} times over 5 seeds" in found.sentence
    assert f"{20 * math.exp(statistics.fmean(ratios)):.0f} times as much" in found.sentence


def test_both_lean_are_compared_with_each_other() -> None:
    sheaf = [
        cell(
            "sheafalign-lean",
            "sheaf",
            seed,
            variant="lean",
            base="sheafalign",
            curve=curve(0.7, step=100 + seed),
        )
        for seed in range(5)
    ]
    clip = [
        cell(
            "clip-pairs-lean",
            "single-space",
            seed,
            variant="lean",
            base="clip-pairs",
            curve=curve(0.7, step=200),
        )
        for seed in range(5)
    ]
    whole = [cell("sheafalign", "sheaf"), cell("clip-pairs", "single-space")]
    found = claim("fewer bytes than clip-pairs to its quality, both lean", *whole, *sheaf, *clip)
    assert found.verdict == "holds"
    retrieval = claim("retrieval: R@1", *whole, *sheaf, *clip)
    assert retrieval.methods == ("sheafalign", "clip-pairs")  # variants are no rivals of the whole


def test_a_seed_that_never_gets_there_breaks_the_claim() -> None:
    lean = [
        cell("lean", "sheaf", seed, variant="lean", curve=curve(0.7 - 0.5 * seed, step=1))
        for seed in range(2)
    ]
    clip = cell("clip-pairs", "single-space", curve=curve(0.7))
    found = claim(
        "a twentieth of clip-pairs's bytes to its quality", cell("sheafalign", "sheaf"), *lean, clip
    )
    assert found.verdict == "does not hold"
    assert "1 of 2 seeds" in found.sentence


def test_without_single_spaces_there_is_nothing_to_claim() -> None:
    assert claims(benchmark(cell("sheafalign", "sheaf"), cell("random", "reference"))) == []
