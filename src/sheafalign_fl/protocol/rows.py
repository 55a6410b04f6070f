"""What is measured, as rows: losses, scores, times, absences, bytes. The lines of `metrics.jsonl`.

Fractions are between 0 and 1, bytes are integers, times are seconds.
"""

from typing import Literal

from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.row import Row


class Loss(Row):
    """Terms of the objective as client `source` sees its edge to `target`, unweighted means over events."""

    source: str
    target: str
    events: int
    laplacian: float
    contrastive: float
    reconstruction: float
    cross_reconstruction: float
    total: float
    """The weighted sum."""


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
