"""One client's objective on one batch, and the means of its terms over the steps of an exchange."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.learner.embedder import Embedder
from sheafalign_fl.learner.events import BatchEvents
from sheafalign_fl.learner.schedule import MIN_SHARED
from sheafalign_fl.protocol.rows import Loss
from sheafalign_fl.sheaf.group import contrast_of_all
from sheafalign_fl.sheaf.terms import EdgeBatch, edge_terms


@dataclass(frozen=True)
class Forward:
    """A forward pass of one batch, with its graph."""

    exchange: int
    events: BatchEvents
    h: Tensor
    z: Mapping[str, Tensor]
    """Neighbour -> z_ij of the events that the edge shares."""

    @classmethod
    def of(
        cls, client: Embedder, exchange: int, batch: int | None = None, *draw: int | str
    ) -> "Forward":
        """Pass one batch of the exchange through `client`, or all of its batches in one.

        `draw` tells the pass from others of the exchange, for encoders that draw random numbers.
        """
        events = client.events.batch(exchange, batch)
        h = client.encode(events.positions, exchange, *draw)
        with client.alignment_generator("restrict", exchange, *draw):
            z = {n: client.maps_at_work(n).restrict(take(h, events.rows(n))) for n in events.masks}
        return cls(exchange, events, h, z)

    def h_towards(self, neighbour: str) -> Tensor:
        """Return h of the events that the edge to `neighbour` shares."""
        return take(self.h, self.events.rows(neighbour))

    def positions_towards(self, neighbour: str) -> NDArray[np.intp]:
        """Return the positions in the agreed list of the events that the edge shares."""
        rows = self.events.rows(neighbour)
        return self.events.positions if rows is None else self.events.positions[rows]


def take(h: Tensor, rows: NDArray[np.intp] | None) -> Tensor:
    """Return `rows` of h; h itself where they are None."""
    return h if rows is None else h[torch.from_numpy(rows).to(h.device)]


class MeanTerms:
    """Means over the steps of an exchange of each edge's terms."""

    def __init__(self) -> None:
        self._values: dict[str, list[dict[str, float]]] = {}

    def note(self, neighbour: str, terms: dict[str, float]) -> None:
        """Note the values of one step."""
        self._values.setdefault(neighbour, []).append(terms)

    def add(self, step: "MeanTerms") -> None:
        """Note all that `step` noted."""
        for neighbour, terms in step._values.items():
            self._values.setdefault(neighbour, []).extend(terms)

    def losses(self, client: str, events: Mapping[str, int]) -> list[Loss]:
        """Return one row for each edge; `events` are those of the exchange."""
        return [
            Loss(source=client, target=neighbour, events=events[neighbour], terms=_means(steps))
            for neighbour, steps in self._values.items()
        ]


def _means(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}


def client_objective(
    client: Embedder,
    forward: Forward,
    received: Mapping[str, Tensor],
    seen: MeanTerms,
) -> Tensor:
    """Return the part of the objective in which `client` has parameters, and note its terms.

    Parameters
    ----------
    received
        Neighbour -> z_ji of the batch, as it arrived; at least one.
    """
    objective = client.settings.objective
    there = [n for n in client.maps if n in received]  # the agreed order, not that of arrival
    group = None
    if objective.contrast != "pairs":
        group = _group_term(client, forward, received) / len(there)
    total = forward.h.new_zeros(())
    for neighbour in there:
        edge = EdgeBatch(
            objective,
            client.maps[neighbour],
            forward.h_towards(neighbour),
            forward.z[neighbour],
            received[neighbour],
            group,
            client.same_events(forward.positions_towards(neighbour)),
        )
        found = edge_terms(client.terms, edge)
        total = total + found.total
        seen.note(neighbour, found.numbers())
    return total


def _group_term(client: Embedder, forward: Forward, received: Mapping[str, Tensor]) -> Tensor:
    """Return the contrast of all clients that are there, on the events that all of them have.

    It is 0 where this client shares too few events of the batch with any of the others: so does
    then the group.
    """
    masks = forward.events.masks
    nothing = forward.h.new_zeros(())
    if len(masks) < len(client.maps):
        return nothing
    common = np.logical_and.reduce([masks[neighbour] for neighbour in received])
    if common.sum() < MIN_SHARED:
        return nothing
    own = take(forward.h, np.flatnonzero(common[forward.events.union]))
    towards_all = next(iter(client.maps.values()))  # all lie in one space
    embeddings = {client.name: towards_all.restrict(own)}
    for neighbour, z in received.items():
        embeddings[neighbour] = take(z, np.flatnonzero(common[masks[neighbour]]))
    ordered = [embeddings[name] for name in client.settings.clients if name in embeddings]
    return contrast_of_all(client.settings.objective, ordered)
