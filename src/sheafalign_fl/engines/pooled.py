"""Joint training on pooled data: the reference that a federation is compared with.

All clients send their raw training inputs to one place once, where one backward pass goes through
all encoders and maps. By the invariant (DESIGN section 2) it finds the weights that a federation
with exact exchange finds; what differs is what has to travel, which is counted here like everything
else: in frames of a real encoding.
"""

import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.config import Settings
from sheafalign_fl.data.base import SPLITS, ModalityData
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.learner.descent import Descent
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.node import Node
from sheafalign_fl.learner.objective import Forward, take
from sheafalign_fl.learner.replay import replayed
from sheafalign_fl.learner.schedule import MIN_SHARED, BatchSchedule
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.topology import Edge, Topology, build_topology
from sheafalign_fl.protocol.verbs import RELAY
from sheafalign_fl.runs.folder import Checkpoint, RunFolder
from sheafalign_fl.runs.initial import initial_of
from sheafalign_fl.runs.ledger import Ledger, LedgerRow
from sheafalign_fl.sheaf.group import contrast_of_all
from sheafalign_fl.sheaf.maps import EdgeMaps
from sheafalign_fl.sheaf.terms import EdgeBatch, joint_edge_terms

_FRAME_EVENTS = 1000
_CODEC = "float32"


def run_pooled(settings: Settings, folder: RunFolder, *, resume: bool = False) -> None:
    """Train jointly on pooled data, then evaluate as every other run is evaluated.

    The result of training is left as a checkpoint after the last exchange, from which the ordinary
    round loop goes on: it has nothing left to do but the evaluation.

    Raises
    ------
    SheafAlignError
        The loss is not finite, or the evaluation fails.
    """
    if resume:
        folder.set_status("running", resumed=folder.status().get("resumed", 0))
    if not (resume and folder.last_checkpoint()):
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(settings.resources.threads)
            _train(settings, folder)
        finally:
            torch.set_num_threads(threads)
    run_inprocess(settings, folder, resume=True)


def _train(settings: Settings, folder: RunFolder) -> None:
    started = time.monotonic()
    folder.rewind(None)
    topology, agreement = build_topology(settings), check(settings).agreement
    data = {client: client_data(client, settings) for client in topology.clients}
    ledger = Ledger(folder.ledger)
    for client, modality in data.items():
        ledger.record(list(_upload(client, modality)))
    ledger.close()
    folder.metrics.touch()
    joint = JointTraining(settings, topology, agreement, data)
    for exchange in range(settings.training.exchanges):
        joint.step(exchange)
    done = settings.training.exchanges
    for client, node in joint.nodes.items():
        folder.save_client(done, client, node.state())
    folder.complete_checkpoint(
        Checkpoint(
            done,
            folder.metrics.stat().st_size,
            folder.ledger.stat().st_size,
            time.monotonic() - started,
        ),
        1,
    )


def _upload(client: str, data: ModalityData) -> Iterator[LedgerRow]:
    """Yield the ledger rows of sending all of a client's training inputs, as float32."""
    x = data.x[data.split == SPLITS.index("train")]
    x = x.reshape(len(x), -1)
    for first in range(0, len(x), _FRAME_EVENTS):
        frame = Frame.of("train", 0, client, RELAY, _CODEC, x[first : first + _FRAME_EVENTS])
        size = len(frame.pack())
        yield LedgerRow(
            0,
            client,
            RELAY,
            "train",
            _CODEC,
            frame.events,
            frame.dim,
            len(frame.payload),
            size,
            size,
        )


