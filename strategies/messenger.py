"""Asking clients and waiting for their answers: deadlines, failures, late answers.

It knows nothing of training.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from sheafalign_fl.errors import ProtocolError, RunError
from sheafalign_fl.flower.records import pack, share, undelivered, unpack, wire_bytes
from sheafalign_fl.protocol.messages import Nothing, Presence, Refusal, Scalar, plain
from sheafalign_fl.protocol.verbs import PRESENT

_log = logging.getLogger("sheafalign.relay")
_POLL_SECONDS = 0.002
"""Pause between two looks for answers. Flower's own `send_and_receive` pauses 0.1 s (simulation) or
3 s."""
_DEPLOYED_POLL_SECONDS = 0.02
"""The same where every look is a request to a SuperLink, which has other things to do meanwhile."""
_SILENCE_SECONDS = 5.0
"""After so long without an answer a deployed client is asked whether it is still there."""
_LOOK_SECONDS = 0.5
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Order:
    """What one client is asked: scalars, and the frames for it by source."""

    fields: Mapping[str, Scalar] = field(default_factory=dict)
    frames: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What one client answered, and how many bytes that took."""

    fields: Mapping[str, Scalar]
    frames: Mapping[str, bytes]
    size: int

    def shares(self) -> dict[str, int]:
        """Return the reply's bytes divided over its frames."""
        return share(self.size, {name: len(frame) for name, frame in self.frames.items()})


Read = Callable[[str, Reply], Answer]
"""Returns what a client's reply says, or raises `ProtocolError`: then the client has failed."""


def nothing(client: str, reply: Reply) -> None:
    """Read an answer that has nothing to say."""
    del client
    Nothing.read(reply.fields)
    if reply.frames:
        raise ProtocolError(f"{len(reply.frames)} frames where none was due")


@dataclass
class Outcome(Generic[Answer]):
    """What came of one question to many clients."""

    sent: dict[str, int] = field(default_factory=dict)
    """Client -> bytes of the message sent to it."""
    replies: dict[str, Reply] = field(default_factory=dict)
    """Of the clients whose answers could be read."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """What they say."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Client -> seconds from sending to its reply."""
    failed: dict[str, str] = field(default_factory=dict)
    """Client -> reason."""
    failed_bytes: dict[str, int] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    """Those of them that Flower could not reach."""
    exit_codes: dict[str, int] = field(default_factory=dict)
    """Of those of them that say themselves that they cannot go on."""
    late: list[str] = field(default_factory=list)
    """Clients whose answer was not there at the deadline."""
    stale: dict[str, int] = field(default_factory=dict)
    """Client -> bytes of an answer to an earlier question, which is thrown away; the client is free
    again."""
    restarted: list[str] = field(default_factory=list)
    """Clients whose process is another one than before."""
    extra_down: Counter[str] = field(default_factory=Counter)
    """Client -> bytes of messages beside the question itself: sent again, or asking whether the
    client is there."""
    extra_up: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Sent:
    """A message that is on its way."""

    client: str
    verb: str
    group: str
    order: Order
    at: float


