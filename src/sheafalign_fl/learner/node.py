"""One client's learner: it embeds, steps, and can be saved. It knows nothing of Flower.

The life of an exchange t: `embed(t)` runs the forward pass and returns z_ij(t) for every neighbour;
the neighbours' z_ji(t) come back; `step(t, inbound)` takes the optimiser's step. `step` uses the
forward pass that `embed` made, if the node still holds it, and otherwise makes it again: same
weights, same events, same generator, so the same bits.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.codecs import codec
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.errors import RunError
from sheafalign_fl.learner import state
from sheafalign_fl.learner.descent import Descent, StepNotTakenError
from sheafalign_fl.learner.embedder import Embedder
from sheafalign_fl.learner.feedback import ErrorFeedback
from sheafalign_fl.learner.gate import Gate
from sheafalign_fl.learner.initial import Initial
from sheafalign_fl.learner.objective import Forward, MeanTerms, client_objective
from sheafalign_fl.learner.received import LastReceived
from sheafalign_fl.learner.replay import ReplayMemory, remembered, replayed
from sheafalign_fl.protocol.agreement import ClientAgreement
from sheafalign_fl.protocol.rows import Loss, pack_losses, unpack_losses
from sheafalign_fl.protocol.verdict import Check

Embeddings = Mapping[str, NDArray[np.floating]]
"""Neighbour -> comparison embeddings, shape (shared events, d_e)."""


class Node(Embedder):
    """The learner of one client."""

    def __init__(
        self, name: str, settings: Settings, data: ModalityData, agreement: ClientAgreement
    ) -> None:
        """Make encoder, maps and optimiser from the seed.

        Raises
        ------
        ConfigError
            The encoder, the maps or a loss term cannot be made with these settings.
        """
        super().__init__(name, settings, data, agreement)
        self._descent = self._new_descent()
        self.gate = Gate(name, agreement.neighbours)
        self._pending: Forward | None = None
        self._outbound: tuple[int, Embeddings] | None = None
        """Stale schedule: embeddings that were made before the last step, and their exchange."""
        self.done = 0
        """Exchange after the last one that a step was taken on."""
        self.last: list[Loss] = []
        """What that step returned, for a relay that asks again because this client was restarted
        before it answered."""
        self.restored: int | None = None
        """After so many exchanges its state was saved, if this client was restarted and has taken
        no step since."""
        self.received = LastReceived(
            self.schedule, settings.training.exchanges, agreement.neighbours
        )
        self._memory: ReplayMemory | None = None
        if settings.training.replay:
            self._memory = ReplayMemory(remembered(settings, self.schedule))
        self._feedback: ErrorFeedback | None = None
        if settings.training.error_feedback:
            kind = np.float64 if self.dtype == torch.float64 else np.float32
            events = len(agreement.lists["train"])
            self._feedback = ErrorFeedback(
                codec(settings.codec), events, agreement.neighbours, kind
            )

    def _new_descent(self) -> Descent:
        whose, maps = f"client '{self.name}'", list(self.maps.values())
        return Descent(whose, [self.trainable()], maps, self.settings.training)

    def start_from(self, initial: Initial) -> None:
        """Take over another run's weights, as `Embedder.start_from` does; the rest begins anew."""
        super().start_from(initial)
        self._descent = self._new_descent()

    def shared_rows(self, exchange: int) -> dict[str, NDArray[np.bool_]]:
        """Return neighbour -> mask over the exchange's events: both ends have it."""
        return self.events.shared(exchange)

    def sensed(self, exchange: int) -> NDArray[np.generic]:
        """Return this client's own inputs of the exchange's events, of those that it has."""
        indices = self.events.indices["train"][self.schedule.positions(exchange)]
        return self._data.x[indices[indices >= 0]]

    # ---- training --------------------------------------------------------------------------------

    def embed(self, exchange: int) -> Embeddings:
        """Return neighbour -> what to send it of the exchange's events, shape (shared, d_e).

        It is z_ij; with error feedback, plus what the codec lost of these events the last time.
        """
        if self._outbound is not None and self._outbound[0] == exchange:
            return self._outbound[1]  # embedded before the checkpoint was saved
        with torch.set_grad_enabled(self._reuses_forward):
            forward = Forward.of(self, exchange)
        self._pending = forward if self._reuses_forward else None
        sent = {n: self._to_send(exchange, n, forward) for n in forward.z}
        self._outbound = (exchange, sent) if self.settings.training.stale else None
        return sent

    def step(
        self, exchange: int, inbound: Embeddings, unreadable: Mapping[str, Check] | None = None
    ) -> list[Loss]:
        """Take the optimiser's steps on the batches of `exchange`, given the neighbours' z.

        One step for each batch in turn, `training.local_steps` times over; then `training.replay`
        steps on past batches.

        Parameters
        ----------
        inbound
            Neighbour -> z_ji, shape (shared events, d_e). A neighbour that is left out was absent:
            its edge is skipped. So is one whose embeddings the gate does not admit.
        unreadable
            Neighbour -> why what it sent could not be read.

        Returns
        -------
        list of Loss
            The terms of every edge that took part: each is the mean over all steps on the
            exchange's own batches of its value before the step.

        Raises
        ------
        ProtocolError
            An array comes from no neighbour or has the wrong shape. Nothing has changed then.

        Notes
        -----
        What is left out, and a step that is not taken because it would not leave finite weights,
        is in `gate.verdicts`.
        """
        received = self._admitted(exchange, inbound)
        self.gate.sense(self.sensed(exchange))
        for neighbour, check in (unreadable or {}).items():
            self.gate.refuse(neighbour, check)
        seen = MeanTerms()
        for turn in range(self.settings.training.local_steps):
            for batch in range(self.schedule.batches):
                forward = self._take_pending(exchange) or Forward.of(self, exchange, batch)
                there = {n: parts[batch] for n, parts in received.items() if n in forward.z}
                if turn == batch == 0:
                    for neighbour in self.gate.look(forward.z, there):
                        del received[neighbour], there[neighbour]
                self._descend(exchange, forward, there, seen)
        self._pending = None
        self.received.keep(exchange, received)
        if self._memory is not None and received:
            self._replay(exchange, received, self._memory)
        masks = self.shared_rows(exchange)
        losses = seen.losses(self.name, {n: int(masks[n].sum()) for n in received})
        if inbound or unreadable:
            self.done, self.last = exchange + 1, losses
        return losses

    def _replay(
        self, exchange: int, received: Mapping[str, Sequence[Tensor]], memory: ReplayMemory
    ) -> None:
        """Take the exchange's steps on past batches, then remember its own."""
        for number in replayed(self.settings, self.schedule, exchange):
            if not (there := memory.recall(number)):
                continue
            past, batch = divmod(number, self.schedule.batches)
            forward = Forward.of(self, past, batch, "replay", exchange)
            # Losses and verdicts are of what came; what is replayed had passed the gate then.
            self._descend(exchange, forward, there, MeanTerms())
        first = exchange * self.schedule.batches
        for batch in range(self.schedule.batches):
            parts = {n: parts[batch] for n, parts in received.items() if len(parts[batch])}
            memory.keep(first + batch, parts)

    @property
    def _reuses_forward(self) -> bool:
        """Whether the pass that made the embeddings is also the first step's."""
        return self.settings.training.batches == 1 and not self.settings.training.stale

    def _take_pending(self, exchange: int) -> Forward | None:
        pending, self._pending = self._pending, None
        return pending if pending is not None and pending.exchange == exchange else None

    def _to_send(self, exchange: int, neighbour: str, forward: Forward) -> NDArray[np.floating]:
        z: NDArray[np.floating] = forward.z[neighbour].detach().cpu().numpy()
        if self._feedback is None:
            return z
        positions = self.schedule.positions(exchange)[forward.events.masks[neighbour]]
        return self._feedback.correct(neighbour, positions, z)

    def _admitted(self, exchange: int, inbound: Embeddings) -> dict[str, list[Tensor]]:
        """Return neighbour -> what it sent, batch by batch, of those that the gate admits."""
        parts = {n: self.events.by_batch(exchange, n, values) for n, values in inbound.items()}
        masks, positions = self.shared_rows(exchange), self.schedule.positions(exchange)
        self.gate.open(exchange)
        return {
            n: [self.tensor(part) for part in parts[n]]
            for n, values in inbound.items()
            if self.gate.admits(n, values, positions[masks[n]])
        }

    def _descend(
        self,
        exchange: int,
        forward: Forward,
        received: Mapping[str, Tensor],
        seen: MeanTerms,
    ) -> None:
        """Take one step on one batch, if any neighbour's embeddings of it are there."""
        if not received:
            return
        terms = MeanTerms()
        with self.alignment_generator("terms", exchange):
            total = client_objective(self, forward, received, terms)
        try:
            self._descent.step(total, exchange)
        except StepNotTakenError as error:
            self.gate.step_not_taken(error.check)
        else:
            seen.add(terms)

    # ---- state -----------------------------------------------------------------------------------

    def state(self) -> bytes:
        """Return all that the rest of the run depends on, as bytes (`learner.state`)."""
        tensors = dict(self.weights())
        tensors["done"] = torch.tensor(self.done)
        if self.started_from:
            tensors["start"] = state.start_tensor(self.started_from, self.known)
        tensors["inputs"] = torch.frombuffer(bytearray(self._data.digest), dtype=torch.uint8)
        last = np.frombuffer(pack_losses(self.last), dtype=np.uint8)
        tensors["losses"] = torch.from_numpy(last.copy())
        tensors |= state.under("optimiser.", self._descent.state())
        if self._feedback is not None:
            residuals = {n: torch.from_numpy(values) for n, values in self._feedback.state()}
            tensors |= state.under("feedback.", residuals)
        tensors |= state.under("gate.", self.gate.state())
        if self._memory is not None:
            tensors |= state.under("replay.", self._memory.state())
        tensors |= state.under("received.", self.received.state())
        tensors |= state.under("outbound.", state.outbound_tensors(self._outbound))
        return state.to_bytes(tensors)

    def load_state(self, data: bytes) -> None:
        """Restore what `state` returned; raise `RunError` if it is of another model or data."""
        try:
            tensors = state.from_bytes(data)
            self.load_weights(tensors)
        except Exception as error:  # safetensors and torch raise types of their own
            raise RunError(
                f"the saved state of client '{self.name}' does not fit its model: {error}"
            ) from error
        inputs = tensors.get("inputs")
        if inputs is not None and inputs.numpy().tobytes() != self._data.digest:
            raise RunError(
                f"the data of client '{self.name}' is not what it was when the run was saved "
                "(inputs, splits or labels have changed); bring it back, or start a new run"
            )
        if (start := tensors.get("start")) is not None:
            self.started_from, self.known = state.start_of(start)
            self.hold_still()
            self._descent = self._new_descent()
        self._descent.load(state.below("optimiser.", tensors))
        self._pending = None
        self.done = int(tensors.get("done", torch.tensor(0)))
        last = tensors.get("losses")
        self.last = unpack_losses(self.name, last.numpy().tobytes()) if last is not None else []
        if self._feedback is not None:
            for neighbour, residuals in state.below("feedback.", tensors).items():
                self._feedback.load(neighbour, residuals.numpy())
        self.gate.load(state.below("gate.", tensors))
        if self._memory is not None:
            self._memory.load(state.below("replay.", tensors), self.device)
        self.received.load(state.below("received.", tensors))
        self._outbound = state.outbound_of(state.below("outbound.", tensors))
