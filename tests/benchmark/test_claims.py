"""Summaries and claims against figures that were worked out by hand."""

import statistics

import pytest

from sheafalign_fl.benchmark.claims import Claim, claims
from sheafalign_fl.benchmark.results import Cell
from sheafalign_fl.benchmark.summaries import (
    Spread,
    best,
    bytes_to,
    bytes_to_quality,
    entries,
    target_of,
)
from tests.benchmark.made_benchmark import benchmark, cell, curve


def claim(name: str, *cells: Cell) -> Claim:
    (found,) = [row for row in claims(benchmark(*cells)) if row.claim == name]
    return found


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


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.55, "holds"), (0.5, "does not hold"), (0.45, "does not hold")]
)
def test_a_claim_flips_with_the_figure(ours: float, verdict: str) -> None:
    found = claim(
        "retrieval: R@1",
        cell("sheafalign", "sheaf", recall_at_1=ours),
        cell("clip-pairs", "single-space"),
    )
    assert found.verdict == verdict
    assert f"{100 * (ours - 0.5):+.1f} points" in found.sentence


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.85, "holds"), (0.8, "holds"), (0.75, "does not hold")]
)
def test_other_quality_has_to_be_at_least_equal(ours: float, verdict: str) -> None:
    found = claim(
        "linear probe", cell("sheafalign", "sheaf", probe=ours), cell("clip-pairs", "single-space")
    )
    assert found.verdict == verdict
    assert "of one seed, so its spread is unknown" in found.sentence


def test_retrieval_is_compared_with_the_best_whatever_it_sends() -> None:
    dear = cell("clip-pairs", "single-space", recall_at_1=0.9, payload_bytes=2000)
    cheap = cell("clip-equal", "single-space", recall_at_1=0.4, variant="equal bytes")
    found = claim("retrieval: R@1", cell("sheafalign", "sheaf"), dear, cheap)
    assert found.verdict == "does not hold"
    assert "clip-pairs, the best single space at any bytes, reaches 90.0 %" in found.sentence


def test_the_sheaf_is_chosen_on_validation_and_never_on_test_events() -> None:
    lucky = cell("paper", "sheaf", recall_at_1=0.99, curve=curve(0.6))
    steady = cell("sheafalign", "sheaf", recall_at_1=0.4, curve=curve(0.1, 0.7))
    variant = cell("lean", "sheaf", variant="lean", curve=curve(0.9))
    found = claim("retrieval: R@1", lucky, variant, steady, cell("clip-pairs", "single-space"))
    assert found.verdict == "does not hold"
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
    assert found.verdict == "holds"
    assert (
        "clip-equal (equal bytes), the best single space at the same bytes, reaches 50.0 %"
        in found.sentence
    )
    assert "At any bytes the best is clip-pairs with 90.0 %" in found.sentence
    alone = claim("zero-shot transfer: transfer, prototypes", sheaf, dear)
    assert alone.verdict == "does not hold"
    assert "none sends so few" in alone.sentence


def test_differences_within_the_spread_are_marked() -> None:
    sheaf = [cell("sheafalign", "sheaf", seed, probe=0.80 + 0.02 * seed) for seed in range(3)]
    single = [
        cell("clip-pairs", "single-space", seed, probe=0.81 + 0.02 * seed) for seed in range(3)
    ]
    found = claim("linear probe", *sheaf, *single)
    assert found.verdict == "does not hold"
    assert "within the spread" in found.sentence
    far = [cell("clip-pairs", "single-space", seed, probe=0.91 + 0.02 * seed) for seed in range(3)]
    assert "within the spread" not in claim("linear probe", *sheaf, *far).sentence


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
    lean = cell("lean", "sheaf", variant="lean", curve=curve(0.7, step=step))
    clip = cell("clip-pairs", "single-space", curve=curve(0.7, step=500))
    found = claim(
        "a twentieth of clip-pairs's bytes to its quality", cell("sheafalign", "sheaf"), lean, clip
    )
    assert found.verdict == verdict


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
