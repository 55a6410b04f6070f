"""What a run wrote down as tables of plain columns, for notebooks."""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.protocol.rows import EvaluationRow, ExchangeRow
from sheafalign_fl.row import Row
from sheafalign_fl.runs.ledger import COLUMNS, read_ledger

QUALITY_COLUMNS = ("exchange", "split", "metric", "source", "target", "field", "value")
LOSS_COLUMNS = ("exchange", "source", "target", "term", "value")


class Table(Sequence[Mapping[str, Any]]):
    """Rows of one kind: ``table["value"]`` is a column, ``table[0]`` a row."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Hold `rows`, each with one value for every column."""
        self.columns = tuple(columns)
        self._rows = [tuple(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        """Return a column (by name), a row (by position), or a table of some rows (by slice)."""
        if isinstance(key, str):
            place = self.columns.index(key)
            return [row[place] for row in self._rows]
        if isinstance(key, slice):
            return Table(self.columns, self._rows[key])
        return dict(zip(self.columns, self._rows[key], strict=True))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self._rows)

    def __repr__(self) -> str:
        return f"Table({len(self)} rows: {', '.join(self.columns)})"

    def where(self, **values: Any) -> "Table":
        """Return the rows whose columns have these values."""
        places = {self.columns.index(name): value for name, value in values.items()}
        kept = (row for row in self._rows if all(row[i] == v for i, v in places.items()))
        return Table(self.columns, kept)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`; raise `ImportError` where pandas is not installed."""
        import pandas

        return pandas.DataFrame(self._rows, columns=list(self.columns))


def shown(table: Table) -> Any:
    """Return `table` as a `pandas.DataFrame` where pandas is installed, else as it is."""
    return table.to_pandas() if importlib.util.find_spec("pandas") else table


def loss_table(rows: Iterable[ExchangeRow]) -> Table:
    """Return one row for every exchange, directed edge and term of the objective."""
    return Table(
        LOSS_COLUMNS,
        (
            (row.exchange, loss.source, loss.target, term, value)
            for row in rows
            for loss in row.losses
            for term, value in loss.terms.items()
        ),
    )


def quality_table(rows: Iterable[EvaluationRow]) -> Table:
    """Return one row for every measured number of every evaluation, in `QUALITY_COLUMNS`."""
    return Table(
        QUALITY_COLUMNS,
        (line for row in rows for line in _quality_lines(row.exchange, row.quality)),
    )


def ledger_table(path: Path) -> Table:
    """Return the rows of the ledger at `path`: one for every message, with its bytes."""
    return Table(COLUMNS, (tuple(asdict(row).values()) for row in read_ledger(path)))


def _quality_lines(exchange: int, quality: Quality) -> Iterator[tuple[Any, ...]]:
    for metric in quality.measured():
        for score in quality.rows(metric):
            source = getattr(score, "source", getattr(score, "client", ""))
            target = getattr(score, "target", "")
            for field, value in _numbers(score, without={"source", "target", "client"}):
                yield exchange, quality.split, metric, source, target, field, value


def _numbers(row: Row, without: set[str]) -> Iterator[tuple[str, float]]:
    for name, value in row:
        if name not in without and isinstance(value, int | float):
            yield name, value
