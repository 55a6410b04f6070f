"""Evaluation on the relay: routes held-out comparison embeddings and gathers the clients' scores.

Clients score themselves. Only metrics of the whole federation are computed here, by the evaluator,
because they need the embeddings of all clients in one place; and only if one was agreed on.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.metrics.base import FederationMetric, Metric
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import measured_metrics
from sheafalign_fl.protocol.agreement import Agreement, ListName
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.measuring import EVALUATION_CODEC, Measuring
from sheafalign_fl.protocol.messages import ScoresReply, plain
from sheafalign_fl.protocol.topology import Topology
from sheafalign_fl.protocol.verbs import EVALUATE_EMBED, EVALUATE_SCORE
from sheafalign_fl.protocol.verdict import Verdict
from strategies.gathering import Due, Gathered, Gathering, gathered_nearby
from strategies.messenger import Answer, Messenger, Order, Outcome, Read, Reply
from strategies.recorder import Recorder, RoutedFrame

_log = logging.getLogger("sheafalign.relay")


_MOST_VALUE = 1e6
"""Of what the evaluator is sent; honest embeddings are near 1, whatever the encoder."""


@dataclass(frozen=True)
class Scored:
    """What one client said in an evaluation, read and checked."""

    scores: Mapping[str, list[dict[str, Any]]]
    verdicts: tuple[Verdict, ...]
    routed: Mapping[str, RoutedFrame]
    """Frames for the evaluator."""
    gathered: Gathered
    """What is in them."""


class Evaluation:
    """Measures a federation between exchanges; it changes nothing in it."""

    def __init__(
        self,
        messenger: Messenger,
        settings: Settings,
        topology: Topology,
        agreement: Agreement,
        recorder: Recorder,
        note_absences: Callable[[Outcome[Any], int, float | None], None],
    ) -> None:
        """Measure the clients behind `messenger`; record every byte under the purpose "evaluate".

        `note_absences` is told of every answer, with the exchange and the deadline: who is absent
        here is written down as it is in training.
        """
        self._messenger, self._settings, self._topology = messenger, settings, topology
        self._note_absences = note_absences
        self._agreement, self._recorder = agreement, recorder
        self._gathering = Gathering(settings, topology, agreement)

    def run(self, exchange: int, *, final: bool) -> Quality:
        """Measure after `exchange` exchanges.

        If `final`, everything on test events; else retrieval on validation. `evaluation.split` may
        say that the final measurement too is made on validation events.
        """
        measuring = Measuring(exchange=exchange, final=final)
        wanted = measured_metrics(self._settings, final=final)
        routed = self._embeddings(measuring)
        orders = {client: self._order(client, measuring, routed) for client in self._available()}
        if final and (left_out := self._agreement.why_not_measured(tuple(wanted))):
            _log.warning("%s", left_out)
        delivered = {
            (source, client) for client, order in orders.items() for source in order.frames
        }
        outcome = self._ask(
            EVALUATE_SCORE, orders, exchange, self._score_reader(measuring, delivered)
        )
        self._recorder.question("evaluate", exchange, orders, outcome, routed)
        self._recorder.undelivered(
            (routed_frame for key, routed_frame in routed.items() if key not in delivered),
            "evaluate",
        )
        for client, told in outcome.answers.items():
            for verdict in told.verdicts:
                self._recorder.verdict(exchange, client, verdict)
            self._recorder.undelivered(told.routed.values(), "evaluate")
        name = measuring.split(self._settings)
        rows: dict[str, list[Any]] = {key: [] for key in wanted}
        for client in self._topology.clients:
            if client in outcome.answers:
                for key, found in outcome.answers[client].scores.items():
                    rows[key] += found
        if federation := _of_the_federation(wanted):
            if self._settings.security.sealed:
                rows |= gathered_nearby(federation, rows)
            else:
                gathered = {client: told.gathered for client, told in outcome.answers.items()}
                rows |= self._gathering.measure(federation, name, exchange, gathered)
        return Quality.of(name, self._agreement.label, rows)

    def _available(self) -> list[str]:
        return self._messenger.available()

    def _ask(
        self, verb: str, orders: Mapping[str, Order], exchange: int, read: Read[Answer]
    ) -> Outcome[Answer]:
        deadline = self._settings.evaluation.deadline
        outcome = self._messenger.ask(verb, orders, f"evaluate-{exchange}", deadline, read)
        self._note_absences(outcome, exchange, deadline)
        return outcome

    def _embeddings(self, measuring: Measuring) -> dict[tuple[str, str], RoutedFrame]:
        """Ask every client for z_ij of the events that are measured."""
        exchange, name = measuring.exchange, measuring.split(self._settings)

        def read(client: str, reply: Reply) -> dict[str, RoutedFrame]:
            if reply.fields:
                raise ProtocolError("fields where only frames were due")
            return _routed(client, reply, exchange, self._due_embeddings(client, name))

        orders = {client: Order(measuring.fields()) for client in self._available()}
        outcome = self._ask(EVALUATE_EMBED, orders, exchange, read)
        self._recorder.question("evaluate", exchange, orders, outcome, {})
        return {
            (client, peer): routed_frame
            for client, routed in outcome.answers.items()
            for peer, routed_frame in routed.items()
        }

    def _due_embeddings(self, client: str, name: ListName) -> dict[str, Due]:
        """Return peer -> the frame that `client` sends it."""
        sealed = self._settings.security.sealed
        edges = {edge.other(client): edge.dim for edge in self._topology.edges_of(client)}
        due = {}
        for peer in self._agreement.peers(client, self._topology):
            # What goes to a client that is no neighbour is h, in a space that all share.
            dim = edges.get(peer, self._settings.clients[client].dim)
            if events := self._shared(client, peer, name):
                due[peer] = Due(peer, events, dim, sealed)
        return due

    def _shared(self, one: str, other: str, name: ListName) -> int:
        return int((self._agreement.has[one][name] & self._agreement.has[other][name]).sum())

    def _score_reader(
        self, measuring: Measuring, delivered: Collection[tuple[str, str]]
    ) -> Read[Scored]:
        """Return what reads an answer with scores, given whose embeddings went to whom."""
        name = measuring.split(self._settings)
        wanted = measured_metrics(self._settings, final=measuring.final)
        sealed = self._settings.security.sealed
        kinds = {
            key: metric.nearby_row if sealed and metric.nearby_row is not None else metric.row
            for key, metric in wanted.items()
        }
        together = {} if sealed else _of_the_federation(wanted)

        def read(client: str, reply: Reply) -> Scored:
            told = ScoresReply.read(reply.fields)
            sources = [source for source, receiver in delivered if receiver == client]
            scores = told.told_scores(client, sources, kinds)
            if forged := [key for key in together if scores.get(key)]:
                raise ProtocolError(f"scores of {forged[0]}, which only the evaluator measures")
            verdicts = told.told_verdicts(client, sources)
            if not together:
                if told.labels or reply.frames:
                    raise ProtocolError("labels or embeddings that nobody asked for")
                return Scored(scores, verdicts, {}, Gathered({}, {}))
            refused = {verdict.sender for verdict in verdicts}
            used = [source for source in sources if source not in refused]
            routed = _routed(
                client, reply, measuring.exchange, self._gathering.due(client, name, used)
            )
            arrays = {key: _usable(routed_frame.frame) for key, routed_frame in routed.items()}
            labels = self._gathering.read_labels(client, name, told)
            return Scored(scores, verdicts, routed, Gathered(arrays, labels))

        return read

    def _order(
        self,
        client: str,
        measuring: Measuring,
        routed: Mapping[tuple[str, str], RoutedFrame],
    ) -> Order:
        frames = {
            source: routed[source, client].packed
            for source in self._agreement.peers(client, self._topology)
            if (source, client) in routed
        }
        return Order(measuring.fields(), frames)


def _of_the_federation(metrics: Mapping[str, Metric]) -> dict[str, FederationMetric]:
    """Return those that are measured of all clients together."""
    return {key: one for key, one in metrics.items() if isinstance(one, FederationMetric)}


def _usable(frame: Frame) -> NDArray[np.floating]:
    """Return what a frame for the evaluator holds; raise `ProtocolError` if sums would overflow."""
    values = frame.values()
    if values.size and (largest := float(np.abs(values).max())) > _MOST_VALUE:
        raise ProtocolError(f"embeddings with a value of {largest:.3g}")
    return values


def _routed(
    client: str, reply: Reply, exchange: int, due: Mapping[str, Due]
) -> dict[str, RoutedFrame]:
    """Return a reply's frames, which have to be those that are due, as routed."""
    if set(reply.frames) != set(due):
        raise ProtocolError(f"frames for {plain(sorted(reply.frames))}, not for {sorted(due)}")
    shares, routed = reply.shares(), {}
    for key, packed in reply.frames.items():
        frame = Frame.unpack(packed)
        header = (frame.purpose, frame.exchange, frame.source, frame.codec)
        if header != (expected := ("evaluate", exchange, client, EVALUATION_CODEC)):
            raise ProtocolError(f"a frame that is {header} where {expected} was due")
        got = Due(frame.destination, frame.events, frame.dim, bool(frame.seal))
        if got != due[key]:
            raise ProtocolError(f"a frame that is {got} where {due[key]} was due")
        routed[key] = RoutedFrame(frame, packed, shares[key])
    return routed