class JointTraining:
    """All clients' encoders and maps in one place, under one optimiser."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        agreement: Agreement,
        data: Mapping[str, ModalityData],
    ) -> None:
        """Start from the weights that the clients of a federation start from."""
        self.settings, self.topology, self.agreement = settings, topology, agreement
        self.nodes = {
            client: Node(client, settings, data[client], agreement.for_client(client, topology))
            for client in topology.clients
        }
        for node in self.nodes.values():
            if (initial := initial_of(settings, node.name)) is not None:
                node.start_from(initial)
        for edge in topology.edges:
            # Here the two ends' copies of a learnt temperature are one parameter.
            one, other = self._maps(edge)
            other.log_temperature = one.log_temperature
        nodes = self.nodes.values()
        self._descent = Descent(
            "joint training",
            [node.trainable() for node in nodes],
            [maps for node in nodes for maps in node.maps.values()],
            settings.training,
        )
        self._schedule = BatchSchedule.of(
            settings.training, len(agreement.lists["train"]), settings.seed
        )

    def step(self, exchange: int) -> None:
        """Take one step on each batch of `exchange`, `training.local_steps` times over."""
        self._note_received(exchange)
        batches = range(exchange * self._schedule.batches, (exchange + 1) * self._schedule.batches)
        for _ in range(self.settings.training.local_steps):
            for number in batches:
                positions = self._schedule.batch(number)
                self._descent.step(self.objective(positions, exchange), exchange)
        for number in replayed(self.settings, self._schedule, exchange):
            # Nothing has to be remembered here: everybody's embeddings of the batch are made anew.
            positions = self._schedule.batch(number)
            self._descent.step(self.objective(positions, exchange, "replay", number), exchange)

    def _note_received(self, exchange: int) -> None:
        """Let every client have what it would have received last: shares are made of it."""
        if not all(node.received.recent(exchange) for node in self.nodes.values()):
            return
        with torch.no_grad():
            sent = {client: Forward.of(node, exchange).z for client, node in self.nodes.items()}
        for client, node in self.nodes.items():
            came = {other: [z[client]] for other, z in sent.items() if client in z}
            node.received.keep(exchange, {other: z for other, z in came.items() if len(z[0])})

    def objective(self, positions: NDArray[np.intp], exchange: int, *draw: int | str) -> Tensor:
        """Return the objective of all edges on the events at `positions` of the agreed list.

        `draw` tells the pass from others of the exchange, for encoders that draw random numbers.
        """
        has = {client: self.agreement.has[client]["train"][positions] for client in self.nodes}
        h = {
            client: node.encode(positions[has[client]], exchange, *draw)
            for client, node in self.nodes.items()
        }
        first = next(iter(self.nodes.values()))
        with first.alignment_generator("joint", exchange, *draw):
            terms = [self._edge(edge, h, has, positions) for edge in self.topology.edges]
        common = np.logical_and.reduce(list(has.values()))
        objective = self.settings.objective
        if objective.contrast != "pairs" and common.sum() >= MIN_SHARED:
            together = [
                next(iter(self.nodes[client].maps.values())).restrict(
                    take(h[client], np.flatnonzero(common[has[client]]))
                )
                for client in h
            ]
            group = contrast_of_all(objective, together)
            terms.append(objective.contrastive * group)
        return torch.stack(terms).sum()

    def _edge(
        self,
        edge: Edge,
        h: Mapping[str, Tensor],
        has: Mapping[str, NDArray[np.bool_]],
        positions: NDArray[np.intp],
    ) -> Tensor:
        nothing = next(iter(h.values())).new_zeros(())
        ends = (edge.source, edge.target)
        both = np.logical_and(*(has[client] for client in ends))
        if both.sum() < MIN_SHARED:
            return nothing
        h_i, h_j = (take(h[client], np.flatnonzero(both[has[client]])) for client in ends)
        maps_i, maps_j = self._maps(edge)
        z_i, z_j = maps_i.restrict(h_i), maps_j.restrict(h_j)
        objective = self.settings.objective
        group = None if objective.contrast == "pairs" else nothing  # it is added for all at once
        same = self.nodes[edge.source].same_events(positions[both])
        one = EdgeBatch(objective, maps_i, h_i, z_i, z_j, group, same)
        other = EdgeBatch(objective, maps_j, h_j, z_j, z_i, group, same)
        return joint_edge_terms(self.nodes[edge.source].terms, one, other)

    def _maps(self, edge: Edge) -> tuple[EdgeMaps, EdgeMaps]:
        source, target = edge.source, edge.target
        return self.nodes[source].maps[target], self.nodes[target].maps[source]
