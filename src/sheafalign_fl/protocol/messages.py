"""What a message says: one frozen noun for each order and each reply, with one encoding.

A noun's fields travel as the scalars of a Flower message under their own names; what is None is
absent. Whoever receives a message reads it here before anything else: `ProtocolError` is all that
can come of a peer's fields, whatever they are, and nothing is allocated by a size that they state.
Frames travel beside the fields, and are read by `frame`.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    TypeAdapter,
    ValidationError,
)

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.metrics.base import OwnRow
from sheafalign_fl.protocol.rows import Loss
from sheafalign_fl.protocol.rows import pack_losses as write_losses
from sheafalign_fl.protocol.rows import unpack_losses as read_losses
from sheafalign_fl.protocol.timing import read_times
from sheafalign_fl.protocol.verdict import Verdict, pack_verdicts, read_verdicts
from sheafalign_fl.row import Row

MOST_FIELDS = 4096
"""Of one message; only an evaluation with many labels has more than a few."""
MOST_BYTES = 2**26
"""Of one field; an agreement may be that large."""
_MOST_JSON = 2**20
_MOST_TEXT = 500
_MOST_NAME = 99
_MOST_COUNT = 2**31 - 1
_MOST_TERMS = 64
_EDGE = frozenset({"source", "target", "events", "terms"})
_LABELS = "labels."

Scalar = str | int | float | bool | bytes


def plain(text: object, most: int = _MOST_TEXT) -> str:
    """Return a peer's text as one line for people: `most` characters at most, all printable."""
    words = "".join(c if c.isprintable() else " " for c in str(text)[: 2 * most]).split()
    line = " ".join(words)
    return line if len(line) <= most else line[: most - 3] + "..."


Count = Annotated[int, Field(ge=0, le=_MOST_COUNT)]
Name = Annotated[str, Field(max_length=_MOST_NAME)]
Text = Annotated[str, Field(max_length=_MOST_TEXT)]
Bytes = Annotated[bytes, Field(max_length=MOST_BYTES)]
Json = Annotated[str, Field(max_length=_MOST_JSON)]
JsonBytes = Annotated[bytes, Field(max_length=_MOST_JSON)]
Score = str | bool | int | float | None
_SCORES = TypeAdapter(dict[Name, Annotated[list[dict[Name, Score]], FailFast()]])
Reason = Annotated[
    str, BeforeValidator(lambda text: plain(text) if isinstance(text, str) else text)
]


class Noun(BaseModel):
    """What one message says; it refuses what it does not know, and takes no type for another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    called: ClassVar[str] = "a message"

    def fields(self) -> dict[str, Scalar]:
        """Return the fields of the message that says this."""
        said = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in said.items() if value is not None}

    @classmethod
    def read(cls, fields: Mapping[str, object]) -> Self:
        """Return what a message with these fields says.

        Raises
        ------
        ProtocolError
            A field is missing, unknown, of another type, or beyond its bounds.
        """
        if len(fields) > MOST_FIELDS:
            raise ProtocolError(f"{cls.called} with {len(fields)} fields")
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            raise ProtocolError(f"{cls.called} that cannot be read: {fault(error)}") from None


def fault(error: ValidationError) -> str:
    """Return the first of a validation's complaints, without the value that it is about."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return plain(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 200)


class Nothing(Noun):
    """A question or an answer that has nothing to say."""

    called: ClassVar[str] = "an answer without fields"


class Refusal(Noun):
    """Why a client cannot do what it was asked."""

    called: ClassVar[str] = "a refusal"
    failed: Reason
    exit_code: Annotated[int, Field(ge=1, le=255)]
    """What a command line exits with for this reason."""


class Dismissal(Noun):
    """Why the relay goes on without a client."""

    called: ClassVar[str] = "a dismissal"
    reason: Reason


class Presence(Noun):
    """Which process a client is."""

    called: ClassVar[str] = "a sign of presence"
    boot: Name


# ---- the handshake -------------------------------------------------------------------------------


class ManifestReply(Noun):
    """What a node is: a client's manifest, or a spare node."""

    called: ClassVar[str] = "a manifest's message"
    manifest: Bytes | None = None
    spare: bool | None = None


class AgreementOrder(Noun):
    """What one client has to know of the run."""

    called: ClassVar[str] = "an agreement's message"
    agreement: Bytes
    folder: Annotated[str, Field(max_length=4096)]
    run: Name


# ---- training ------------------------------------------------------------------------------------


