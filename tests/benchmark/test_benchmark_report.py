"""The benchmark's report, CSV and README tables."""

import csv
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.publish import PUBLICATIONS
from sheafalign_fl.benchmark.cautions import warnings_of
from sheafalign_fl.benchmark.claim_tables import MARKS, claims_tally, still_open
from sheafalign_fl.benchmark.claims import RULE, claims
from sheafalign_fl.benchmark.decomposition import decomposition_tables
from sheafalign_fl.benchmark.markdown import markdown_tables, replace_tables
from sheafalign_fl.benchmark.report import print_benchmark, write_benchmark_report, write_csv
from sheafalign_fl.benchmark.results import (
    Benchmark,
    Kind,
    PairFigures,
    Trial,
    Tuning,
    load_benchmark,
)
from sheafalign_fl.benchmark.tables import (
    bytes_table,
    conditions,
    missing_table,
    results_table,
    traffic_table,
    tuning_table,
)
from sheafalign_fl.errors import DataError, UserError
from tests.benchmark.made_benchmark import benchmark, cell, curve
from tests.report.test_html import HOSTILE, Page, assert_self_contained

MARKED = (
    "a\n<!-- benchmark:results -->what was there<!-- /benchmark:results -->\n"
    "b <!-- benchmark:claims -->\n"
    "<!-- /benchmark:claims --> c"
)


def full() -> Benchmark:
    return benchmark(
        *(
            cell("sheafalign", "sheaf", seed, recall_at_1=0.5 + 0.1 * seed, probe=0.9)
            for seed in range(5)
        ),
        *(cell("clip-pairs", "single-space", seed, payload_bytes=2000) for seed in range(5)),
        cell("paper", "sheaf"),
        cell("lean", "sheaf", variant="lean", payload_bytes=10),
        cell("random", "reference", exchanges=0, payload_bytes=0, curve=()),
        cell(
            "sheafalign",
            "sheaf",
            data="bare",
            transfer_prototype=None,
            transfer_probe=None,
            probe=None,
            missing=(),
        ),
    )


def page(made: Benchmark, path: Path) -> Page:
    write_benchmark_report(made, path)
    content = path.read_text(encoding="utf-8")
    found = Page(content)
    assert_self_contained(content, found)
    return found


def test_the_report_shows_figures_claims_tuning_and_runs(tmp_path: Path) -> None:
    found = page(full(), tmp_path / "benchmark.html")
    assert {"claims", "data-0", "data-1", "tuning", "runs"} <= found.anchors
    assert "1; each has its part of the 5 % that verdicts may be wrong" in found.text
    for words in ("*70.0 ± 15.8", "clip-pairs", "does not hold", "what is best", "61.0 s", "*30.0"):
        assert words in found.text, words
    assert len([name for name, _ in found.elements if name == "svg"]) >= 5


def test_one_method_with_one_seed_and_no_labels_is_still_a_report(tmp_path: Path) -> None:
    made = benchmark(
        cell(
            "a",
            "sheaf",
            transfer_prototype=None,
            transfer_probe=None,
            probe=None,
            missing=(),
            curve=(),
        )
    )
    found = page(made, tmp_path / "benchmark.html")
    assert "claims" not in found.anchors
    print_benchmark(
        made, Console(file=(tmp_path / "terminal").open("w", encoding="utf-8"), width=100)
    )


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    made = benchmark(
        cell(HOSTILE, "sheaf", data=HOSTILE), cell("clip-pairs", "single-space", data=HOSTILE)
    )
    assert HOSTILE in page(made, tmp_path / "benchmark.html").text


