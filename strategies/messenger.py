"""Asking clients and waiting for their answers: deadlines, failures, late answers. It knows nothing of training."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from sheafalign_fl.errors import ProtocolError, RunError
from sheafalign_fl.flower.records import Scalar, pack, share, unpack, wire_bytes

_POLL_SECONDS = 0.002
"""Pause between two looks for answers. Flower's own `send_and_receive` pauses 0.1 s (simulation) or 3 s."""


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


@dataclass
class Outcome:
    """What came of one question to many clients."""

    sent: dict[str, int] = field(default_factory=dict)
    """Client -> bytes of the message sent to it."""
    replies: dict[str, Reply] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Client -> reason."""
    failed_bytes: dict[str, int] = field(default_factory=dict)
    exit_codes: dict[str, int] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    """Clients whose answer was not there at the deadline."""
    stale: dict[str, int] = field(default_factory=dict)
    """Client -> bytes of an answer to an earlier question, which is thrown away; the client is free again."""


class Messenger:
    """Sends at most one message at a time to each client."""

    def __init__(self, grid: Grid, nodes: Mapping[str, int]) -> None:
        """Reach each client (by name) at its Flower node id."""
        self._grid, self._nodes = grid, dict(nodes)
        self._outstanding: dict[str, str] = {}
        """Message id -> client that has not answered it in time."""

    def available(self) -> list[str]:
        """Return the clients that owe no answer, in the order of the federation."""
        busy = set(self._outstanding.values())
        return [client for client in self._nodes if client not in busy]

    def ask(self, verb: str, orders: Mapping[str, Order], group: str, deadline: float | None) -> Outcome:
        """Send every client its order and wait for the answers until all are there or the deadline has passed.

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
        """
        outcome = Outcome()
        waiting = self._send(verb, orders, group, outcome)
        limit = None if deadline is None else time.monotonic() + deadline
        if not orders and self._outstanding and limit is None:
            raise RunError("every client owes an answer and there is no deadline")
        while waiting or (not orders and self._outstanding):
            arrived = list(self._grid.pull_messages([*waiting, *self._outstanding]))
            for message in arrived:
                self._sort(message, waiting, outcome)
            if not orders and outcome.stale:
                break
            if limit is not None and time.monotonic() >= limit:
                break
            if not arrived:
                time.sleep(_POLL_SECONDS)
        outcome.late = list(waiting.values())
        self._outstanding |= waiting
        return outcome

    def _send(self, verb: str, orders: Mapping[str, Order], group: str, outcome: Outcome) -> dict[str, str]:
        messages = {
            client: Message(pack(order.fields, order.frames), self._nodes[client], verb, group_id=group)
            for client, order in orders.items()
        }
        outcome.sent = {client: wire_bytes(message) for client, message in messages.items()}
        waiting: dict[str, str] = {}
        for client, message in messages.items():  # one by one: what comes back does not say which message it is for
            ids = list(self._grid.push_messages([message]))
            if ids:
                waiting[ids[0]] = client
            else:
                outcome.failed[client] = "Flower did not take the message: the node has gone"
        return waiting

    def _sort(self, message: Message, waiting: dict[str, str], outcome: Outcome) -> None:
        answered, size = message.metadata.reply_to_message_id, wire_bytes(message)
        if answered in self._outstanding:
            outcome.stale[self._outstanding.pop(answered)] = size
            return
        if (client := waiting.pop(answered, None)) is None:
            return
        try:
            if message.has_error():
                raise ProtocolError(message.error.reason or f"error {message.error.code}")
            fields, frames = unpack(message)
            if "failed" in fields:
                outcome.exit_codes[client] = int(str(fields.get("exit_code", 1)))
                raise ProtocolError(str(fields["failed"]))
        except ProtocolError as error:
            outcome.failed[client] = " ".join(str(error).split())
            outcome.failed_bytes[client] = size
            return
        outcome.replies[client] = Reply(fields, frames, size)
