"""A benchmark's tables as Markdown, between markers in a page.

The markers let a test compare the tables with the results.
"""

from collections.abc import Sequence

from sheafalign_fl.benchmark.cautions import warnings_of
from sheafalign_fl.benchmark.claim_tables import claims_tally
from sheafalign_fl.benchmark.claims import RULE, claims
from sheafalign_fl.benchmark.decomposition import decomposition_tables
from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.summaries import Entry, Spread, data_sets, whole_entries
from sheafalign_fl.benchmark.tables import OWN_EDGES, conditions
from sheafalign_fl.errors import UserError
from sheafalign_fl.numbers import NONE, human_bytes, percent

_COLUMNS = (
    "method",
    "R@1",
    "R@10",
    "zero-shot, prototypes / logistic",
    "probe",
    "1 / 2 missing (mean-fill)",
    "payload / messages / relay",
)


def markdown_tables(benchmark: Benchmark) -> dict[str, str]:
    """Return name -> Markdown.

    "results": a table for each data set, and what its figures are of. "claims": how many hold, and
    one line each.
    """
    results = "\n\n".join(_results(benchmark, data) for data in data_sets(benchmark))
    found = claims(benchmark)
    rows = [(row.data, row.claim, f"**{row.verdict}**", row.sentence) for row in found]
    warnings = "".join(f"\n\n{_plain(warning)}" for warning in warnings_of(benchmark))
    lines = _table(("data", "claim", "verdict", "by how much"), rows)
    tally = f"{_plain(claims_tally(found))}."
    return {"results": f"{results}{warnings}", "claims": f"{tally} {_plain(RULE)}\n\n{lines}"}


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


def _results(benchmark: Benchmark, data: str) -> str:
    """Return a data set's name, what its figures are of, its table, and what variants gain."""
    rows = [row for entry in whole_entries(benchmark, data) for row in _rows(entry)]
    parts = [f"**{_plain(data)}**", _plain(conditions(benchmark, data)), _table(_COLUMNS, rows)]
    for gained in decomposition_tables(benchmark, data):
        parts += [_plain(gained.note), _table(gained.columns, gained.rows)]
    return "\n\n".join(parts)


def _rows(entry: Entry) -> list[tuple[str, ...]]:
    """Return the row of an entry and, where it trains fewer pairs than are measured, of those."""
    own = entry.own_edges
    if own is None:
        return [_row(entry)]
    scores = (_shown(entry.score(name, own)) for name in ("R@1", "R@10"))
    transfer = " / ".join(
        _shown(entry.score(name, own)) for name in ("transfer, prototypes", "transfer, logistic")
    )
    return [_row(entry), (f"{entry.name}, {OWN_EDGES}", *scores, transfer, "", "", "")]


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        _spread(entry, "R@1"),
        _spread(entry, "R@10"),
        f"{_spread(entry, 'transfer, prototypes')} / {_spread(entry, 'transfer, logistic')}",
        _spread(entry, "probe"),
        f"{_imputed(entry, '1 missing')} / {_imputed(entry, '2 missing')}",
        " / ".join(
            human_bytes(round(count))
            for count in (entry.payload_bytes, entry.message_bytes, entry.relay_bytes)
        ),
    )


def _spread(entry: Entry, name: str) -> str:
    return _shown(entry.score(name))


def _shown(spread: Spread | None) -> str:
    return NONE if spread is None else spread.percent


def _imputed(entry: Entry, name: str) -> str:
    """Return the mean with imputation and, in brackets, with the training mean in its place."""
    spread, filled = entry.score(name), entry.filled(name)
    if spread is None:
        return NONE
    return percent(spread.mean) + ("" if filled is None else f" ({percent(filled.mean)})")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Return text that stays in its cell."""
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return text of one line that is no HTML, so that a name from data can be no marker either."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
