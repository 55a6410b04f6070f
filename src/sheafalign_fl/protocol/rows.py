"""What is measured, as rows: losses, scores, times, absences, bytes. The lines of `metrics.jsonl`.

Fractions are between 0 and 1, bytes are integers, times are seconds.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import TypeAdapter, model_serializer, model_validator

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.row import Row


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
    """Where the time of a client's part in an exchange went, in seconds; only deployed clients."""

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
    """Totals of one directed edge and purpose.

    Rows that name the relay or the evaluator hold control traffic.
    """

    source: str
    target: str
    purpose: Literal["setup", "train", "evaluate"]
    messages: int
    events: int
    payload_bytes: int
    message_bytes: int
    relay_bytes: int
