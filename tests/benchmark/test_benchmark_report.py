"""The benchmark's report, CSV and README tables."""

import csv
from pathlib import Path

import pytest
from rich.console import Console

from experiments.publish import README, RESULTS
from sheafalign_fl.benchmark import load_benchmark
from sheafalign_fl.benchmark.readme_tables import markdown_tables, replace_tables
from sheafalign_fl.benchmark.report import print_benchmark, write_benchmark_report, write_csv
from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.errors import UserError
from tests.benchmark.made_benchmark import benchmark, cell
from tests.report.test_html import HOSTILE, Page, assert_self_contained

MARKED = (
    "a\n<!-- benchmark:results -->what was there<!-- /benchmark:results -->\nb <!-- benchmark:claims -->\n"
    "<!-- /benchmark:claims --> c"
)


def full() -> Benchmark:
    return benchmark(
        *(cell("sheafalign", "sheaf", seed, recall_at_1=0.5 + 0.1 * seed) for seed in range(3)),
        *(cell("clip-pairs", "single-space", seed, payload_bytes=2000) for seed in range(3)),
        cell("paper", "sheaf"),
        cell("lean", "sheaf", variant="lean", payload_bytes=10),
        cell("random", "reference", exchanges=0, payload_bytes=0, curve=()),
        cell("sheafalign", "sheaf", data="bare", transfer_prototype=None, transfer_probe=None, probe=None, missing=()),
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
    for words in ("60.0 ± 10.0 *", "clip-pairs", "does not hold", "what is best", "61.0 s", "30.0 *"):
        assert words in found.text, words
    assert len([name for name, _ in found.elements if name == "svg"]) >= 5


def test_one_method_with_one_seed_and_no_labels_is_still_a_report(tmp_path: Path) -> None:
    made = benchmark(cell("a", "sheaf", transfer_prototype=None, transfer_probe=None, probe=None, missing=(), curve=()))
    found = page(made, tmp_path / "benchmark.html")
    assert "claims" not in found.anchors
    print_benchmark(made, Console(file=(tmp_path / "terminal").open("w", encoding="utf-8"), width=100))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    made = benchmark(cell(HOSTILE, "sheaf", data=HOSTILE), cell("clip-pairs", "single-space", data=HOSTILE))
    assert HOSTILE in page(made, tmp_path / "benchmark.html").text


def test_the_terminal_shows_results_and_verdicts(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w", encoding="utf-8") as file:
        print_benchmark(full(), Console(file=file, width=140))
    shown = (tmp_path / "terminal").read_text(encoding="utf-8")
    assert "60.0 *" in shown
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
    assert "| lean (lean) |" in text
    assert replace_tables(text, made) == text
    with pytest.raises(UserError, match="benchmark:claims"):
        replace_tables("<!-- benchmark:results --><!-- /benchmark:results -->", made)


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head() -> None:
    made = benchmark(cell("a|b", "sheaf"), cell("clip-pairs", "single-space"))
    for table in markdown_tables(made).values():
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1


def test_readme_shows_the_committed_results() -> None:
    """Whoever changes the results has to run `python -m experiments.publish`, and nobody edits the figures by hand."""
    text = README.read_text(encoding="utf-8")
    assert replace_tables(text, load_benchmark(RESULTS)) == text