class Messenger:
    """Sends at most one question at a time to each client.

    Of a deployed client the relay knows which process it is (its boot). A client that keeps silent
    is asked for it: if it is another process now, the question was lost with the old one and is
    asked again. Clients know an exchange that they have done already, so asking twice does no harm.
    """

    def __init__(
        self,
        grid: Grid,
        nodes: Mapping[str, int],
        boots: Mapping[str, str] | None = None,
        registered: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Reach each client at its Flower node id; `boots` names the deployed ones' processes.

        `registered` says whose keys the relay knows now; empty from the start where it knows none.
        """
        self._grid, self._nodes, self._registered = grid, dict(nodes), registered
        self._has_keys = bool(registered())
        self._boots = {client: boot for client, boot in (boots or {}).items() if boot}
        self._pause = _DEPLOYED_POLL_SECONDS if self._boots else _POLL_SECONDS
        self._waiting: dict[str, _Sent] = {}
        self._outstanding: dict[str, _Sent] = {}
        """Questions that were not answered in time."""
        self._gone: dict[str, _Sent] = {}
        """Client -> question that could not be delivered, to be asked when the client is back."""
        self._asides: dict[str, str] = {}
        """Message id -> client: asked whether it is there, or asked a question that was then asked
        again."""
        self._looked: dict[str, float] = {}

    @property
    def clients(self) -> tuple[str, ...]:
        """All clients that are asked, in the order of the federation."""
        return tuple(self._nodes)

    def leave_out(self, client: str) -> None:
        """Ask `client` nothing any more."""
        del self._nodes[client]
        self._boots.pop(client, None)
        self._outstanding = {
            message: sent for message, sent in self._outstanding.items() if sent.client != client
        }

    def available(self) -> list[str]:
        """Return the clients that owe no answer, in the order of the federation."""
        busy = {sent.client for sent in self._outstanding.values()}
        return [client for client in self._nodes if client not in busy]

    def ask(
        self,
        verb: str,
        orders: Mapping[str, Order],
        group: str,
        deadline: float | None,
        read: Read[Answer],
        *,
        patient: bool = True,
    ) -> Outcome[Answer]:
        """Send every client its order; wait until all answers are there or the deadline passed.

        Parameters
        ----------
        verb
            Flower message type, one of `sheafalign_fl.protocol`'s verbs.
        orders
            Client -> order; only clients that are available.
        group
            Flower's group id, for its logs.
        deadline
            Seconds to wait; None waits for ever.
        read
            Reads an answer on receipt; what it refuses counts as no answer, with the reason.
        patient
            Wait that long also for a deployed client that is gone to come back; else it has failed
            at once.
        """
        outcome: Outcome[Answer] = Outcome()
        for client, order in orders.items():
            self._send(
                _Sent(client, verb, group, order, time.monotonic()), outcome, patient=patient
            )
        limit = None if deadline is None else time.monotonic() + deadline
        if not orders and self._outstanding and limit is None:
            raise RunError("every client owes an answer and there is no deadline")
        while self._waiting or self._gone or (not orders and self._outstanding):
            # Looked at before: fetching one client's answer may take until after the deadline, and
            # what others have sent by then has come in time.
            passed = limit is not None and time.monotonic() >= limit
            arrived = list(
                self._grid.pull_messages([*self._waiting, *self._outstanding, *self._asides])
            )
            for message in arrived:
                self._sort(message, outcome, read, patient=patient)
            if not orders and outcome.stale:
                break
            if passed:
                break
            self._look_after_the_absent(outcome)
            if not arrived:
                time.sleep(self._pause)
        outcome.late = [sent.client for sent in (*self._waiting.values(), *self._gone.values())]
        self._outstanding |= self._waiting
        self._waiting, self._gone = {}, {}
        return outcome

    def _send(self, sent: _Sent, outcome: Outcome[Any], *, patient: bool) -> None:
        content = pack(sent.order.fields, sent.order.frames)
        message = Message(content, self._nodes[sent.client], sent.verb, group_id=sent.group)
        size = wire_bytes(message)
        if sent.client in outcome.sent:
            outcome.extra_down[sent.client] += size
        else:
            outcome.sent[sent.client] = size
        # One by one: what comes back does not say which message it is for.
        ids = [message_id for message_id in self._grid.push_messages([message]) if message_id]
        if ids:
            self._waiting[ids[0]] = sent
        elif patient and sent.client in self._boots:
            self._gone[sent.client] = sent
        else:
            outcome.failed[sent.client] = "Flower did not take the message: the node has gone"
            outcome.unreachable.add(sent.client)

    def _sort(
        self, message: Message, outcome: Outcome[Answer], read: Read[Answer], *, patient: bool
    ) -> None:
        answered, size = message.metadata.reply_to_message_id, wire_bytes(message)
        if (client := self._asides.pop(answered, None)) is not None:
            outcome.extra_up[client] += size
            self._hear_of(client, message, outcome)
            return
        if answered in self._outstanding:
            outcome.stale[self._outstanding.pop(answered).client] = size
            return
        if (sent := self._waiting.pop(answered, None)) is None:
            return
        client = sent.client
        if undelivered(message) and patient and client in self._boots:
            outcome.extra_up[client] += size
            self._gone[client] = sent
            return
        try:
            reply = self._opened(client, message, size, outcome)
            outcome.answers[client] = read(client, reply)
        except ProtocolError as error:
            outcome.failed[client] = plain(error)
            if undelivered(message):
                outcome.unreachable.add(client)
            outcome.failed_bytes[client] = size
            return
        outcome.replies[client] = reply
        outcome.seconds[client] = time.monotonic() - sent.at

    @staticmethod
    def _opened(client: str, message: Message, size: int, outcome: Outcome[Any]) -> Reply:
        """Return what a client answered; raise `ProtocolError` if it did not or could not."""
        if message.has_error():
            raise ProtocolError(message.error.reason or f"error {message.error.code}")
        fields, frames = unpack(message)
        if "failed" in fields:
            refusal = Refusal.read(fields)
            outcome.exit_codes[client] = refusal.exit_code
            raise ProtocolError(refusal.failed)
        return Reply(fields, frames, size)

    # ---- clients that keep silent ----------------------------------------------------------------

    def _look_after_the_absent(self, outcome: Outcome[Any]) -> None:
        """Ask clients again that are back, and those silent for a while whether they are there."""
        if not self._boots:  # none is deployed
            return
        now = time.monotonic()
        for sent in list(self._gone.values()):
            if now - self._looked.get(sent.client, 0.0) >= _LOOK_SECONDS:
                self._looked[sent.client] = now
                self._look_after_the_gone(sent, outcome)
        asked = set(self._asides.values())
        for message_id, sent in (*self._waiting.items(), *self._outstanding.items()):
            silent_since = max(sent.at, self._looked.get(sent.client, 0.0))
            if (
                sent.client in self._boots
                and sent.client not in asked
                and now - silent_since >= _SILENCE_SECONDS
            ):
                self._looked[sent.client] = now
                self._look_after_the_silent(message_id, sent.client, outcome)

    def _look_after_the_gone(self, sent: _Sent, outcome: Outcome[Any]) -> None:
        if self._is_expelled(sent.client):
            del self._gone[sent.client]
            self._fail_expelled(sent.client, outcome)
        elif self._nodes[sent.client] in set(self._grid.get_node_ids()):
            del self._gone[sent.client]
            self._send(replace(sent, at=time.monotonic()), outcome, patient=True)

    def _look_after_the_silent(self, asked: str, client: str, outcome: Outcome[Any]) -> None:
        if self._is_expelled(client):
            self._forget_expelled(asked, outcome)
            return
        message = Message(pack(), self._nodes[client], PRESENT, group_id="present")
        outcome.extra_down[client] += wire_bytes(message)
        for message_id in self._grid.push_messages([message]):
            if message_id:
                self._asides[message_id] = client

    def _is_expelled(self, client: str) -> bool:
        """Return whether `client`'s key was taken back since: it cannot come to answer."""
        return self._has_keys and client not in self._registered()

    def _fail_expelled(self, client: str, outcome: Outcome[Any]) -> None:
        outcome.failed[client] = "its certificate has been revoked: it may connect no more"
        outcome.unreachable.add(client)

    def _forget_expelled(self, message_id: str, outcome: Outcome[Any]) -> None:
        """Wait no longer for an answer that cannot come."""
        if (sent := self._waiting.pop(message_id, None)) is not None:
            self._fail_expelled(sent.client, outcome)
        elif (sent := self._outstanding.pop(message_id, None)) is not None:
            outcome.stale[sent.client] = 0

    def _hear_of(self, client: str, message: Message, outcome: Outcome[Any]) -> None:
        """Ask a client again if its process is another one than the question went to."""
        if message.has_error() or not message.has_content():
            return
        try:
            boot = Presence.read(unpack(message)[0]).boot
        except ProtocolError as error:
            _log.warning("client '%s' does not say which process it is: %s", client, plain(error))
            return
        if not boot or boot == self._boots.get(client):
            return
        self._boots[client] = boot
        outcome.restarted.append(client)
        for message_id, sent in list(self._waiting.items()):
            if sent.client == client:
                del self._waiting[message_id]
                self._asides[message_id] = client
                self._send(replace(sent, at=time.monotonic()), outcome, patient=True)
        for message_id, sent in list(self._outstanding.items()):
            if sent.client == client:
                del self._outstanding[message_id]
                self._asides[message_id] = client
                outcome.stale[client] = 0
