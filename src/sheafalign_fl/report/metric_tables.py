"""The tables of what was measured: one for each metric, as its descriptor says."""

from sheafalign_fl.metrics.base import (
    ClientMetric,
    Column,
    FederationMetric,
    Metric,
    PairMetric,
    Rows,
)
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import known_metric
from sheafalign_fl.numbers import NONE, exact, mean, percent
from sheafalign_fl.report.content import MOST_ROWS, Cells, Table, cut, direction


def quality_tables(quality: Quality, most: int = MOST_ROWS) -> tuple[Table, ...]:
    """Return a table for every metric that was measured."""
    return tuple(metric_table(quality, name, most) for name in quality.measured())


def metric_table(quality: Quality, name: str, most: int = MOST_ROWS) -> Table:
    """Return the table of a metric that was measured; of very many rows the worst and best few."""
    rows = quality.rows(name)
    metric = known_metric(name, rows)
    label = f", label '{quality.label}'" if metric.needs_labels and quality.label else ""
    title = f"{metric.title}{label}"
    headings = tuple(column.heading for column in metric.columns)
    if isinstance(metric, FederationMetric):
        return _series(title, headings, metric, rows, most)
    return cut(
        title,
        (_whose(metric), "events", *headings),
        rows,
        lambda row: (*_leading(metric, row), *(_cell(column, row) for column in metric.columns)),
        metric.rank,
        _summary(metric, rows),
        most,
    )


def _series(title: str, headings: Cells, metric: Metric, rows: Rows, most: int) -> Table:
    """Return rows that have an order of their own; of very many, some at even distances."""
    step = -(-len(rows) // most)
    cells = tuple(tuple(_cell(column, row) for column in metric.columns) for row in rows[::step])
    note = "" if step == 1 else f"every {step}th of {len(rows)} rows"
    return Table(title, headings, cells, note=note)


def _whose(metric: Metric) -> str:
    if isinstance(metric, PairMetric):
        return "direction" if metric.directed else "edge"
    return "client" if isinstance(metric, ClientMetric) else "of"


def _leading(metric: Metric, row: object) -> Cells:
    source, target = getattr(row, "source", ""), getattr(row, "target", "")
    events = getattr(row, "events", None)
    if not target:
        whose = getattr(row, "client", "")
    elif isinstance(metric, PairMetric) and not metric.directed:
        whose = f"{source} – {target}"
    else:
        whose = direction(source, target)
    return (whose, NONE if events is None else exact(events))


def _cell(column: Column, row: object) -> str:
    return _text(column, getattr(row, column.field, None), column.spec)


def _over_rows(column: Column, rows: Rows) -> str:
    """Return the mean of a column; of flags how many are set."""
    values = [getattr(row, column.field, None) for row in rows]
    if column.kind == "flag":
        known = [value for value in values if value is not None]
        return f"{sum(known)} of {len(known)}" if known else NONE
    return _text(column, mean(values), column.mean_spec)


def _text(column: Column, value: float | None, spec: str) -> str:
    if column.kind == "percent":
        return percent(value)
    if value is None:
        return NONE
    if column.kind == "flag":
        return "yes" if value else "no"
    return exact(round(value)) if column.kind == "count" else format(value, spec)


def _summary(metric: Metric, rows: Rows) -> tuple[Cells, ...]:
    """Return the means over all rows and, where a column says it, what guessing gives."""
    means = [_over_rows(column, rows) for column in metric.columns]
    average: Cells = ("mean", "", *means)
    if all(column.chance is None for column in metric.columns):
        return (average,)
    chances = [
        ""
        if (chance := column.chance) is None
        else _text(column, mean(map(chance, rows)), column.mean_spec)
        for column in metric.columns
    ]
    return (average, ("chance", "", *chances))
