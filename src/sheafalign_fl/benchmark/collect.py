"""From run folders to `Cell`s: means of what each run measured, and the bytes in its ledger."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sheafalign_fl.benchmark.plan import MethodPlan, Point, Scalar
from sheafalign_fl.benchmark.results import Cell, CurvePoint, Kind, PairFigures
from sheafalign_fl.config import Settings
from sheafalign_fl.errors import RunError
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import METRICS, known_metric
from sheafalign_fl.protocol.rows import EvaluationRow
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.summary import Summary

_ALWAYS_SHOWN = ("training.learning_rate", "objective.temperature")


def collect(plan: MethodPlan, point: Point, folder: RunFolder, root: Path) -> Cell:
    """Return the cell of the finished run in `folder`, of a benchmark in `root`.

    Raises
    ------
    RunError
        A client was absent when the run was measured, as one is that has diverged: means would
        leave it out.
    """
    summary, settings = folder.load_summary(), folder.settings()
    quality = summary.quality
    if not _is_whole(summary):
        why = (
            f" ('{summary.absences[-1].client}': {summary.absences[-1].reason})"
            if summary.absences
            else ""
        )
        raise RunError(
            f"{plan.data} {plan.method} seed {summary.seed}: a client was absent when the run was "
            f"measured{why}; remove {folder.path} to run it again"
        )
    train = [row for row in summary.bytes if row.purpose == "train"]
    evaluated = [row for row in summary.bytes if row.purpose == "evaluate"]
    return Cell(
        data=plan.data,
        method=plan.method,
        kind=_kind(settings),
        variant=plan.variant,
        base=plan.base,
        seed=summary.seed,
        folder=str(folder.path.relative_to(root)),
        settings=_facts(settings, [*_ALWAYS_SHOWN, *point, *plan.fixed]),
        exchanges=summary.exchanges,
        clients=len(summary.clients),
        directions=2 * len(summary.edges),
        codec=settings.codec,
        edge_dim=max(edge.dim for edge in summary.edges),
        payload_bytes=sum(row.payload_bytes for row in train),
        message_bytes=sum(row.message_bytes for row in train),
        relay_bytes=sum(row.relay_bytes for row in train),
        evaluation_payload_bytes=sum(row.payload_bytes for row in evaluated),
        evaluation_message_bytes=sum(row.message_bytes for row in evaluated),
        evaluation_relay_bytes=sum(row.relay_bytes for row in evaluated),
        events=_poorest(summary),
        **_measured(quality),
        unconverged=_unconverged(quality),
        pairs=_pairs(summary),
        seconds=summary.seconds,
        curve=_curve(folder),
    )


def tuning_score(folder: RunFolder) -> float:
    """Return what tuning maximises: see `CRITERION`.

    Without labels it is R@10 alone; 0 if a client has diverged.
    """
    summary = folder.load_summary()
    quality = summary.quality
    if not _is_whole(summary) or _has_diverged(folder):
        return 0.0
    parts = [
        _mean(row.recall_at_10 for row in quality.retrieval),
        _mean(row.prototype_accuracy for row in quality.transfer),
    ]
    return _mean(part for part in parts if part is not None) or 0.0


def _has_diverged(folder: RunFolder) -> bool:
    """Return whether a step was not taken, or embeddings were refused: only rates are to blame.

    Steps that leave no finite weights are taken back, so the result itself does not show it.
    """
    told = (row["event"] for row in read_rows(folder.metrics) if row["kind"] == "watch")
    return any(event in ("refused", "not stepped") for event in told)


def _is_whole(summary: Summary) -> bool:
    """Return whether both directions of every edge were measured.

    An edge that shares no events to measure on does not count.
    """
    measured = {(row.source, row.target) for row in summary.quality.retrieval}
    shared = [edge for edge in summary.edges if edge.shared_events[summary.quality.split] > 0]
    # In a space that all share there are further pairs, which are no edges.
    return all(
        {(edge.source, edge.target), (edge.target, edge.source)} <= measured for edge in shared
    )


def _kind(settings: Settings) -> Kind:
    if settings.engine == "pooled" or settings.training.exchanges == 0:
        return "reference"
    return "single-space" if settings.maps.family == "identity" else "sheaf"


def _measured(quality: Quality) -> dict[str, Any]:
    """Return what a cell keeps of every metric: the built-in ones have fields of their own."""
    found: dict[str, Any] = {}
    for metric in METRICS.values():
        rows = quality.rows(metric.name)
        found |= metric.facts(rows) if rows else {}
    own = {
        score.name: value
        for name in quality.own
        for score in known_metric(name, quality.rows(name)).scores
        if quality.rows(name) and (value := score.of(quality.rows(name))) is not None
    }
    return found | {"own": own}


def _poorest(summary: Summary) -> dict[str, int]:
    """Return split -> the fewest events that both ends of an edge have."""
    splits = dict.fromkeys(split for edge in summary.edges for split in edge.shared_events)
    return {
        split: min(edge.shared_events.get(split, 0) for edge in summary.edges) for split in splits
    }


def _unconverged(quality: Quality) -> int:
    flags = (
        getattr(row, "converged", None) for name in quality.measured() for row in quality.rows(name)
    )
    return sum(flag is False for flag in flags)


def _pairs(summary: Summary) -> tuple[PairFigures, ...]:
    """Return the figures of every direction that was measured, and whether it is an edge's."""
    ends = [(edge.source, edge.target) for edge in summary.edges]
    edges = {*ends, *(pair[::-1] for pair in ends)}
    transfer = {(row.source, row.target): row for row in summary.quality.transfer}
    found = []
    for row in summary.quality.retrieval:
        pair = (row.source, row.target)
        other = transfer.get(pair)
        found.append(
            PairFigures(
                source=row.source,
                target=row.target,
                trained=pair in edges,
                recall_at_1=row.recall_at_1,
                recall_at_10=row.recall_at_10,
                transfer_prototype=None if other is None else other.prototype_accuracy,
                transfer_probe=None if other is None else other.probe_accuracy,
            )
        )
    return tuple(found)


def _curve(folder: RunFolder) -> tuple[CurvePoint, ...]:
    """Return retrieval on validation events over the run, without the final one on test events."""
    found = [
        EvaluationRow.model_validate(row)
        for row in read_rows(folder.metrics)
        if row["kind"] == "evaluation"
    ]
    return tuple(
        CurvePoint(
            exchange=row.exchange,
            payload_bytes=row.payload_bytes,
            recall_at_1=_mean(item.recall_at_1 for item in row.quality.retrieval) or 0.0,
            recall_at_10=_mean(item.recall_at_10 for item in row.quality.retrieval) or 0.0,
        )
        for row in found[:-1]
        if row.quality.split == "validation"
    )


def _facts(settings: Settings, keys: Iterable[str]) -> dict[str, Scalar]:
    """Return the values of dotted keys that are plain values."""
    content = settings.model_dump(mode="json")
    facts: dict[str, Scalar] = {}
    for key in keys:
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str | int | float | bool):
            facts[key] = value
    return facts


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None
