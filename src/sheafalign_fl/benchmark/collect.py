"""From run folders to `Cell`s: means of what each run measured, and the bytes that its ledger counted."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sheafalign_fl.benchmark.plan import MethodPlan, Point, Scalar
from sheafalign_fl.benchmark.results import Cell, CurvePoint, Kind, MissingPoint
from sheafalign_fl.config import Settings
from sheafalign_fl.errors import RunError
from sheafalign_fl.protocol.rows import EvaluationRow, Quality, Retrieval
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.summary import Summary

_ALWAYS_SHOWN = ("training.learning_rate", "objective.temperature")


def collect(plan: MethodPlan, point: Point, folder: RunFolder, root: Path) -> Cell:
    """Return the cell of the finished run in `folder`, of a benchmark in `root`.

    Raises
    ------
    RunError
        A client was absent when the run was measured, as one is that has diverged: means would leave it out.
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
            f"{plan.data} {plan.method} seed {summary.seed}: a client was absent when the run was measured{why}; "
            f"remove {folder.path} to run it again"
        )
    train = [row for row in summary.bytes if row.purpose == "train"]
    return Cell(
        data=plan.data,
        method=plan.method,
        kind=_kind(settings),
        variant=plan.variant,
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
        **_retrieval(quality.retrieval),
        **_labelled(quality),
        missing=tuple(
            MissingPoint(
                missing=row.missing,
                imputed=row.imputed,
                mean_fill=row.mean_fill,
                zero_fill=row.zero_fill,
            )
            for row in quality.missing
        ),
        consistency=_mean(row.value for row in quality.consistency),
        seconds=summary.seconds,
        curve=_curve(folder),
    )


def tuning_score(folder: RunFolder) -> float:
    """Return what tuning maximises: see `CRITERION`. Without labels it is R@10 alone; 0 if a client has diverged."""
    summary = folder.load_summary()
    quality = summary.quality
    if not _is_whole(summary):
        return 0.0
    parts = [
        _mean(row.recall_at_10 for row in quality.retrieval),
        _mean(row.prototype_accuracy for row in quality.transfer),
    ]
    return _mean(part for part in parts if part is not None) or 0.0


def _is_whole(summary: Summary) -> bool:
    """Return whether both directions were measured of every edge that shares events to measure on."""
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


def _retrieval(rows: Sequence[Retrieval]) -> dict[str, Any]:
    return {
        "gallery": min(row.events for row in rows),
        "recall_at_1": _mean(row.recall_at_1 for row in rows),
        "recall_at_5": _mean(row.recall_at_5 for row in rows),
        "recall_at_10": _mean(row.recall_at_10 for row in rows),
        "worst_recall_at_10": min(row.recall_at_10 for row in rows),
        "median_rank": _mean(row.median_rank for row in rows),
        "mean_average_precision": _mean(
            row.mean_average_precision for row in rows if row.mean_average_precision is not None
        ),
    }


def _labelled(quality: Quality) -> dict[str, float | None]:
    return {
        "transfer_prototype": _mean(row.prototype_accuracy for row in quality.transfer),
        "transfer_probe": _mean(row.probe_accuracy for row in quality.transfer),
        "probe": _mean(row.accuracy for row in quality.probe),
        "majority": _mean(row.majority for row in quality.transfer),
    }


def _curve(folder: RunFolder) -> tuple[CurvePoint, ...]:
    """Return retrieval on validation events over the run; not the final measurement, which is on test events."""
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
