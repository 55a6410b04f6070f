"""A benchmark's tables as Markdown, between markers in README, so that a test can compare them with the results."""

import re
from collections.abc import Sequence

from sheafalign_fl.benchmark.claims import claims
from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.summaries import SCORES, Entry, data_sets, entries
from sheafalign_fl.errors import UserError
from sheafalign_fl.report.numbers import NONE, human_bytes, percent, percent_with_spread

_COLUMNS = ("method", "R@1", "R@10", "zero-shot, prototypes / logistic", "probe", "1 / 2 missing", "payload")


def markdown_tables(benchmark: Benchmark) -> dict[str, str]:
    """Return name -> Markdown: "results" (a table for each data set) and "claims"."""
    results = "\n\n".join(f"**{data}**\n\n{_results(entries(benchmark, data))}" for data in data_sets(benchmark))
    rows = [(row.data, row.claim, f"**{row.verdict}**", row.sentence) for row in claims(benchmark)]
    return {"results": results, "claims": _table(("data", "claim", "verdict", "by how much"), rows)}


def replace_tables(text: str, benchmark: Benchmark) -> str:
    """Return `text` with what stands between its markers made anew from `benchmark`.

    The markers of a table are ``<!-- benchmark:NAME -->`` and ``<!-- /benchmark:NAME -->``.

    Raises
    ------
    UserError
        A marker is missing.
    """
    for name, table in markdown_tables(benchmark).items():
        begin, end = f"<!-- benchmark:{name} -->", f"<!-- /benchmark:{name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if (found := pattern.search(text)) is None:
            raise UserError(f"the markers {begin} and {end} are missing")
        start, stop = found.span()
        text = f"{text[:start]}{begin}\n{table}\n{end}{text[stop:]}"
    return text


def _results(found: Sequence[Entry]) -> str:
    return _table(_COLUMNS, [_row(entry) for entry in found])


def _row(entry: Entry) -> tuple[str, ...]:
    method = f"{entry.method} ({entry.variant})" if entry.variant else entry.method
    return (
        method,
        _spread(entry, "R@1"),
        _spread(entry, "R@10"),
        f"{_spread(entry, 'transfer, prototypes')} / {_spread(entry, 'transfer, logistic')}",
        _spread(entry, "probe"),
        f"{_mean(entry, '1 missing')} / {_mean(entry, '2 missing')}",
        human_bytes(round(entry.payload_bytes)),
    )


def _spread(entry: Entry, name: str) -> str:
    return percent_with_spread(SCORES[name](cell) for cell in entry.cells)


def _mean(entry: Entry, name: str) -> str:
    spread = entry.score(name)
    return NONE if spread is None else percent(spread.mean)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
