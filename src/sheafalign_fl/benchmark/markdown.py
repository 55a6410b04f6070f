"""A benchmark's tables as Markdown, between markers in a page.

The markers let a test compare the tables with the results.
"""

from collections.abc import Sequence

from sheafalign_fl.benchmark.claims import claims
from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.summaries import Entry, data_sets, entries
from sheafalign_fl.errors import UserError
from sheafalign_fl.numbers import NONE, human_bytes, percent

_COLUMNS = (
    "method",
    "R@1",
    "R@10",
    "zero-shot, prototypes / logistic",
    "probe",
    "1 / 2 missing",
    "payload",
)


def markdown_tables(benchmark: Benchmark) -> dict[str, str]:
    """Return name -> Markdown: "results" (a table for each data set) and "claims"."""
    results = "\n\n".join(
        f"**{_plain(data)}**\n\n{_results(entries(benchmark, data))}"
        for data in data_sets(benchmark)
    )
    rows = [(row.data, row.claim, f"**{row.verdict}**", row.sentence) for row in claims(benchmark)]
    return {"results": results, "claims": _table(("data", "claim", "verdict", "by how much"), rows)}


def replace_tables(
    text: str,
    benchmark: Benchmark,
    prefix: str = "benchmark",
    names: Sequence[str] = ("results", "claims"),
) -> str:
    """Return `text` with what stands between its markers made anew from `benchmark`.

    The markers of a table are ``<!-- PREFIX:NAME -->`` and ``<!-- /PREFIX:NAME -->``, for each of
    `names`.

    Raises
    ------
    UserError
        A marker is missing, is there twice, or the closing one comes first.
    """
    tables = markdown_tables(benchmark)
    for name in names:
        table, begin, end = tables[name], f"<!-- {prefix}:{name} -->", f"<!-- /{prefix}:{name} -->"
        for marker in (begin, end):
            if (times := text.count(marker)) != 1:
                raise UserError(
                    f"the marker {marker} is missing"
                    if not times
                    else f"{marker} is there {times} times"
                )
        before, rest = text.split(begin)
        if end not in rest:
            raise UserError(f"{end} comes before {begin}")
        text = f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return text


def _results(found: Sequence[Entry]) -> str:
    return _table(_COLUMNS, [_row(entry) for entry in found])


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        _spread(entry, "R@1"),
        _spread(entry, "R@10"),
        f"{_spread(entry, 'transfer, prototypes')} / {_spread(entry, 'transfer, logistic')}",
        _spread(entry, "probe"),
        f"{_mean(entry, '1 missing')} / {_mean(entry, '2 missing')}",
        human_bytes(round(entry.payload_bytes)),
    )


def _spread(entry: Entry, name: str) -> str:
    spread = entry.score(name)
    return NONE if spread is None else spread.percent


def _mean(entry: Entry, name: str) -> str:
    spread = entry.score(name)
    return NONE if spread is None else percent(spread.mean)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Return text that stays in its cell."""
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return text of one line that is no HTML, so that a name from data can be no marker either."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