class ExchangeOrder(Noun):
    """One client's part in an exchange, in this order; what is None is left out."""

    called: ClassVar[str] = "an exchange order"
    restore: int | None = None
    """Load the checkpoint after so many exchanges first."""
    step: int | None = None
    """The exchange to step on."""
    checkpoint: int | None = None
    """Save, as so many exchanges."""
    embed: int | None = None
    """The exchange to embed; in a stale schedule before the step."""
    best: int | None = None
    """With a checkpoint: the one that was best on validation events so far, which is to be kept."""

    def check(self, client: str, total: int, done: int) -> None:
        """Refuse exchanges that the run does not have, and embeddings of a past one.

        Parameters
        ----------
        client
            Who is asked.
        total
            Exchanges of the run.
        done
            Those that the client has taken a step in.
        """
        last = {"restore": total, "step": total - 1, "checkpoint": total, "embed": total - 1}
        last["best"] = total
        for name, most in last.items():
            if (asked := getattr(self, name)) is not None and not 0 <= asked <= most:
                raise ProtocolError(f"the field '{name}' is beyond the run's {total} exchanges")
        if self.embed is not None and self.embed < max(done - 1, self.step or 0):
            raise ProtocolError(
                f"client '{client}' is to embed exchange {self.embed}, which is past"
            )


class ExchangeReply(Noun):
    """What a client tells of its step; its frames travel beside."""

    called: ClassVar[str] = "an exchange reply"
    losses: JsonBytes | None = None
    verdicts: JsonBytes | None = None
    timing: Annotated[bytes, Field(max_length=64)] | None = None

    @classmethod
    def of(
        cls, losses: list[Loss], verdicts: Iterable[Verdict], timing: bytes | None
    ) -> "ExchangeReply":
        """Return what is to be told; nothing takes no byte."""
        told = tuple(verdicts)
        return cls(
            losses=write_losses(losses) if losses else None,
            verdicts=pack_verdicts(told) if told else None,
            timing=timing,
        )

    def told_losses(self, client: str, neighbours: Collection[str]) -> list[Loss]:
        """Return the losses of `client`'s edges to some of its `neighbours`, all finite."""
        losses = read_losses(client, self.losses) if self.losses is not None else []
        for loss in losses:
            if loss.target not in neighbours:
                raise ProtocolError(f"losses of an edge to '{plain(loss.target, 99)}'")
            _check_terms(loss)
        return losses

    def told_verdicts(self, client: str, neighbours: Collection[str]) -> tuple[Verdict, ...]:
        """Return what `client` says of its own edges, and of itself."""
        return _own_verdicts(self.verdicts, client, neighbours)

    def times(self) -> dict[str, float] | None:
        """Return where the client's time went; None if it does not say."""
        if self.timing is None:
            return None
        times = read_times(self.timing)
        if times is None or not all(0 <= part < _MOST_COUNT for part in times.values()):
            raise ProtocolError("times that are none")
        return times


def _check_terms(loss: Loss) -> None:
    if not 0 <= loss.events <= _MOST_COUNT or len(loss.terms) > _MOST_TERMS:
        raise ProtocolError("losses of more events or terms than there can be")
    for name, value in loss.terms.items():
        if len(name) > _MOST_NAME or not name.isprintable() or name in _EDGE:
            raise ProtocolError(f"a loss with a term called '{plain(name, 99)}'")
        if not math.isfinite(value):
            raise ProtocolError(f"a loss whose term {name} is not finite")


def _own_verdicts(
    data: bytes | None, client: str, neighbours: Collection[str]
) -> tuple[Verdict, ...]:
    verdicts = read_verdicts(data)
    for verdict in verdicts:
        if verdict.sender != client and verdict.sender not in neighbours:
            raise ProtocolError(f"a verdict on '{plain(verdict.sender, 99)}'")
        if not (math.isfinite(verdict.value) and math.isfinite(verdict.bound)):
            raise ProtocolError("a verdict whose numbers are not finite")
        if not -1 <= verdict.since <= _MOST_COUNT:
            raise ProtocolError("a verdict on an exchange that there cannot be")
    return verdicts


# ---- evaluation ----------------------------------------------------------------------------------


