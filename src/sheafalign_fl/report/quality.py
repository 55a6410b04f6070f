"""What a run's report shows of its quality: the key figures, and a table and picture a metric."""

from collections.abc import Callable

from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import known_metric
from sheafalign_fl.numbers import count_of, duration, exact, human_bytes
from sheafalign_fl.report import plots
from sheafalign_fl.report.content import direction, training_payload
from sheafalign_fl.report.metric_tables import metric_table
from sheafalign_fl.report.page import Html, columns, details, paragraph, table, together
from sheafalign_fl.report.style import draw
from sheafalign_fl.runs.reading import Run

MOST_FOLDED = 400
"""Rows of a table that opens at a click."""
_PICTURES: dict[str, Callable[[Run, Quality], Html | None]] = {
    "retrieval": lambda run, quality: draw(
        "matrix",
        plots.recall_matrix(quality.retrieval, list(run.settings.clients)),
        "Retrieval by direction",
        "R@10 from each client (row) to each neighbour (column). Good: dark everywhere. A pale row "
        "or column is a client that the others cannot understand; empty squares are no edges.",
    ),
    "missing": lambda run, quality: draw(
        "missing",
        plots.missing_curve(quality.missing, quality.probe),
        "When sensors fail",
        "Accuracy of one classifier over all clients' embeddings while some clients are missing, "
        "mean over the possible choices. Good: the blue line, where neighbours stand in for the "
        "missing, stays flat and above both fills.",
    ),
}
"""Metric -> what is drawn of it beside its table."""


def key_figures(run: Run) -> list[tuple[str, str, str]]:
    """Return (title, value, remark) of what a report begins with."""
    quality, items = run.quality, []
    if quality is not None:
        for name in quality.measured():
            rows = quality.rows(name)
            shown = known_metric(name, rows).cards(rows, quality.split)
            items += [(card.title, card.value, card.remark) for card in shown]
    payload = training_payload(run.bytes)
    items.append(
        (
            "Training payload",
            human_bytes(payload),
            f"{exact(payload)} bytes of embeddings, all edges",
        )
    )
    remark = f"{count_of(run.done, 'exchange')}"
    items.append(("Wall time", duration(run.seconds), remark))
    return items


def quality_section(run: Run) -> list[Html | None]:
    """Return what was measured on held-out events: tables, and what is drawn of them."""
    quality = run.quality
    if quality is None:
        return [paragraph("Nothing was measured before the run ended.")]
    metrics = {name: known_metric(name, quality.rows(name)) for name in quality.measured()}
    wide = [name for name, metric in metrics.items() if not metric.narrow]
    drawn = [name for name in metrics if name not in wide and name in _PICTURES]
    plain = [name for name in metrics if name not in (*wide, *drawn)]
    return [
        paragraph(
            f"Measured on {quality.split} events, which no client has trained on; values in "
            "percent unless said otherwise."
        ),
        *(part for name in wide[:1] for part in _stacked(run, quality, name)),
        _projection(run),
        *(part for name in wide[1:] for part in _stacked(run, quality, name)),
        *(columns(*reversed(_stacked(run, quality, name))) for name in drawn),
        *(
            columns(*(_quality_table(quality, name) for name in plain[start : start + 2]))
            for start in range(0, len(plain), 2)
        ),
    ]


def _stacked(run: Run, quality: Quality, name: str) -> list[Html | None]:
    """Return a metric's table, and what is drawn of it."""
    return [_quality_table(quality, name), _picture(run, quality, name)]


def _picture(run: Run, quality: Quality, name: str) -> Html | None:
    return _PICTURES[name](run, quality) if name in _PICTURES else None


def _quality_table(quality: Quality, name: str) -> Html:
    short, whole = metric_table(quality, name), metric_table(quality, name, MOST_FOLDED)
    shown = table(short, known_metric(name, quality.rows(name)).explanation)
    if whole.rows == short.rows:
        return shown
    return together([shown, details(f"All {len(whole.rows)} rows", table(whole))])


def _projection(run: Run) -> Html | None:
    if run.projection is None:
        return None
    name = direction(run.projection.source, run.projection.target).replace("→", "–")
    return draw(
        "projection",
        plots.projection_plot(run.projection),
        f"The comparison space of {name}",
        "Test events as both ends of one edge place them, flattened to two dimensions. Good: the "
        "two clients cover the same ground, lines are short, and events of one label lie together "
        "whichever sensor saw them. Two dimensions show only the stated part of the variance, so "
        "the tables above decide.",
    )
