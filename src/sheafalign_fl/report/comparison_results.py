"""What a report that compares runs says of their results: quality, and bytes of all kinds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sheafalign_fl.metrics.base import FederationMetric, Rows, Score
from sheafalign_fl.metrics.registry import METRICS, known_metric
from sheafalign_fl.numbers import (
    NONE,
    exact,
    human_bytes,
    mean,
    percent,
    percent_with_spread,
    with_spread,
)
from sheafalign_fl.report.content import Cells, Purpose, Table, training_payload
from sheafalign_fl.report.page import Html, table
from sheafalign_fl.runs.reading import Run

Groups = Mapping[str, Sequence[Run]]


def results(groups: Groups) -> list[Html | None]:
    """Return what was measured, method by method, and all kinds of bytes."""
    scores = _scores(groups)
    compared = [(name, score) for name, score in scores if _is_fraction(score)]
    others = [(name, score) for name, score in scores if not _is_fraction(score)]
    rows: list[Cells] = []
    for name, runs in groups.items():
        payload = mean(float(training_payload(run.bytes)) for run in runs)
        values = (_with_floor(runs, metric, score) for metric, score in compared)
        rows.append((name, str(len(runs)), *values, human_bytes(round(payload or 0))))
        if any(_own_edges(run) is not None for run in runs):
            own = (_on_own_edges(runs, metric, score) for metric, score in compared)
            rows.append((f"{name}, own edges", "", *own, ""))
    headings = ("method", "runs", *(score.name for _, score in compared), "payload")
    content = Table("Test results, %", headings, tuple(rows), note=_conditions(groups))
    shown = _without_empty(content)
    return [
        table(
            shown,
            "In percent, means over all directions, clients or choices of missing clients, on test "
            "events. Higher is better; a method that costs fewer bytes for the same quality is "
            "better too. In brackets: with the training mean in place of what is missing. Own "
            "edges: of a method that trains fewer pairs than are measured.",
        ),
        _other_results(groups, others),
        table(_traffic(groups)),
    ]


def _with_floor(runs: Sequence[Run], metric: str, score: Score) -> str:
    """Return mean and deviation and, of what is measured of all clients together, the floor."""
    text = percent_with_spread(_values(runs, metric, score))
    summaries = [run.summary for run in runs if run.summary is not None]
    whole = metric in METRICS and isinstance(METRICS[metric], FederationMetric)
    if score.chance is None or not whole or text == NONE:
        return text
    floor = mean(score.chance(summary.quality.rows(metric)) for summary in summaries)
    return text if floor is None else f"{text}\n({percent(floor)})"


def _own_edges(run: Run) -> frozenset[tuple[str, str]] | None:
    """Return the directions that a run trained where more of them were measured."""
    if run.summary is None:
        return None
    ends = [(edge.source, edge.target) for edge in run.summary.edges]
    own = frozenset([*ends, *(pair[::-1] for pair in ends)])
    measured = {(row.source, row.target) for row in run.summary.quality.retrieval}
    return own if measured - own else None


def _on_own_edges(runs: Sequence[Run], metric: str, score: Score) -> str:
    """Return a score over the trained directions; empty where it is no mean over directions."""
    values = []
    for run in runs:
        own = _own_edges(run)
        if run.summary is None or own is None:
            continue
        rows = run.summary.quality.rows(metric)
        if not all(getattr(row, "target", None) for row in rows):
            return ""
        values.append(score.of([row for row in rows if (row.source, row.target) in own]))
    return percent_with_spread(values)


def _conditions(groups: Groups) -> str:
    """Return what the figures are of: gallery, seeds, and events of each split."""
    runs = [run for members in groups.values() for run in members if run.summary is not None]
    summaries = [run.summary for run in runs if run.summary is not None]
    galleries = [row.events for summary in summaries for row in summary.quality.retrieval]
    seeds = ", ".join(map(str, sorted({run.settings.seed for run in runs})))
    edges = [edge for summary in summaries for edge in summary.edges]
    splits = dict.fromkeys(split for edge in edges for split in edge.shared_events)
    parts = [f"Retrieval among {exact(min(galleries))} events"] if galleries else []
    parts += [f"seeds {seeds}"] if seeds else []
    if splits:
        least = (
            f"{exact(min(edge.shared_events.get(split, 0) for edge in edges))} {split}"
            for split in splits
        )
        parts.append(f"events of an edge, at least: {', '.join(least)}")
    return f"{'; '.join(parts)}." if parts else ""


def _other_results(groups: Groups, others: Sequence[tuple[str, Score]]) -> Html | None:
    """Return the scores that are no fractions or better when low, each in its own unit."""
    if not others:
        return None
    rows = tuple(
        (name, *(with_spread(_values(runs, metric, score)) for metric, score in others))
        for name, runs in groups.items()
    )
    headings = (
        "method",
        *(f"{score.name} {'↑' if score.higher_is_better else '↓'}" for _, score in others),
    )
    return table(
        Table("Test results in other units", headings, rows),
        "↑: higher is better; ↓: lower is better.",
    )


def _scores(groups: Groups) -> list[tuple[str, Score]]:
    """Return (metric, score) of all that was measured in some run."""
    rows: dict[str, Rows] = {}
    for run in (run for runs in groups.values() for run in runs):
        if run.summary is not None:
            quality = run.summary.quality
            rows |= {name: quality.rows(name) for name in quality.measured()}
    order = [*METRICS, *(name for name in rows if name not in METRICS)]
    return [
        (name, score)
        for name in order
        if name in rows
        for score in known_metric(name, rows[name]).scores
    ]


def _is_fraction(score: Score) -> bool:
    return score.percent and score.higher_is_better


def _values(runs: Sequence[Run], metric: str, score: Score) -> list[float | None]:
    return [score.of(run.summary.quality.rows(metric)) for run in runs if run.summary is not None]


def _traffic(groups: Groups) -> Table:
    """Return payload, messages and relay bytes of training and of all evaluations."""
    purposes: tuple[Purpose, Purpose] = ("train", "evaluate")
    rows = tuple(
        (name, *(text for purpose in purposes for text in _bytes_of(runs, purpose)))
        for name, runs in groups.items()
    )
    columns = ("method", "payload", "messages", "relay", "evaluation", "messages", "relay")
    note = (
        "Means over runs. Payload, messages with all framing, and what crosses the network by way "
        "of the relay: first of training, then of all evaluations."
    )
    return Table("Bytes", columns, rows, note=note)


def _bytes_of(runs: Sequence[Run], purpose: Purpose) -> list[str]:
    totals = [
        [
            (row.payload_bytes, row.message_bytes, row.relay_bytes)
            for row in run.bytes
            if row.purpose == purpose
        ]
        for run in runs
    ]
    return [
        human_bytes(round(mean(float(sum(row[kind] for row in rows)) for rows in totals) or 0))
        for kind in range(3)
    ]


def _without_empty(content: Table) -> Table:
    """Return the table without the columns in which no row has a value."""
    kept = [
        index
        for index in range(len(content.columns))
        if any(row[index] != NONE for row in content.rows)
    ]
    rows = tuple(tuple(row[index] for index in kept) for row in content.rows)
    return replace(content, columns=tuple(content.columns[index] for index in kept), rows=rows)