def read_scores(
    text: str, client: str, peers: Collection[str], kinds: Mapping[str, type[Row]]
) -> dict[str, list[dict[str, Any]]]:
    """Return metric -> rows out of what `client` measured.

    Parameters
    ----------
    peers
        Whose embeddings it was sent.
    kinds
        Metric that is measured now -> what its rows are.

    Raises
    ------
    ProtocolError
        A score is in another's name, of what is not measured, or one that no measure can have.
    """
    try:
        scores = _SCORES.validate_json(text, strict=True)
        for metric, rows in scores.items():
            if metric not in kinds:
                raise ProtocolError(f"scores of {plain(metric, 99)}, which is not measured now")
            for row in rows:
                kinds[metric].model_validate(row, strict=True)
            edges = [_check_row(row, client, peers, kinds[metric]) for row in rows]
            if len(set(edges)) < len(edges):
                raise ProtocolError(f"two scores of {metric} for one edge")
    except ValidationError as error:
        raise ProtocolError(f"scores that cannot be read: {fault(error)}") from None
    return scores


def _check_row(
    row: Mapping[str, Score], client: str, peers: Collection[str], kind: type[Row]
) -> tuple[str, tuple[object, ...]]:
    """Return which edge a score is of, the client's own name for none, and which of its rows."""
    who, target = row.get("client", row.get("source")), row.get("target", client)
    if who != client or (target != client and target not in peers):
        raise ProtocolError(f"a score of '{plain(who, 99)}' towards '{plain(target, 99)}'")
    events = row.get("events")
    if not isinstance(events, int) or isinstance(events, bool) or not 1 <= events <= _MOST_COUNT:
        raise ProtocolError(f"a score of {plain(events, 99)} events")
    for name, value in row.items():
        if name in ("client", "source", "target", "events") or value is None:
            continue
        # Built-in ones are fractions, a disagreement of at most 2, or a rank among the events.
        low, high = kind.bounds.get(name, (0, max(2, events)))
        odd = isinstance(value, str) or not math.isfinite(value)
        if odd or (kind is not OwnRow and not low <= float(value) <= high):
            raise ProtocolError(f"a score whose {plain(name, 99)} is {plain(value, 99)}")
    return str(target), tuple(row.get(name) for name in kind.key)


class ScoresReply(Noun):
    """What a client measured; of its labels only what the fused probe needs."""

    called: ClassVar[str] = "a reply with scores"
    scores: Json
    verdicts: JsonBytes | None = None
    """On neighbours whose embeddings could not be used."""
    labels: Mapping[str, Bytes] = Field(default_factory=dict)
    """``LIST.LABEL`` -> the label of every event of the agreed list, as `labels.to_wire` packs it:
    little-endian int32 of classes, float64 of values, int8 of several labels an event."""

    @classmethod
    def of(
        cls,
        scores: Mapping[str, list[dict[str, Any]]],
        verdicts: Iterable[Verdict],
        labels: Mapping[str, bytes],
    ) -> "ScoresReply":
        """Return what is to be told."""
        told = tuple(verdicts)
        packed = pack_verdicts(told) if told else None
        return cls(scores=json.dumps(scores), verdicts=packed, labels=labels)

    def fields(self) -> dict[str, Scalar]:
        """Return the fields of the message that says this."""
        said: dict[str, Scalar] = {"scores": self.scores}
        if self.verdicts is not None:
            said["verdicts"] = self.verdicts
        return said | {_LABELS + name: values for name, values in self.labels.items()}

    @classmethod
    def read(cls, fields: Mapping[str, object]) -> Self:
        """Return what a message with these fields says; raise `ProtocolError` like every noun."""
        said = {name: value for name, value in fields.items() if not name.startswith(_LABELS)}
        if "labels" in said:
            raise ProtocolError(f"{cls.called} with a field that it does not have")
        labels = {
            name.removeprefix(_LABELS): value
            for name, value in fields.items()
            if name.startswith(_LABELS)
        }
        return super().read({**said, "labels": labels} if labels else said)

    def told_scores(
        self, client: str, peers: Collection[str], kinds: Mapping[str, type[Row]]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return metric -> the rows of `client`, as `read_scores` does."""
        return read_scores(self.scores, client, peers, kinds)

    def told_verdicts(self, client: str, peers: Collection[str]) -> tuple[Verdict, ...]:
        """Return what `client` says of what `peers` sent it."""
        return _own_verdicts(self.verdicts, client, peers)


# ---- the end -------------------------------------------------------------------------------------


class FinishOrder(Noun):
    """Ends a client's part in the run."""

    called: ClassVar[str] = "a finish order"
    sample: bool = False
    """Keep a picture of an event, on the client's own disk."""
    best: Count | None = None
    """The checkpoint that was best on validation events, which is to be kept."""


class FinishReply(Noun):
    """What a client's part came to."""

    called: ClassVar[str] = "a finish reply"
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16,128}$")]
    """Of the final weights."""
