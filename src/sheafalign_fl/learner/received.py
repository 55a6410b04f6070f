"""What arrived in the last exchanges of training, by event: what imputation is fitted on later.

It is kept because it has come anyway: to fit on it costs no further byte and needs nobody who sees
more than a neighbour does. Only the last exchanges count, since what came before was embedded with
weights that are gone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.learner.schedule import BatchSchedule

_EVENTS = 4096
_NUMBERS = 4_000_000
"""At most so many events, and so many values (16 MB) of all neighbours together."""

Arrived = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Positions in the agreed training list, shape (N,), ascending; and z_ji, shape (N, d_e)."""


class LastReceived:
    """The comparison embeddings that one client got last."""

    def __init__(
        self, schedule: BatchSchedule, exchanges: int, neighbours: Mapping[str, int]
    ) -> None:
        """Keep what arrives in the last of `exchanges` exchanges; `neighbours` gives each d_e."""
        width = max(1, sum(neighbours.values()))
        events = max(1, min(_EVENTS, _NUMBERS // width))
        self._first = exchanges - -(-events // (schedule.batches * schedule.batch_size))
        self._schedule = schedule
        self._kept: dict[int, dict[str, Tensor]] = {}

    def recent(self, exchange: int) -> bool:
        """Return whether what arrives in `exchange` is kept."""
        return exchange >= self._first

    def keep(self, exchange: int, received: Mapping[str, Sequence[Tensor]]) -> None:
        """Keep neighbour -> z_ji of one exchange, if it is recent.

        They are given by batch, each of shape (shared events, d_e).
        """
        if self.recent(exchange) and received:
            self._kept[exchange] = {
                neighbour: torch.cat(list(parts)).detach().float().cpu()
                for neighbour, parts in received.items()
            }
        for old in [kept for kept in self._kept if kept < self._first]:
            del self._kept[old]

    def of(self, neighbour: str, shared: NDArray[np.bool_]) -> Arrived | None:
        """Return what `neighbour` sent of each event last; None if nothing came.

        `shared` is the mask over the agreed training list of the events that both ends have.
        """
        rows: dict[int, NDArray[np.float32]] = {}
        for exchange in sorted(self._kept):
            if (z := self._kept[exchange].get(neighbour)) is not None:
                mask = self._schedule.shared(shared, exchange)
                positions = self._schedule.positions(exchange)[mask].tolist()
                rows.update(zip(positions, z.numpy(), strict=True))
        if not rows:
            return None
        positions = np.array(sorted(rows), dtype=np.intp)
        return positions, np.stack([rows[position] for position in positions.tolist()])

    def state(self) -> dict[str, Tensor]:
        """Return all that is kept, as ``EXCHANGE.NEIGHBOUR``."""
        return {
            f"{exchange}.{neighbour}": z
            for exchange, received in self._kept.items()
            for neighbour, z in received.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Keep what `state` returned instead."""
        self._kept = {}
        for key, z in state.items():
            exchange, _, neighbour = key.partition(".")
            self._kept.setdefault(int(exchange), {})[neighbour] = z.to(torch.float32).clone()
