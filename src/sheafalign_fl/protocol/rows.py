"""What is measured, as rows: losses, scores, times, absences, bytes. The lines of `metrics.jsonl`.

Fractions are between 0 and 1, bytes are integers, times are seconds.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, model_serializer, model_validator

from sheafalign_fl.errors import ProtocolError


class Row(BaseModel):
    """A frozen row that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Retrieval(Row):
    """Cross-modal retrieval source -> target in the comparison space of their edge (DESIGN section 5.1)."""

    source: str
    target: str
    events: int
    """Queries, and size of the gallery."""
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    """1 is best."""
    mean_average_precision: float | None
    """By class; null without labels."""


class Transfer(Row):
    """Zero-shot transfer source -> target: fitted on the source's training labels (DESIGN section 5.2)."""

    source: str
    target: str
    events: int
    prototype_accuracy: float
    probe_accuracy: float
    majority: float
    """Accuracy of always answering the most frequent training class: the floor."""


class Probe(Row):
    """Linear probe on a client's own embedding (DESIGN section 5.3)."""

    client: str
    events: int
    accuracy: float
    majority: float


class Missing(Row):
    """Accuracy of the fused probe with `missing` clients absent, mean over all subsets (DESIGN section 5.4)."""

    missing: int
    subsets: int
    events: int
    imputed: float
    """h_j imputed as the mean over present neighbours i of Q_ji z_ij."""
    mean_fill: float
    zero_fill: float
    worst_imputed: float
    """Accuracy of the worst subset, imputed."""


class Consistency(Row):
    """Disagreement on an edge: mean over events of ||z_ij - z_ji||^2 / (||z_ij||^2 + ||z_ji||^2) (DESIGN section 5.5).

    0: the two ends agree; 1: as far apart as unrelated vectors; 2: opposite.
    """

    source: str
    target: str
    events: int
    value: float


class Quality(Row):
    """Everything measured at one exchange on one split. Lists are empty for metrics that were not asked for."""

    split: Literal["validation", "test"]
    label: str | None
    retrieval: tuple[Retrieval, ...] = ()
    transfer: tuple[Transfer, ...] = ()
    probe: tuple[Probe, ...] = ()
    missing: tuple[Missing, ...] = ()
    consistency: tuple[Consistency, ...] = ()


class Loss(Row):
    """Terms of the objective as client `source` sees its edge to `target`, means over events.

    In `metrics.jsonl` the terms stand beside `source`, `target` and `events` under their own names;
    null stands for a number that was not finite.
    """

    source: str
    target: str
    events: int
    terms: dict[str, float]
    """Name of a term (`sheafalign_fl.sheaf.LOSS_TERMS`) -> its unweighted value; ``total`` is the
    weighted sum."""

    @model_serializer(mode="plain")
    def _beside_each_other(self) -> dict[str, Any]:
        edge = {"source": self.source, "target": self.target, "events": self.events}
        return edge | self.terms

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "terms" in value:
            return value
        edge = {name: value[name] for name in ("source", "target", "events") if name in value}
        terms = {k: number for k, number in value.items() if k not in edge and number is not None}
        return edge | {"terms": terms}


_Packed = TypeAdapter(tuple[tuple[str, ...], dict[str, tuple[float, ...]]])
_MOST_LOSS_BYTES = 1 << 20


def pack_losses(losses: Sequence[Loss]) -> bytes:
    """Return the losses of one client's edges as bytes for the wire and for its state."""
    names = list(losses[0].terms) if losses else []
    edges = {loss.target: [loss.events, *map(loss.terms.__getitem__, names)] for loss in losses}
    return json.dumps([names, edges], separators=(",", ":")).encode()


def unpack_losses(source: str, data: bytes) -> list[Loss]:
    """Return what client `source` packed.

    Raises
    ------
    ProtocolError
        `data` holds no losses.
    """
    try:
        if len(data) > _MOST_LOSS_BYTES:
            raise ValueError(f"{len(data)} bytes")
        names, edges = _Packed.validate_json(data)
        return [
            Loss(
                source=source,
                target=target,
                events=int(events),
                terms=dict(zip(names, values, strict=True)),
            )
            for target, (events, *values) in edges.items()
        ]
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"losses that cannot be read: {error}") from None


class Timing(Row):
    """Where the time of one client's part in an exchange went, in seconds; of deployed clients only."""

    client: str
    compute: float
    encode: float
    """Codec and seal, both ways."""
    save: float
    """Its own checkpoint."""
    wire: float
    """From sending the message to having the answer, less what the client worked."""
    wait: float
    """Until the last client had answered."""


class ExchangeRow(Row):
    """One line of metrics.jsonl for each exchange."""

    kind: Literal["exchange"] = "exchange"
    exchange: int
    losses: tuple[Loss, ...]
    absent: tuple[str, ...]
    """Clients that were late or failed, so that the others went on without their edges."""
    payload_bytes: int
    """Training payload since the start, this exchange included."""
    message_bytes: int
    relay_bytes: int
    seconds: float
    """Wall time of this exchange."""
    timing: tuple[Timing, ...] = ()
    """Where it went, in a deployed federation."""


class EvaluationRow(Row):
    """One line of metrics.jsonl for each evaluation; `exchange` exchanges were complete."""

    kind: Literal["evaluation"] = "evaluation"
    exchange: int
    payload_bytes: int
    """Training payload until then; evaluation's own bytes are in the ledger under its purpose."""
    quality: Quality


class AbsenceRow(Row):
    """One line of metrics.jsonl for each time that a client drops out or comes back."""

    kind: Literal["absence"] = "absence"
    exchange: int
    client: str
    event: Literal["failed", "late", "returned", "stale"]
    reason: str


class EdgeBytes(Row):
    """Totals of one directed edge and purpose. Rows that name the relay or the evaluator hold control traffic."""

    source: str
    target: str
    purpose: Literal["setup", "train", "evaluate"]
    messages: int
    events: int
    payload_bytes: int
    message_bytes: int
    relay_bytes: int
