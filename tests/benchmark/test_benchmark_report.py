"""The benchmark's report, CSV and README tables."""

import csv
from pathlib import Path

import pytest
from rich.console import Console

from experiments.publish import PUBLICATIONS
from sheafalign_fl.benchmark.claims import claims
from sheafalign_fl.benchmark.markdown import markdown_tables, replace_tables
from sheafalign_fl.benchmark.report import print_benchmark, write_benchmark_report, write_csv
from sheafalign_fl.benchmark.results import Benchmark, Trial, Tuning
from sheafalign_fl.benchmark.tables import (
    MARKS,
    bytes_table,
    results_table,
    tuning_table,
    warnings_of,
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
        *(cell("sheafalign", "sheaf", seed, recall_at_1=0.5 + 0.1 * seed) for seed in range(3)),
        *(cell("clip-pairs", "single-space", seed, payload_bytes=2000) for seed in range(3)),
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
    for words in ("*60.0 ± 10.0", "clip-pairs", "does not hold", "what is best", "61.0 s", "*30.0"):
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
    assert "*60.0" in shown
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
    assert "| sheafalign | 60.0 ± 10.0 |" in text
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
    assert "within the spread: it could be chance" in found.text
    kinds = {
        "holds": "verdict holds",
        "does not hold": "verdict fails",
        "not measured": "verdict open",
    }
    rows = claims(made)
    spans = [str(a.get("class")) for name, a in found.elements if name == "span"]
    for verdict, mark in MARKS.items():
        count = sum(row.verdict == verdict for row in rows)
        assert count > 0, verdict
        # Once in the matrix and once beside its sentence; the legend has the words, not the colour.
        assert spans.count(kinds[verdict]) == 2 * count
        assert found.text.count(f"{mark} {verdict}") == count + 1
    for row in rows:
        assert row.sentence in found.text


def test_what_weakens_the_figures_is_said(tmp_path: Path) -> None:
    seeds = [cell("sheafalign", "sheaf", seed) for seed in (0, 1, 2)]
    flat = tuple(Trial(settings={"rate": rate}, score=0.0) for rate in (1, 2))
    assert warnings_of(benchmark(*seeds)) == []
    made = benchmark(*seeds, cell("sheafalign", "sheaf", 2), cell("lean", "sheaf", variant="lean"))
    made = made.model_copy(
        update={"tuning": (Tuning(data="toy", method="imagebind", trials=flat),)}
    )
    few, twice, tuning = warnings_of(made)
    assert few.endswith("lean on toy.")
    assert twice.endswith("sheafalign on toy.")
    assert "tuning chose nothing" in tuning
    assert tuning.endswith("imagebind on toy.")
    shown = page(made, tmp_path / "benchmark.html").text
    for warning in (few, twice, tuning):
        assert warning in shown


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
    (row,) = [line for line in lines if line.strip().startswith("clip-pairs ") and "kB" in line]
    best = [
        "*70.0",
        "*40.0",
        "*60.0",
        "*65.0",
        "*80.0",
        "*80.0",
        "*70.0",
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
