"""What a client says of an edge in its reply: refused, changed, or a step not taken.

A clean exchange says nothing, and costs no byte.
"""

import json
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.row import Row

Check = Literal[
    "frame", "finite", "norm", "repetition", "constant", "unrelated", "loss", "gradient", "weights",
    "size", "spread", "profile", "alike", "disagreement", "rank",
    "inputs",
]  # fmt: skip
"""What was checked. frame: it could not be read; finite, norm, repetition, constant: on receipt;
loss, gradient, weights: of the step; inputs: of what a client itself senses; the rest are the
watch's statistics of an edge."""
Event = Literal["refused", "changed", "not stepped"]
_MOST = 4096
"""Verdicts of one reply: no client has more edges and checks than that."""
_MOST_BYTES = 1 << 20


class Verdict(Row):
    """One client's verdict on what one neighbour sent it, or on its own step."""

    sender: str = Field(max_length=99)
    """Who is at fault as far as this edge can tell; for a step, the client itself."""
    event: Event
    """refused: the edge was left out of this exchange; changed: the edge was trained, but something
    about it is no longer as it was; not stepped: the client took no step."""
    check: Check
    value: FiniteFloat
    bound: FiniteFloat
    """What `value` was held against; both are 0 where there is no number."""
    since: int
    """Exchange in which it seems to have begun."""

    def told(self) -> str:
        """Return the verdict as words for people."""
        return _WORDS[self.check].format(
            who=f"'{self.sender}'", value=self.value, bound=self.bound, since=self.since
        )


class WatchRow(Verdict):
    """One line of metrics.jsonl for each verdict."""

    kind: Literal["watch"] = "watch"
    exchange: int
    receiver: str
    """Who said it."""


_WORDS: dict[Check, str] = {
    "frame": "what {who} sent cannot be read, its seal is broken, or it is not what was due",
    "finite": "{who} sent {value:.0f} values that are not finite",
    "norm": "{who} sent embeddings of norm {value:.3g}, where at most {bound:.3g} is believed",
    "repetition": "{who} sent the embeddings of exchange {value:.0f} again, for other events",
    "constant": "{who} sent the same embedding for every event",
    "unrelated": "what {who} sent is not about the events that are due: {value:.0%} of other "
    "events are more alike than the true one, where at most {bound:.0%} is believed",
    "loss": "the loss with {who} is not finite",
    "gradient": "the gradient of {who} is not finite, so its step was not taken",
    "weights": "the step of {who} made weights that are not finite; it was taken back",
    "size": "embeddings of {who} have norm {value:.3g}, not about {bound:.3g}, since "
    "exchange {since}",
    "spread": "{value:.0%} of the size of {who}'s embeddings tells events apart, not about "
    "{bound:.0%}, since exchange {since}",
    "profile": "means and deviations of {who}'s embeddings have shifted by {value:.2g}, not about "
    "{bound:.2g}, since exchange {since}",
    "alike": "{who} sends one embedding for all events since exchange {since}",
    "disagreement": "the edge with {who} disagrees by {value:.2f}, not about {bound:.2f}, since "
    "exchange {since}",
    "inputs": "what {who} senses differs from its own past by {value:.2g} deviations, not about "
    "{bound:.2g}, since exchange {since}",
    "rank": "{value:.1%} of other events are more like {who}'s than the true one, not about "
    "{bound:.1%}, since exchange {since}",
}

_LIST = TypeAdapter(tuple[Verdict, ...])


def pack_verdicts(verdicts: Iterable[Verdict]) -> bytes:
    """Return verdicts as bytes for the wire: a JSON list."""
    return json.dumps([verdict.model_dump(mode="json") for verdict in verdicts]).encode()


def read_verdicts(data: object) -> tuple[Verdict, ...]:
    """Return the verdicts that a reply's field holds; none if there is no such field.

    Raises
    ------
    ProtocolError
        It holds anything else, or more than a client can have to say.
    """
    if data is None:
        return ()
    if not isinstance(data, bytes) or len(data) > _MOST_BYTES:
        raise ProtocolError("verdicts that are no bytes, or too many")
    try:
        verdicts = _LIST.validate_json(data, strict=True)
    except ValidationError as error:
        raise ProtocolError(f"verdicts that cannot be read: {error.errors()[0]['msg']}") from None
    if len(verdicts) > _MOST:
        raise ProtocolError(f"{len(verdicts)} verdicts where {_MOST} are the most")
    return verdicts
