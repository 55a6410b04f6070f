"""A benchmark's report: one self-contained HTML file, a CSV with one row for each cell, and tables for the terminal."""

import csv
import io
import json
from pathlib import Path

from rich.console import Console

from sheafalign_fl.benchmark import plots
from sheafalign_fl.benchmark.claims import RULE, Claim, claims
from sheafalign_fl.benchmark.results import Benchmark, Cell
from sheafalign_fl.benchmark.summaries import data_sets, entries
from sheafalign_fl.benchmark.tables import (
    bytes_table,
    claims_table,
    claims_tally,
    facts_of,
    results_table,
    tuning_table,
)
from sheafalign_fl.report.content import Table
from sheafalign_fl.report.numbers import count_of
from sheafalign_fl.report.page import Html, details, facts, join, page, paragraph, section, table, tag
from sheafalign_fl.report.sections import draw
from sheafalign_fl.report.style import figure_style
from sheafalign_fl.report.tables import print_table
from sheafalign_fl.run.folder import write_atomically


def write_benchmark_report(benchmark: Benchmark, path: Path) -> None:
    """Write the HTML report to `path`, atomically."""
    with figure_style():
        parts = [_claims(benchmark), *(_data(benchmark, name) for name in data_sets(benchmark)), _tuning(benchmark)]
        parts.append(_runs(benchmark))
        sections = [part for part in parts if part is not None]
        write_atomically(path, page("SheafAlign-FL benchmark", _header(benchmark), sections).encode())


def write_csv(benchmark: Benchmark, path: Path) -> None:
    """Write one row for each cell to `path`, atomically; a column for each setting and number of missing clients."""
    rows = [_flat(cell) for cell in benchmark.cells]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())


def print_benchmark(benchmark: Benchmark, console: Console) -> None:
    """Print the results of every data set, and what came of the claims."""
    for name in data_sets(benchmark):
        print_table(results_table(benchmark, name, brief=True), console)
    found = claims(benchmark)
    if found:
        rows = tuple((row.data, row.claim, row.verdict) for row in found)
        print_table(
            Table(f"Claims: {claims_tally(found)}", ("data", "claim", "verdict"), rows, text_columns=3), console
        )


def _header(benchmark: Benchmark) -> Html:
    sets = data_sets(benchmark)
    methods = dict.fromkeys(cell.method for cell in benchmark.cells)
    lead = f"{count_of(len(methods), 'method')} on {count_of(len(sets), 'data set')}: {', '.join(sets)}."
    return tag(
        "header",
        paragraph("SheafAlign-FL", class_="eyebrow"),
        tag("h1", "Benchmark"),
        paragraph(lead, class_="lead"),
        facts(facts_of(benchmark)),
    )


def _claims(benchmark: Benchmark) -> tuple[str, str, Html] | None:
    found = claims(benchmark)
    if not found:
        return None
    shown = table(claims_table(benchmark), RULE)
    content = section("claims", f"The paper's claims: {claims_tally(found)}", _verdicts(found), shown)
    return None if content is None else ("claims", "Claims", content)


def _verdicts(found: list[Claim]) -> Html:
    """Return one line for each claim: on which data it holds, and on which it does not."""
    names = dict.fromkeys(claim.claim for claim in found)
    rows = []
    for name in names:
        mine = [claim for claim in found if claim.claim == name]
        holds = ", ".join(claim.data for claim in mine if claim.verdict == "holds")
        fails = ", ".join(claim.data for claim in mine if claim.verdict == "does not hold")
        rows.append((name, holds or "–", fails or "–"))
    return table(Table("At a glance", ("claim", "holds on", "does not hold on"), tuple(rows), text_columns=3))


def _data(benchmark: Benchmark, name: str) -> tuple[str, str, Html] | None:
    found = entries(benchmark, name)
    anchor = f"data-{data_sets(benchmark).index(name)}"
    reached = bytes_table(benchmark, name)
    content = section(
        anchor,
        name,
        table(results_table(benchmark, name)),
        draw(
            f"{anchor}-pareto",
            plots.pareto_plot(found),
            "Quality against bytes",
            "Test R@10 against the payload of training (logarithmic), with standard deviations over seeds. Good: high "
            "and to the left. The grey line is the front: no cheaper method is as good.",
        ),
        draw(
            f"{anchor}-learning",
            plots.learning_plot(found),
            "Learning",
            "Validation R@10 against the payload spent so far (logarithmic), one line for each seed.",
        ),
        None if reached is None else table(reached),
        draw(
            f"{anchor}-missing",
            plots.missing_plot(found),
            "Missing clients",
            "Accuracy of one classifier over all clients' embeddings, with those of missing clients imputed. Good: "
            "high and flat.",
        ),
    )
    return None if content is None else (anchor, name, content)


def _tuning(benchmark: Benchmark) -> tuple[str, str, Html] | None:
    if not benchmark.tuning:
        return None
    shown = [details(f"{item.data}, {item.method}", table(tuning_table(item))) for item in benchmark.tuning]
    text = f"Tuning maximises {benchmark.criterion}. * marks what was chosen."
    content = section("tuning", "Tuning", paragraph(text), *shown)
    return None if content is None else ("tuning", "Tuning", content)


def _runs(benchmark: Benchmark) -> tuple[str, str, Html]:
    rows = tuple(
        (cell.data, cell.method, str(cell.seed), cell.folder, json.dumps(cell.settings)) for cell in benchmark.cells
    )
    columns = ("data", "method", "seed", "folder", "settings that make the method")
    content = table(Table("All cells", columns, rows, text_columns=5, wide=frozenset({3, 4})))
    return "runs", "Runs", tag("section", tag("h2", "Runs"), join([details("every run", content)]), id="runs")


def _flat(cell: Cell) -> dict[str, object]:
    row = cell.model_dump(exclude={"curve", "missing", "settings"})
    row |= {f"setting.{key}": value for key, value in cell.settings.items()}
    for point in cell.missing:
        for how in ("imputed", "mean_fill", "zero_fill"):
            row[f"missing_{point.missing}_{how}"] = getattr(point, how)
    return row
