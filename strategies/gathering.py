"""Metrics of the whole federation on the relay: what clients owe them, read and put together.

Where edges are sealed nothing is owed: clients measure what they can, and the relay takes means.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.labels import can_be_fitted, from_wire, known, unknown
from sheafalign_fl.metrics.base import FederationMetric, Together, mean_over_labels
from sheafalign_fl.metrics.moments import Moments
from sheafalign_fl.metrics.standing_in import StandIn, sources_of
from sheafalign_fl.protocol.agreement import Agreement, ListName
from sheafalign_fl.protocol.measuring import MOMENTS
from sheafalign_fl.protocol.messages import ScoresReply, plain
from sheafalign_fl.protocol.topology import Topology
from sheafalign_fl.protocol.verbs import EVALUATOR

_log = logging.getLogger("sheafalign.relay")

Arrays = Mapping[str, NDArray[np.floating]]


class Due(NamedTuple):
    """What is due of one frame, beside what is the same of all frames of a reply."""

    destination: str
    events: int
    dim: int
    sealed: bool = False


@dataclass(frozen=True)
class Gathered:
    """What one client sent the evaluator."""

    arrays: Arrays
    labels: Mapping[str, NDArray[Any]]
    """``LIST.LABEL`` -> of every event of the list."""


class Gathering:
    """What the evaluator asks for, and makes of it."""

    def __init__(self, settings: Settings, topology: Topology, agreement: Agreement) -> None:
        """Ask for what was agreed on."""
        self._settings, self._topology, self._agreement = settings, topology, agreement

    # ---- what a client owes --------------------------------------------------------------------

    def due(self, client: str, name: ListName, used: Collection[str]) -> dict[str, Due]:
        """Return key -> the frame that `client` owes, which could use what `used` sent it."""
        dim, has = self._settings.clients[client].dim, self._agreement.has[client]
        lists: tuple[ListName, ...] = ("probe", name)
        sources = self._sources(client)
        width = sum(sources.values()) + dim
        owed = {str(key): Due(EVALUATOR, int(has[key].sum()), dim) for key in lists}
        owed |= {f"from.{i}": Due(EVALUATOR, self._shared(i, client, name), dim) for i in used}
        owed |= {
            f"z.{i}": Due(EVALUATOR, self._shared(i, client, name), d_e)
            for i, d_e in sources.items()
            if i in used
        }
        return owed | {MOMENTS: Due(EVALUATOR, width + 2, width)}

    def read_labels(self, client: str, name: ListName, told: ScoresReply) -> dict[str, Any]:
        """Return ``LIST.LABEL`` -> the client's label of every event of the list.

        Raises
        ------
        ProtocolError
            They are of other lists or labels than are due, or cannot be labels.
        """
        lists: tuple[ListName, ...] = ("probe", name)
        due = {f"{key}.{label}": key for label in self._agreement.labels[client] for key in lists}
        if set(told.labels) != set(due):
            raise ProtocolError(f"labels of {plain(sorted(told.labels))}, not of {sorted(due)}")
        found = {}
        for key, data in told.labels.items():
            kind, width = self._agreement.kind_of(key.partition(".")[2])
            found[key] = from_wire(data, kind, len(self._agreement.lists[due[key]]), width)
        return found

    def _sources(self, client: str) -> dict[str, int]:
        return sources_of(self._topology.neighbours(client))

    def _shared(self, one: str, other: str, name: ListName) -> int:
        return int((self._agreement.has[one][name] & self._agreement.has[other][name]).sum())

    # ---- what is made of it --------------------------------------------------------------------

    def measure(
        self,
        metrics: Mapping[str, FederationMetric],
        name: ListName,
        exchange: int,
        answers: Mapping[str, Gathered],
    ) -> dict[str, list[Any]]:
        """Measure what needs all h in one place: of each label, and then the mean.

        A metric that cannot be measured has no row.
        """
        if any(client not in answers for client in self._topology.clients):
            _log.warning(
                "no %s after %d exchanges: a client is absent", ", ".join(metrics), exchange
            )
            return {key: [] for key in metrics}
        # Metrics look at the same events, which are put together once for each label.
        held = cache(partial(self._held, answers, name))
        return {key: self._measured(key, metric, held) for key, metric in metrics.items()}

    def _measured(
        self, key: str, metric: FederationMetric, held: Callable[[str], Together]
    ) -> list[Any]:
        labels = self._agreement.labels_for(metric.label_kinds)
        usable = [
            one
            for one in map(held, labels)
            if can_be_fitted(one.fit_labels) and len(one.labels) > 0
        ]
        if len(usable) < len(labels) or not labels:
            _log.warning("no %s of some labels: too few labelled events that every client has", key)
        measured = [metric.measure(one) for one in usable]
        return [mean_over_labels(several) for several in zip(*measured, strict=True)]

    def _held(self, answers: Mapping[str, Gathered], name: ListName, label: str) -> Together:
        """Return the events that every client has and that have `label`."""
        both: tuple[ListName, ...] = ("probe", name)
        complete = {key: self._complete(key) for key in both}
        fit, test = (self._labels(key, answers, label)[complete[key]] for key in both)
        fitted, tested = known(fit), known(test)

        def rows(key: ListName, chosen: NDArray[np.bool_]) -> dict[str, NDArray[np.floating]]:
            return {
                client: answers[client].arrays[key][
                    complete[key][self._agreement.has[client][key]]
                ][chosen]
                for client in self._topology.clients
            }

        def of_edges(kind: str, client: str) -> dict[str, NDArray[np.floating]]:
            """Return source -> the tested rows of what the client sent of it under `kind`."""
            return {
                source: values[complete[name][self._both(source, client, name)]][tested]
                for key, values in answers[client].arrays.items()
                if (source := key.removeprefix(kind)) != key
            }

        return Together(
            h=rows(name, tested),
            labels=test[tested],
            fit_h=rows("probe", fitted),
            fit_labels=fit[fitted],
            imputed={
                (source, client): values
                for client in self._topology.clients
                for source, values in of_edges("from.", client).items()
            },
            shared_space=self._settings.maps.family == "identity",
            standing_in={
                client: stand_in
                for client in self._topology.clients
                if (
                    stand_in := StandIn.of(
                        Moments.unpacked(answers[client].arrays[MOMENTS]),
                        self._sources(client),
                        of_edges("z.", client),
                    )
                )
                is not None
            },
        )

    def _complete(self, key: ListName) -> NDArray[np.bool_]:
        """Return the mask over list `key` of the events that every client has."""
        mask: NDArray[np.bool_] = np.logical_and.reduce(
            [self._agreement.has[client][key] for client in self._topology.clients]
        )
        return mask

    def _both(self, source: str, client: str, key: ListName) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = (
            self._agreement.has[source][key] & self._agreement.has[client][key]
        )
        return mask

    def _labels(self, key: ListName, answers: Mapping[str, Gathered], label: str) -> NDArray[Any]:
        """Return the values of `label` for list `key`, each from the first client that has one."""
        kind, width = self._agreement.kind_of(label)
        labels = unknown(kind, len(self._agreement.lists[key]), width)
        for client in self._topology.clients:
            theirs = answers[client].labels.get(f"{key}.{label}")
            if theirs is not None:
                open_ = ~known(labels)
                labels[open_] = theirs[open_]
        return labels


def gathered_nearby(
    metrics: Mapping[str, FederationMetric], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, list[Any]]:
    """Return the rows of the federation, out of what clients measured nearby; none out of none."""
    return {
        key: list(metric.gathered(rows[key])) if rows.get(key) else []
        for key, metric in metrics.items()
    }