def test_the_terminal_shows_results_and_verdicts(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w", encoding="utf-8") as file:
        print_benchmark(full(), Console(file=file, width=140))
    shown = (tmp_path / "terminal").read_text(encoding="utf-8")
    assert "*70.0" in shown
    assert "retrieval: R@1" in shown
    assert "holds" in shown


def test_the_csv_has_a_row_for_each_cell(tmp_path: Path) -> None:
    write_csv(full(), tmp_path / "benchmark.csv")
    with (tmp_path / "benchmark.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(full().cells)
    assert rows[1]["recall_at_1"] == "0.6"
    assert rows[0]["missing_2_imputed"] == str(0.9 - 0.1 * 2)
    assert rows[-1]["missing_2_imputed"] == ""
    assert rows[0]["setting.training.learning_rate"] == "0.001"


def test_tables_replace_what_stands_between_their_markers() -> None:
    made = full()
    text = replace_tables(MARKED, made)
    assert "what was there" not in text
    assert text.startswith("a\n<!-- benchmark:results -->\n**toy**")
    assert text.endswith("<!-- /benchmark:claims --> c")
    assert "| sheafalign | 70.0 ± 15.8 |" in text
    assert "| lean |" in text
    assert replace_tables(text, made) == text


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head() -> None:
    made = benchmark(cell("a|b", "sheaf"), cell("clip-pairs", "single-space"))
    for table in markdown_tables(made).values():
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "a\\|b" in markdown_tables(made)["results"]


@pytest.mark.parametrize("kind", PUBLICATIONS)
def test_the_documentation_shows_the_committed_results(kind: str) -> None:
    """Whoever changes results runs `python -m experiments.publish`; no figure is typed by hand."""
    publication = PUBLICATIONS[kind]
    text = publication.page.read_text(encoding="utf-8")
    assert publication.tables_in(text) == text


def test_verdicts_are_told_by_signs_as_well_as_by_colour(tmp_path: Path) -> None:
    made = full()
    found = page(made, tmp_path / "benchmark.html")
    assert RULE in found.text
    classes = {
        "holds": "verdict holds",
        "does not hold": "verdict fails",
        "open": "verdict open",
        "not measured": "verdict open",
    }
    rows = claims(made)
    spans = [str(a.get("class")) for name, a in found.elements if name == "span"]
    for verdict, mark in MARKS.items():
        count = sum(row.verdict == verdict for row in rows)
        assert count > 0, verdict
        # Once in the matrix and once beside its sentence; the legend has the words, not the colour.
        same = [other for other in MARKS if classes[other] == classes[verdict]]
        assert spans.count(classes[verdict]) == 2 * sum(row.verdict in same for row in rows)
        assert found.text.count(f"{mark} {verdict}") == count + 1
    for row in rows:
        assert row.sentence in found.text


def test_what_weakens_the_figures_is_said(tmp_path: Path) -> None:
    seeds = [cell("sheafalign", "sheaf", seed) for seed in range(5)]
    flat = tuple(Trial(settings={"rate": rate}, score=0.0) for rate in (1, 2))
    assert warnings_of(benchmark(*seeds).model_copy(update={"tuning": ()})) == []
    made = benchmark(*seeds, cell("sheafalign", "sheaf", 2), cell("lean", "sheaf", variant="lean"))
    made = made.model_copy(
        update={"tuning": (Tuning(data="toy", method="imagebind", trials=flat),)}
    )
    few, twice, tuning = warnings_of(made)
    assert few.endswith("lean on toy.")
    assert twice.endswith("sheafalign on toy.")
    assert "tuning chose nothing" in tuning
    assert tuning.endswith("toy, imagebind.")
    shown = page(made, tmp_path / "benchmark.html").text
    for warning in (few, twice, tuning):
        assert warning in shown


def grid(*values: float | str, key: str = "rate") -> tuple[Trial, ...]:
    """Return a trial for each value, the second of which is best."""
    return tuple(
        Trial(settings={key: value}, score=float(index == 1)) for index, value in enumerate(values)
    )


def test_a_choice_on_the_border_of_its_grid_is_said_and_one_within_it_is_not() -> None:
    tuned = {
        "on the border": grid(0.3, 0.1, 0.2),
        "within": grid(0.1, 0.2, 0.3),
        "words": grid("adam", "sgd", key="optimiser"),
        "one value": grid(0.1),
    }
    made = benchmark(*(cell("sheafalign", "sheaf", seed) for seed in range(5)))
    tunings = tuple(Tuning(data="toy", method=name, trials=t) for name, t in tuned.items())
    border, budget = warnings_of(made.model_copy(update={"tuning": tunings}))
    assert "rate in 1 of 2 choices" in border
    assert "2 to 3 trials" in budget
    assert "rate 0.1 is the lowest that was tried" in tuning_table(tunings[0]).note
    assert tuning_table(tunings[1]).note == tuning_table(tunings[2]).note == ""


def test_probes_that_did_not_converge_are_said() -> None:
    made = benchmark(*(cell("sheafalign", "sheaf", seed, unconverged=seed) for seed in range(5)))
    (warning,) = warnings_of(made.model_copy(update={"tuning": ()}))
    assert warning.endswith("sheafalign on toy (10).")


def test_what_figures_are_of_stands_beside_every_table() -> None:
    made = benchmark(
        *(
            cell("a", "sheaf", seed, events={"train": 90 - seed, "test": 40})
            for seed in (0, 1, 2, 7)
        )
    )
    each = made.model_copy(
        update={"tuning": (Tuning(data="toy", method="a", seed=1, trials=grid(1, 2)),)}
    )
    words = (
        "Retrieval among 200 events; seeds 0–2, 7; events of an edge, at least: 83 train, 40 test; "
        "tuning: 2 trials for each tuned method, each seed for itself."
    )
    assert conditions(each, "toy") == words
    for brief in (True, False):
        assert words in results_table(each, "toy", brief=brief).note
    assert words in markdown_tables(each)["results"]
    assert "2 trials for each tuned method, seed 0" in conditions(made, "toy")


def test_all_kinds_of_bytes_and_mean_fill_stand_beside_each_other() -> None:
    known = {
        f"evaluation_{kind}_bytes": count
        for kind, count in (("payload", 40), ("message", 50), ("relay", 90))
    }
    made = benchmark(cell("a", "sheaf", **known), cell("before", "sheaf"))
    assert traffic_table(made, "toy").rows == (
        ("a", "1.00 kB", "1.10 kB", "2.30 kB", "40 B", "50 B", "90 B"),
        ("before", "1.00 kB", "1.10 kB", "2.30 kB", "–", "–", "–"),
    )
    missing = missing_table(made, "toy")
    assert missing is not None
    assert missing.rows[0] == ("a", "80.0", "80.0", "70.0", "80.0")
    text = markdown_tables(made)["results"]
    assert "80.0 (80.0) / 70.0 (80.0) | 1.00 kB / 1.10 kB / 2.30 kB |" in text
    assert missing_table(benchmark(cell("a", "sheaf", missing=())), "toy") is None


def test_a_star_has_a_row_for_its_own_edges() -> None:
    pairs = tuple(
        PairFigures(source=a, target=b, trained="x" in (a, b), recall_at_1=r, recall_at_10=r)
        for a, b, r in (("x", "y", 0.8), ("y", "x", 0.6), ("y", "z", 0.1))
    )
    made = benchmark(cell("imagebind", "single-space", recall_at_1=0.5, pairs=pairs))
    for brief in (True, False):
        table = results_table(made, "toy", brief=brief)
        column = table.columns.index("R@1")
        assert [row[column] for row in table.rows] == ["*50.0", "70.0"]
        assert "own edges" in table.rows[1][0]
    assert "| imagebind, own edges | 70.0 | 70.0 | – / – |" in markdown_tables(made)["results"]


def test_the_gain_of_a_variant_is_taken_apart() -> None:
    """Ratios by hand: clip 800 -> 400 (codec), 200 (steps), 50 (both); the sheaf 400 -> 100."""

    def made(method: str, kind: Kind, step: int, variant: str = "", base: str = "") -> list[Any]:
        name = method if not variant else f"{method}-{variant}"
        return [
            cell(
                name,
                kind,
                seed,
                variant=variant,
                base=base,
                curve=curve(0.7, step=step),
                recall_at_10=0.5 + 0.0001 * step,
            )
            for seed in range(2)
        ]

    cells = [
        *made("sheafalign", "sheaf", 400),
        *made("clip-pairs", "single-space", 800),
        *made("sheafalign", "sheaf", 50, "lean", "sheafalign"),
        *made("clip-pairs", "single-space", 50, "lean", "clip-pairs"),
        *made("sheafalign", "sheaf", 100, "lean: codec", "sheafalign"),
        *made("clip-pairs", "single-space", 400, "lean: codec", "clip-pairs"),
        *made("clip-pairs", "single-space", 200, "lean: steps", "clip-pairs"),
    ]
    (table,) = decomposition_tables(benchmark(*cells), "toy")
    shown = [(row[0], row[1], row[2], row[3]) for row in table.rows]
    assert shown == [
        ("clip-pairs", "–", "800 B", "–"),
        ("", "codec", "400 B", "2.0"),
        ("", "steps", "200 B", "4.0"),
        ("", "these multiplied", "", "8.0"),
        ("", "all together", "50 B", "16"),
        ("sheafalign", "method", "400 B", "2.0"),
        ("", "codec", "100 B", "4.0"),
        ("", "these multiplied", "", "4.0"),
        ("", "all together", "50 B", "8.0"),
    ]
    assert table.rows[1][5] == "-4.0 (-4.0 to -4.0)"
    assert [row[0] for row in results_table(benchmark(*cells), "toy").rows] == [
        "sheafalign",
        "clip-pairs",
        "sheafalign-lean",
        "clip-pairs-lean",
    ]
    assert decomposition_tables(benchmark(*cells[:8]), "toy") == []


def test_verdicts_are_counted_and_what_is_open_is_said() -> None:
    found = claims(full())
    counts = [sum(row.verdict == verdict for row in found) for verdict in MARKS]
    holds, fails, opened, unmeasured = counts
    measured = len(found) - unmeasured
    assert claims_tally(found) == f"{holds} of {measured} hold, {fails} do not, {opened} are open"
    assert min(holds, fails, opened) > 0
    assert len(still_open(found)) == opened
    few = claims(benchmark(cell("sheafalign", "sheaf"), cell("clip-pairs", "single-space")))
    assert still_open(few) == ["Open for want of seeds: 7 claims; a verdict needs at least 5."]


@pytest.mark.parametrize("kind", PUBLICATIONS)
def test_results_of_before_are_still_read(kind: str) -> None:
    """They lack pairs, events and the bytes of evaluation, and their verdicts are made anew."""
    made = load_benchmark(PUBLICATIONS[kind].results)
    assert made.cells
    assert {claim.verdict for claim in claims(made) if claim.seeds in (1, 2, 3, 4)} == {"open"}


def test_tuning_shows_trials_of_all_kinds() -> None:
    trials = (Trial(settings={"a": 1}, score=0.2), Trial(settings={"b": True}, score=0.2))
    table = tuning_table(Tuning(data="d", method="m", trials=trials))
    assert table.rows == (("1", "–", "*20.0"), ("–", "True", "20.0"))
    assert tuning_table(Tuning(data="d", method="m", trials=())).rows == ()


def test_the_best_main_entry_of_each_column_is_starred() -> None:
    made = benchmark(
        cell("a", "sheaf", recall_at_1=0.3, probe=None),
        cell("b", "single-space", recall_at_1=0.4, probe=0.2),
        cell("c", "sheaf", variant="lean", recall_at_1=0.9, probe=0.9),
        cell("d", "reference", recall_at_1=0.9, probe=0.9),
    )
    table = results_table(made, "toy", brief=True)
    columns = [table.columns.index(name) for name in ("R@1", "probe")]
    assert [[row[index] for index in columns] for row in table.rows] == [
        ["30.0", "–"],
        ["*40.0", "*20.0"],
        ["90.0", "90.0"],
        ["90.0", "90.0"],
    ]


def test_bytes_to_quality_say_how_many_seeds_got_there() -> None:
    made = benchmark(
        cell("clip-pairs", "single-space", 0, curve=curve(0.2, 0.8)),
        cell("clip-pairs", "single-space", 1, curve=curve(0.2, 0.6)),
        cell("lean", "sheaf", 0, variant="lean", curve=curve(0.1)),
        cell("random", "reference", curve=()),
    )
    table = bytes_table(made, "toy")
    assert table is not None
    assert table.columns == ("method", "R@10 of 66.5 % (clip-pairs)")
    assert table.rows == (("clip-pairs", "1.00 kB (1 of 2 seeds)"), ("lean", "not reached"))
    assert bytes_table(benchmark(cell("sheafalign", "sheaf")), "toy") is None


def test_what_cannot_be_written_is_one_clear_line_and_leaves_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")
    for write in (write_benchmark_report, write_csv):
        with pytest.raises(DataError, match="cannot be written"):
            write(full(), blocked / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_terminal_cuts_nothing_at_80_columns(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w", encoding="utf-8") as file:
        print_benchmark(full(), Console(file=file, width=80))
    lines = (tmp_path / "terminal").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    row = next(line for line in lines if line.strip().startswith("clip-pairs ") and "kB" in line)
    best = [
        "*70.0",
        "*40.0",
        "*60.0",
        "*65.0",
        "80.0",
    ]  # as good as the sheaf: equals share the star
    assert row.split() == ["clip-pairs", "50.0", *best, "2.00", "kB"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<!-- benchmark:results --><!-- /benchmark:results -->",
            "<!-- benchmark:claims --> is missing",
        ),
        (
            MARKED.replace("<!-- /benchmark:results -->", ""),
            "<!-- /benchmark:results --> is missing",
        ),
        (MARKED + MARKED, "<!-- benchmark:results --> is there 2 times"),
        ("<!-- /benchmark:results --><!-- benchmark:results -->", "comes before"),
    ],
)
def test_markers_have_to_be_a_pair(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace_tables(text, full())


@pytest.mark.parametrize("name", ["<!-- /benchmark:results -->", "<b>x</b>", "a\nb"])
def test_a_name_is_neither_marker_nor_markup_in_readme(name: str) -> None:
    made = benchmark(cell(name, "sheaf", data=name), cell("clip-pairs", "single-space", data=name))
    text = replace_tables(MARKED, made)
    assert replace_tables(text, made) == text
    assert "<b>" not in text
    assert "| a b |" in text or "| &lt;" in text
