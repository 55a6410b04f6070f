"""Evaluation on the relay: routes held-out comparison embeddings and gathers the clients' scores.

Clients score themselves. Only metrics of the whole federation are computed here, by the evaluator,
because they need the embeddings of all clients in one place; and only if one was agreed on.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.metrics.base import FederationMetric, Together, mean_over_labels
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import measured_metrics
from sheafalign_fl.protocol.agreement import Agreement, ListName
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.measuring import Measuring
from sheafalign_fl.protocol.topology import Topology
from sheafalign_fl.protocol.verbs import EVALUATE_EMBED, EVALUATE_SCORE
from strategies.messenger import Messenger, Order, Outcome, Reply
from strategies.recorder import Parcel, Recorder

_log = logging.getLogger("sheafalign.relay")


class Evaluation:
    """Measures a federation between exchanges; it changes nothing in it."""

    def __init__(
        self,
        messenger: Messenger,
        settings: Settings,
        topology: Topology,
        agreement: Agreement,
        recorder: Recorder,
        note_absences: Callable[[Outcome, int, float | None], None],
    ) -> None:
        """Measure the clients behind `messenger`, and record every byte of it under the purpose "evaluate".

        `note_absences` is told of every answer, with the exchange and the deadline: who is absent here is written down
        as it is in training.
        """
        self._messenger, self._settings, self._topology = messenger, settings, topology
        self._note_absences = note_absences
        self._agreement, self._recorder = agreement, recorder

    def run(self, exchange: int, *, final: bool) -> Quality:
        """Measure after `exchange` exchanges: if `final` everything on test events, else retrieval on validation.

        `evaluation.split` may say that the final measurement too is made on validation events.
        """
        measuring = Measuring(exchange, final)
        wanted = measured_metrics(self._settings, final=final)
        parcels = self._embeddings(measuring)
        orders = {client: self._order(client, measuring, parcels) for client in self._available()}
        if final and (left_out := self._unmeasured(tuple(wanted))):
            _log.warning("no client has labels, so these are not measured: %s", left_out)
        outcome = self._ask(EVALUATE_SCORE, orders, exchange)
        self._recorder.question("evaluate", exchange, orders, outcome, parcels)
        delivered = {
            (source, client) for client, order in orders.items() for source in order.frames
        }
        self._recorder.undelivered(
            (parcel for key, parcel in parcels.items() if key not in delivered), "evaluate"
        )
        name = measuring.split(self._settings)
        rows: dict[str, list[Any]] = {key: [] for key in wanted}
        for client in self._topology.clients:
            if client in outcome.replies:
                scores = json.loads(str(outcome.replies[client].fields["scores"]))
                for key in wanted:
                    rows[key] += scores[key]
        if together := {k: m for k, m in wanted.items() if isinstance(m, FederationMetric)}:
            rows |= self._together(together, name, exchange, outcome)
        return Quality.of(measuring.split(self._settings), self._agreement.label, rows)

    def _unmeasured(self, wanted: Sequence[str]) -> str:
        """Return which of the wanted metrics need labels that nobody has, for people."""
        measured = self._agreement.measured(wanted)
        return ", ".join(metric for metric in wanted if metric not in measured)

    def _available(self) -> list[str]:
        return self._messenger.available()

    def _ask(self, verb: str, orders: Mapping[str, Order], exchange: int) -> Outcome:
        deadline = self._settings.evaluation.deadline
        outcome = self._messenger.ask(verb, orders, f"evaluate-{exchange}", deadline)
        self._note_absences(outcome, exchange, deadline)
        return outcome

    def _embeddings(self, measuring: Measuring) -> dict[tuple[str, str], Parcel]:
        """Ask every client for z_ij of the events that are measured."""
        exchange = measuring.exchange
        orders = {client: Order(measuring.fields()) for client in self._available()}
        outcome = self._ask(EVALUATE_EMBED, orders, exchange)
        self._recorder.question("evaluate", exchange, orders, outcome, {})
        parcels: dict[tuple[str, str], Parcel] = {}
        for client, reply in outcome.replies.items():
            for neighbour, parcel in _parcels(reply).items():
                if parcel.frame.source != client or parcel.frame.destination != neighbour:
                    raise ProtocolError(
                        f"client '{client}' sent an evaluation frame under another name"
                    )
                if neighbour in self._agreement.peers(client, self._topology):
                    parcels[client, neighbour] = parcel
        return parcels

    def _order(
        self,
        client: str,
        measuring: Measuring,
        parcels: Mapping[tuple[str, str], Parcel],
    ) -> Order:
        frames = {
            source: parcels[source, client].packed
            for source in self._agreement.peers(client, self._topology)
            if (source, client) in parcels
        }
        return Order(measuring.fields(), frames)

    # ---- metrics of the whole federation -------------------------------------------------------

    def _together(
        self,
        metrics: Mapping[str, FederationMetric],
        name: ListName,
        exchange: int,
        outcome: Outcome,
    ) -> dict[str, list[Any]]:
        """Measure what needs all h in one place: of each label, and then the mean."""
        clients = self._topology.clients
        if any(client not in outcome.replies for client in clients):
            _log.warning(
                "no %s after %d exchanges: a client is absent", ", ".join(metrics), exchange
            )
            return {}
        arrays: dict[str, dict[str, NDArray[np.floating]]] = {}
        for client, reply in outcome.replies.items():
            parcels = _parcels(reply)
            self._recorder.undelivered(parcels.values(), "evaluate")
            arrays[client] = {key: parcel.frame.values() for key, parcel in parcels.items()}
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
        outcome: Outcome,
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
        """Return the complete events' rows out of `values`, which has one row for every event that `client` has."""
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

    def _labels(self, key: ListName, outcome: Outcome, label: str) -> NDArray[np.int64]:
        """Return the values of `label` for list `key`: of each event, from the first client that has one."""
        labels = np.full(len(self._agreement.lists[key]), -1, dtype=np.int64)
        for client in self._topology.clients:
            data = outcome.replies[client].fields.get(f"labels.{key}.{label}")
            if isinstance(data, bytes):
                theirs = np.frombuffer(data, dtype="<i4").astype(np.int64)
                labels = np.where(labels >= 0, labels, theirs)
        return labels


def _parcels(reply: Reply) -> dict[str, Parcel]:
    shares = reply.shares()
    return {
        key: Parcel(Frame.unpack(packed), packed, shares[key])
        for key, packed in reply.frames.items()
    }
