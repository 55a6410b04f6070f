"""Which rows of a client's data an exchange, a batch and an edge are about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.labels import kind_of, unknown, width_of
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.protocol.agreement import ClientAgreement, ListName


@dataclass(frozen=True)
class BatchEvents:
    """The events of one forward pass: of one batch, or of all batches of an exchange."""

    positions: NDArray[np.intp]
    """In the agreed training list: the events that at least one edge shares, shape (N,)."""
    masks: Mapping[str, NDArray[np.bool_]]
    """Neighbour -> mask over the scheduled events: both ends have it. Edges without any are out."""
    union: NDArray[np.bool_]
    """Mask over the scheduled events: at least one edge shares it."""

    def rows(self, neighbour: str) -> NDArray[np.intp] | None:
        """Return which of the N events the edge to `neighbour` shares; None means all."""
        return self.rows_where(self.masks[neighbour])

    def rows_where(self, mask: NDArray[np.bool_]) -> NDArray[np.intp] | None:
        """Return which of the N events are in `mask` over the scheduled ones; None means all."""
        kept = mask[self.union]
        return None if kept.all() else np.flatnonzero(kept)


class ClientEvents:
    """One client's data in the order of the agreed lists."""

    def __init__(
        self, client: str, data: ModalityData, agreement: ClientAgreement, schedule: BatchSchedule
    ) -> None:
        """Look up where every agreed event lies in `data`."""
        self.schedule = schedule
        self.indices = {key: _indices(data, ids) for key, ids in agreement.lists.items()}
        """Agreed list -> row of `data` for each of its events, -1 where the client lacks it."""
        self._client, self._agreement, self._data = client, agreement, data

    def shared(self, exchange: int) -> dict[str, NDArray[np.bool_]]:
        """Return neighbour -> mask over the exchange's events: both ends have it.

        Edges without any are left out.
        """
        shared = self._agreement.shared
        masks = {
            neighbour: self.schedule.shared(shared[neighbour]["train"], exchange)
            for neighbour in self._agreement.neighbours
        }
        return {neighbour: mask for neighbour, mask in masks.items() if mask.any()}

    def batch(self, exchange: int, number: int | None = None) -> BatchEvents:
        """Return the events of batch `number` of the exchange, or of all of its batches in one."""
        size = self.schedule.batch_size
        chosen = slice(None) if number is None else slice(number * size, (number + 1) * size)
        scheduled = self.schedule.positions(exchange)[chosen]
        masks = {neighbour: mask[chosen] for neighbour, mask in self.shared(exchange).items()}
        masks = {neighbour: mask for neighbour, mask in masks.items() if mask.any()}
        nothing = np.zeros(len(scheduled), dtype=np.bool_)
        union = np.logical_or.reduce(list(masks.values())) if masks else nothing
        return BatchEvents(scheduled[union], masks, union)

    def expected(self, exchange: int, neighbour: str) -> tuple[int, int]:
        """Return the shape of what `neighbour` sends for the exchange.

        Raises
        ------
        ProtocolError
            It shares no events with this client in this exchange.
        """
        return int(self._mask(exchange, neighbour).sum()), self._agreement.neighbours[neighbour]

    def _mask(self, exchange: int, neighbour: str) -> NDArray[np.bool_]:
        mask = self.shared(exchange).get(neighbour)
        if mask is None:
            raise ProtocolError(
                f"client '{self._client}' got embeddings from '{neighbour}', which shares no "
                f"events with it in exchange {exchange}"
            )
        return mask

    def by_batch(
        self, exchange: int, neighbour: str, values: NDArray[np.floating]
    ) -> list[NDArray[np.floating]]:
        """Return what `neighbour` sent for the exchange, cut into its batches.

        Raises
        ------
        ProtocolError
            It shares no events with this client in this exchange, or the shape is wrong.
        """
        mask, expected = self._mask(exchange, neighbour), self.expected(exchange, neighbour)
        counts = mask.reshape(self.schedule.batches, -1).sum(axis=1)
        if values.shape != expected:
            raise ProtocolError(
                f"client '{self._client}' got embeddings of shape {values.shape} from "
                f"'{neighbour}', not {expected}"
            )
        return np.split(values, np.cumsum(counts)[:-1])

    def labels(self, label: str | None, name: ListName) -> NDArray[Any]:
        """Return the labels of the agreed list `name`; unknown where one is missing."""
        indices = self.indices[name]
        if label is None or (own := self._data.labels.get(label)) is None:
            return unknown("classes", len(indices))
        values, has = unknown(kind_of(own), len(indices), width_of(own)), indices >= 0
        values[has] = own[indices[has]]
        return values


def _indices(data: ModalityData, ids: NDArray[Any]) -> NDArray[np.intp]:
    """Return for every id its row in `data`, or -1."""
    order = np.argsort(data.event_ids, kind="stable")
    found = np.searchsorted(data.event_ids, ids, sorter=order)
    found = np.minimum(found, len(order) - 1)
    rows = order[found]
    return np.where(data.event_ids[rows] == ids, rows, -1).astype(np.intp)
