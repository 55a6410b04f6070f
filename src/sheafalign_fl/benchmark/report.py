"""A benchmark's report: a self-contained HTML file, a CSV with a row per cell, terminal tables."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sheafalign_fl.benchmark import plots
from sheafalign_fl.benchmark.cautions import facts_of, warnings_of
from sheafalign_fl.benchmark.claim_tables import (
    MARKS,
    claims_lists,
    claims_matrix,
    claims_table,
    claims_tally,
    still_open,
)
from sheafalign_fl.benchmark.claims import RULE, claims
from sheafalign_fl.benchmark.decomposition import decomposition_tables
from sheafalign_fl.benchmark.results import Benchmark, Cell
from sheafalign_fl.benchmark.summaries import data_sets, whole_entries
from sheafalign_fl.benchmark.tables import (
    bytes_table,
    missing_table,
    results_table,
    title_of,
    traffic_table,
    tuning_table,
)
from sheafalign_fl.errors import DataError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.numbers import count_of
from sheafalign_fl.report.content import Table
from sheafalign_fl.report.page import (
    Html,
    details,
    facts,
    header,
    page,
    paragraph,
    section,
    table,
    verdict,
)
from sheafalign_fl.report.style import draw, figure_style
from sheafalign_fl.report.tables import print_table

_CLASSES = dict(zip(MARKS.values(), ("holds", "fails", "open", "open"), strict=True))
"""Sign of a verdict -> its class in report.css."""
_RESULTS = (
    "R@1, R@10: given an event of one client, is its partner of another client among the first 1 "
    "or 10; mean over directions, and the worst direction. ZS: zero-shot transfer, a classifier "
    "fitted on one client answers for another (prototypes, or logistic regression). probe: "
    "logistic regression on each client's own embedding. missing 1, 2: one classifier over all "
    "clients, with 1 or 2 of them absent and imputed (in brackets with the training mean in their "
    "place). High is good everywhere."
)


def write_benchmark_report(benchmark: Benchmark, path: Path) -> None:
    """Write the HTML report to `path`, atomically; raise `DataError` if it cannot be written."""
    with figure_style():
        parts = [
            _claims(benchmark),
            *(_data(benchmark, name) for name in data_sets(benchmark)),
            _tuning(benchmark),
        ]
        parts.append(_runs(benchmark))
        sections = [part for part in parts if part is not None]
        _write(path, page("SheafAlign-FL benchmark", _header(benchmark), sections))


def write_csv(benchmark: Benchmark, path: Path) -> None:
    """Write one row for each cell to `path`, atomically.

    There is a column for each setting and number of missing clients. What was not measured is
    empty. Raises `DataError` if `path` cannot be written.
    """
    rows = [_flat(cell) for cell in benchmark.cells]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(path, buffer.getvalue())


def print_benchmark(benchmark: Benchmark, console: Console) -> None:
    """Print results by data set, what came of the claims, what weakens both; fits 80 columns."""
    for name in data_sets(benchmark):
        print_table(results_table(benchmark, name, brief=True), console)
        beside = [missing_table(benchmark, name), traffic_table(benchmark, name)]
        for content in (*beside, *decomposition_tables(benchmark, name)):
            if content is not None:
                print_table(content, console)
    if found := claims(benchmark):
        print_table(claims_lists(found), console)
    for line in (*still_open(found), *warnings_of(benchmark)):
        console.print(line, markup=False, highlight=False)


def _write(path: Path, content: str) -> None:
    try:
        write_atomically(path, content.encode(), public=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from None


def _header(benchmark: Benchmark) -> Html:
    sets = data_sets(benchmark)
    methods = dict.fromkeys((cell.method, cell.variant) for cell in benchmark.cells)
    lead = (
        f"{count_of(len(methods), 'method')} on {count_of(len(sets), 'data set')}: "
        f"{', '.join(sets)}."
    )
    warnings = (paragraph(warning, kind="notice") for warning in warnings_of(benchmark))
    return header("SheafAlign-FL", "Benchmark", lead, [facts(facts_of(benchmark)), *warnings])


def _claims(benchmark: Benchmark) -> tuple[str, str, Html] | None:
    found = claims(benchmark)
    if not found:
        return None
    content = section(
        "claims",
        f"The paper's claims: {claims_tally(found)}",
        paragraph(RULE, kind="explain"),
        table(_coloured(claims_matrix(found))),
        table(_coloured(claims_table(found))),
    )
    return None if content is None else ("claims", "Claims", content)


def _coloured(content: Table) -> Table:
    """Return the table with its verdicts in colour; the signs say the same without it."""
    rows = tuple(
        (
            row[0],
            *(verdict(cell, kind) if (kind := _class(cell)) else cell for cell in row[1:]),
        )
        for row in content.rows
    )
    return replace(content, rows=rows)


def _class(cell: str) -> str | None:
    """Return the class of a cell that is a verdict: a sign alone, or a sign and its words."""
    words = {f"{mark} {name}": _CLASSES[mark] for name, mark in MARKS.items()}
    return (_CLASSES | words).get(cell)


def _data(benchmark: Benchmark, name: str) -> tuple[str, str, Html] | None:
    found = whole_entries(benchmark, name)
    anchor = f"data-{data_sets(benchmark).index(name)}"
    reached = bytes_table(benchmark, name)
    content = section(
        anchor,
        name,
        table(results_table(benchmark, name), _RESULTS),
        draw(
            f"{anchor}-pareto",
            plots.pareto_plot(found),
            "Quality against bytes",
            "Test R@10 against the payload of training (logarithmic), with standard deviations "
            "over seeds. Good: high and to the left. The grey line is the Pareto front of the "
            "federated methods: none that costs less is as good. What sends nothing is a dotted "
            "line across.",
        ),
        draw(
            f"{anchor}-learning",
            plots.learning_plot(found),
            "Learning",
            "Validation R@10 against the payload spent so far (logarithmic), one line for each "
            "seed. Good: high and to the left.",
        ),
        table(traffic_table(benchmark, name)),
        None if reached is None else table(reached),
        *map(table, decomposition_tables(benchmark, name)),
        draw(
            f"{anchor}-missing",
            plots.missing_plot(found),
            "Missing clients",
            "Accuracy of one classifier over all clients' embeddings, with those of missing "
            "clients imputed; mean and standard deviation over seeds. Good: high and flat.",
        ),
    )
    return None if content is None else (anchor, name, content)


def _tuning(benchmark: Benchmark) -> tuple[str, str, Html] | None:
    if not benchmark.tuning:
        return None
    shown = [details(title_of(item), table(tuning_table(item))) for item in benchmark.tuning]
    text = f"Tuning maximises {benchmark.criterion}. * marks what was chosen."
    content = section("tuning", "Tuning", paragraph(text), *shown)
    return None if content is None else ("tuning", "Tuning", content)


def _runs(benchmark: Benchmark) -> tuple[str, str, Html] | None:
    rows = tuple(
        (
            cell.data,
            cell.method,
            cell.variant,
            str(cell.seed),
            cell.folder,
            json.dumps(cell.settings),
        )
        for cell in benchmark.cells
    )
    columns = ("data", "method", "variant", "seed", "folder", "settings that make the method")
    content = table(Table("All cells", columns, rows, text_columns=6, wide=frozenset({4, 5})))
    shown = section("runs", "Runs", details("every run", content))
    return None if shown is None else ("runs", "Runs", shown)


def _flat(cell: Cell) -> dict[str, object]:
    row = cell.model_dump(exclude={"curve", "missing", "settings", "own", "pairs", "events"})
    row |= {f"setting.{key}": value for key, value in cell.settings.items()}
    for point in cell.missing:
        for how in ("ridge", "imputed", "mean_fill", "zero_fill"):
            row[f"missing_{point.missing}_{how}"] = getattr(point, how)
    row |= {f"events_{split}": count for split, count in cell.events.items()}
    return row | {f"own.{name}": value for name, value in cell.own.items()}
