"""Evaluation on the relay: routes held-out comparison embeddings and gathers the clients' scores.

Clients score themselves. Only metrics of the whole federation are computed here, by the evaluator,
because they need the embeddings of all clients in one place; and only if one was agreed on.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.metrics.base import FederationMetric, Together, mean_over_labels
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import measured_metrics
from sheafalign_fl.protocol.agreement import Agreement, ListName
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.measuring import EVALUATION_CODEC, Measuring
from sheafalign_fl.protocol.messages import ScoresReply, plain
from sheafalign_fl.protocol.topology import Topology
from sheafalign_fl.protocol.verbs import EVALUATE_EMBED, EVALUATE_SCORE, EVALUATOR
from sheafalign_fl.protocol.verdict import Verdict
from strategies.messenger import Answer, Messenger, Order, Outcome, Read, Reply
from strategies.recorder import Recorder, RoutedFrame

_log = logging.getLogger("sheafalign.relay")


_MOST_VALUE = 1e6
"""Of what the evaluator is sent; honest embeddings are near 1, whatever the encoder."""


class _Due(NamedTuple):
    """What is due of one frame, beside what is the same of all frames of a reply."""

    destination: str
    events: int
    dim: int
    sealed: bool = False


@dataclass(frozen=True)
class Scored:
    """What one client said in an evaluation, read and checked."""

    scores: Mapping[str, list[dict[str, Any]]]
    verdicts: tuple[Verdict, ...]
    routed: Mapping[str, RoutedFrame]
    """Frames for the evaluator."""
    arrays: Mapping[str, NDArray[np.floating]]
    """What they hold."""
    labels: Mapping[str, NDArray[np.int64]]


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

    def run(self, exchange: int, *, final: bool) -> Quality:
        """Measure after `exchange` exchanges.

        If `final`, everything on test events; else retrieval on validation. `evaluation.split` may
        say that the final measurement too is made on validation events.
        """
        measuring = Measuring(exchange=exchange, final=final)
        wanted = measured_metrics(self._settings, final=final)
        routed = self._embeddings(measuring)
        orders = {client: self._order(client, measuring, routed) for client in self._available()}
        if final and (left_out := self._unmeasured(tuple(wanted))):
            _log.warning("no client has labels, so these are not measured: %s", left_out)
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
        if together := {k: m for k, m in wanted.items() if isinstance(m, FederationMetric)}:
            rows |= self._together(together, name, exchange, outcome)
        return Quality.of(name, self._agreement.label, rows)

    def _unmeasured(self, wanted: Sequence[str]) -> str:
        """Return which of the wanted metrics need labels that nobody has, for people."""
        measured = self._agreement.measured(wanted)
        return ", ".join(metric for metric in wanted if metric not in measured)

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

    def _due_embeddings(self, client: str, name: ListName) -> dict[str, _Due]:
        """Return peer -> the frame that `client` sends it."""
        sealed = self._settings.security.sealed
        edges = {edge.other(client): edge.dim for edge in self._topology.edges_of(client)}
        due = {}
        for peer in self._agreement.peers(client, self._topology):
            # What goes to a client that is no neighbour is h, in a space that all share.
            dim = edges.get(peer, self._settings.clients[client].dim)
            if events := self._shared(client, peer, name):
                due[peer] = _Due(peer, events, dim, sealed)
        return due

    def _shared(self, one: str, other: str, name: ListName) -> int:
        return int((self._agreement.has[one][name] & self._agreement.has[other][name]).sum())

    def _score_reader(
        self, measuring: Measuring, delivered: Collection[tuple[str, str]]
    ) -> Read[Scored]:
        """Return what reads an answer with scores, given whose embeddings went to whom."""
        name = measuring.split(self._settings)
        wanted = measured_metrics(self._settings, final=measuring.final)
        kinds = {key: metric.row for key, metric in wanted.items()}
        together = any(isinstance(metric, FederationMetric) for metric in wanted.values())

        def read(client: str, reply: Reply) -> Scored:
            told = ScoresReply.read(reply.fields)
            sources = [source for source, receiver in delivered if receiver == client]
            scores = told.told_scores(client, sources, kinds)
            verdicts = told.told_verdicts(client, sources)
            if not together:
                if told.labels or reply.frames:
                    raise ProtocolError("labels or embeddings that nobody asked for")
                return Scored(scores, verdicts, {}, {}, {})
            refused = {verdict.sender for verdict in verdicts}
            used = [source for source in sources if source not in refused]
            routed = _routed(
                client, reply, measuring.exchange, self._due_evaluator(client, name, used)
            )
            arrays = {key: _usable(routed_frame.frame) for key, routed_frame in routed.items()}
            return Scored(scores, verdicts, routed, arrays, self._read_labels(client, name, told))

        return read

    def _due_evaluator(
        self, client: str, name: ListName, sources: Collection[str]
    ) -> dict[str, _Due]:
        """Return key -> the frame that `client` sends the evaluator."""
        dim, has = self._settings.clients[client].dim, self._agreement.has[client]
        lists: tuple[ListName, ...] = ("probe", name)
        due = {key: _Due(EVALUATOR, int(has[key].sum()), dim) for key in dict.fromkeys(lists)}
        return {str(key): frame for key, frame in due.items()} | {
            f"from.{source}": _Due(EVALUATOR, self._shared(source, client, name), dim)
            for source in sources
        }

    def _read_labels(
        self, client: str, name: ListName, told: ScoresReply
    ) -> dict[str, NDArray[np.int64]]:
        """Return ``LIST.LABEL`` -> the client's label of every event of the list, -1 for none."""
        lists: tuple[ListName, ...] = ("probe", name)
        due = {
            f"{key}.{label}": len(self._agreement.lists[key])
            for label in self._agreement.labels[client]
            for key in lists
        }
        if set(told.labels) != set(due):
            raise ProtocolError(f"labels of {plain(sorted(told.labels))}, not of {sorted(due)}")
        found = {}
        for key, data in told.labels.items():
            if len(data) != 4 * due[key]:
                raise ProtocolError(f"{len(data)} bytes of labels for {due[key]} events")
            found[key] = np.frombuffer(data, dtype="<i4").astype(np.int64)
            if (found[key] < -1).any():
                raise ProtocolError("a label below -1")
        return found

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

    # ---- metrics of the whole federation -------------------------------------------------------

    def _together(
        self,
        metrics: Mapping[str, FederationMetric],
        name: ListName,
        exchange: int,
        outcome: Outcome[Scored],
    ) -> dict[str, list[Any]]:
        """Measure what needs all h in one place: of each label, and then the mean."""
        clients = self._topology.clients
        if any(client not in outcome.answers for client in clients):
            _log.warning(
                "no %s after %d exchanges: a client is absent", ", ".join(metrics), exchange
            )
            return {}
        arrays = {client: told.arrays for client, told in outcome.answers.items()}
        labels = self._agreement.all_labels()
        held = [self._held(arrays, outcome, label, name) for label in labels]
        usable = [
            one for one in held if len(np.unique(one.fit_labels)) >= 2 and len(one.labels) > 0
        ]
        if len(usable) < len(labels) or not labels:
            _log.warning(
                "no %s of some labels: too few labelled events that every client has",
                ", ".join(metrics),
            )
        measured = {key: [metric.measure(one) for one in usable] for key, metric in metrics.items()}
        return {
            key: [mean_over_labels(several) for several in zip(*by_label, strict=True)]
            for key, by_label in measured.items()
        }

    def _held(
        self,
        arrays: Mapping[str, Mapping[str, NDArray[np.floating]]],
        outcome: Outcome[Scored],
        label: str,
        name: ListName,
    ) -> Together:
        """Return the events that every client has and that have `label`."""
        both: tuple[ListName, ...] = ("probe", name)
        complete = {key: self._complete(key) for key in both}
        fit, test = (self._labels(key, outcome, label)[complete[key]] for key in both)

        def rows(key: ListName, labels: NDArray[np.int64]) -> dict[str, NDArray[np.floating]]:
            return {
                client: self._rows(arrays[client][key], client, key, complete[key])[labels >= 0]
                for client in self._topology.clients
            }

        return Together(
            h=rows(name, test),
            labels=test[test >= 0],
            fit_h=rows("probe", fit),
            fit_labels=fit[fit >= 0],
            imputed={
                (source, client): self._rows_of_edge(values, source, client, name, complete[name])[
                    test >= 0
                ]
                for client in self._topology.clients
                for key, values in arrays[client].items()
                if (source := key.removeprefix("from.")) != key
            },
            shared_space=self._settings.maps.family == "identity",
        )

    def _complete(self, key: ListName) -> NDArray[np.bool_]:
        """Return the mask over list `key` of the events that every client has."""
        mask: NDArray[np.bool_] = np.logical_and.reduce(
            [self._agreement.has[client][key] for client in self._topology.clients]
        )
        return mask

    def _rows(
        self, values: NDArray[np.floating], client: str, key: ListName, complete: NDArray[np.bool_]
    ) -> NDArray[np.floating]:
        """Return the complete events' rows of `values`, which has one per event of `client`."""
        return values[complete[self._agreement.has[client][key]]]

    def _rows_of_edge(
        self,
        values: NDArray[np.floating],
        source: str,
        client: str,
        key: ListName,
        complete: NDArray[np.bool_],
    ) -> NDArray[np.floating]:
        shared = self._agreement.has[source][key] & self._agreement.has[client][key]
        return values[complete[shared]]

    def _labels(self, key: ListName, outcome: Outcome[Scored], label: str) -> NDArray[np.int64]:
        """Return the values of `label` for list `key`, each from the first client that has one."""
        labels = np.full(len(self._agreement.lists[key]), -1, dtype=np.int64)
        for client in self._topology.clients:
            theirs = outcome.answers[client].labels.get(f"{key}.{label}")
            if theirs is not None:
                labels = np.where(labels >= 0, labels, theirs)
        return labels


def _usable(frame: Frame) -> NDArray[np.floating]:
    """Return what a frame for the evaluator holds; raise `ProtocolError` if sums would overflow."""
    values = frame.values()
    if values.size and (largest := float(np.abs(values).max())) > _MOST_VALUE:
        raise ProtocolError(f"embeddings with a value of {largest:.3g}")
    return values


def _routed(
    client: str, reply: Reply, exchange: int, due: Mapping[str, _Due]
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
        got = _Due(frame.destination, frame.events, frame.dim, bool(frame.seal))
        if got != due[key]:
            raise ProtocolError(f"a frame that is {got} where {due[key]} was due")
        routed[key] = RoutedFrame(frame, packed, shares[key])
    return routed
