"""Evaluation on the relay: routes held-out comparison embeddings between neighbours and gathers their scores.

Clients score themselves. Only the fused probe of "missing modalities" is computed here, by the evaluator (DESIGN
section 5.4), because it needs the embeddings of all clients in one place; it runs only if that metric is asked for.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl import metrics
from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.protocol.agreement import Agreement, ListName
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.measuring import Measuring
from sheafalign_fl.protocol.rows import Consistency, Missing, Probe, Quality, Retrieval, Transfer
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
        name, wanted = measuring.events(self._settings), measuring.metrics(self._settings)
        parcels = self._embeddings(measuring)
        orders = {client: self._order(client, measuring, parcels) for client in self._available()}
        if final and (left_out := self._unmeasured(wanted)):
            _log.warning("no client has labels, so these are not measured: %s", left_out)
        outcome = self._ask(EVALUATE_SCORE, orders, exchange)
        self._recorder.question("evaluate", exchange, orders, outcome, parcels)
        delivered = {
            (source, client) for client, order in orders.items() for source in order.frames
        }
        self._recorder.undelivered(
            (parcel for key, parcel in parcels.items() if key not in delivered), "evaluate"
        )
        scores: dict[str, list[Any]] = {
            metric: [] for metric in ("retrieval", "transfer", "probe", "consistency")
        }
        for client in self._topology.clients:
            if client in outcome.replies:
                for metric, rows in json.loads(
                    str(outcome.replies[client].fields["scores"])
                ).items():
                    scores[metric] += rows
        fused = self._fused(name, exchange, outcome) if "missing" in wanted else ()
        return Quality(
            split=name,
            label=self._agreement.label,
            retrieval=tuple(Retrieval.model_validate(row) for row in scores["retrieval"]),
            transfer=tuple(Transfer.model_validate(row) for row in scores["transfer"]),
            probe=tuple(Probe.model_validate(row) for row in scores["probe"]),
            missing=fused,
            consistency=tuple(Consistency.model_validate(row) for row in scores["consistency"]),
        )

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

    # ---- the fused probe -------------------------------------------------------------------------------------------

    def _fused(self, name: ListName, exchange: int, outcome: Outcome) -> tuple[Missing, ...]:
        """Train the fused probe on the concatenation of all h and test it with clients missing."""
        clients = self._topology.clients
        if any(client not in outcome.replies for client in clients):
            _log.warning("no fused probe after %d exchanges: a client is absent", exchange)
            return ()
        arrays: dict[str, dict[str, NDArray[np.floating]]] = {}
        for client, reply in outcome.replies.items():
            parcels = _parcels(reply)
            self._recorder.undelivered(parcels.values(), "evaluate")
            arrays[client] = {key: parcel.frame.values() for key, parcel in parcels.items()}
        both: tuple[ListName, ...] = ("probe", name)
        complete = {key: self._complete(key) for key in both}
        rows = {
            key: {
                client: self._rows(arrays[client][key], client, key, complete[key])
                for client in clients
            }
            for key in both
        }
        imputed = {
            (source, client): self._rows_of_edge(values, source, client, name, complete[name])
            for client in clients
            for key, values in arrays[client].items()
            if (source := key.removeprefix("from.")) != key
        }
        labels = {
            label: [self._labels(key, outcome, label)[complete[key]] for key in both]
            for label in self._agreement.all_labels()
        }
        scored = [
            _score(
                rows["probe"],
                fit,
                rows[name],
                test,
                imputed,
                shared_space=self._settings.maps.family == "identity",
            )
            for fit, test in labels.values()
            if len(np.unique(fit[fit >= 0])) >= 2 and (test >= 0).any()
        ]
        if len(scored) < len(labels) or not labels:
            _log.warning(
                "no fused probe of some labels: too few labelled events that every client has"
            )
        return _mean_over_labels(scored)

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


def _score(
    train: Mapping[str, NDArray[np.floating]],
    train_labels: NDArray[np.int64],
    test: Mapping[str, NDArray[np.floating]],
    test_labels: NDArray[np.int64],
    imputed: Mapping[tuple[str, str], NDArray[np.floating]],
    *,
    shared_space: bool,
) -> tuple[Missing, ...]:
    """Train and test the fused probe for one label, on the events that have it."""
    fitted, tested = train_labels >= 0, test_labels >= 0
    return metrics.missing_modalities(
        {client: values[fitted] for client, values in train.items()},
        train_labels[fitted],
        {client: values[tested] for client, values in test.items()},
        test_labels[tested],
        {edge: values[tested] for edge, values in imputed.items()},
        shared_space=shared_space,
    )


def _mean_over_labels(scored: Sequence[tuple[Missing, ...]]) -> tuple[Missing, ...]:
    """Return the rows of one label as they are; of several, the mean of their accuracies, number by number."""
    if len(scored) <= 1:
        return scored[0] if scored else ()
    names = ("imputed", "mean_fill", "zero_fill", "worst_imputed")
    return tuple(
        rows[0].model_copy(
            update={name: sum(getattr(row, name) for row in rows) / len(rows) for name in names}
        )
        for rows in zip(*scored, strict=True)
    )
