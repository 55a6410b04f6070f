"""What a client makes of its neighbours' embeddings before it trains on them: verdicts.

Nothing here changes a step that is taken: a clean exchange has the same bits with and without it.
"""

import logging
import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.protocol.verdict import Check, Event, Verdict, pack_verdicts, read_verdicts
from sheafalign_fl.watching.inputs import InputWatch
from sheafalign_fl.watching.receipt import Receipt, Refusal
from sheafalign_fl.watching.watch import EdgeWatch

_log = logging.getLogger("sheafalign.node")


class Gate:
    """One client's receipts and watches, one of each for a neighbour, and what they found."""

    def __init__(self, client: str, neighbours: Iterable[str]) -> None:
        self._client = client
        self._receipts = {neighbour: Receipt() for neighbour in neighbours}
        self._watches = {neighbour: EdgeWatch() for neighbour in self._receipts}
        self._inputs = InputWatch()
        self._exchange = 0
        self._said: dict[tuple[str, Check], int] = {}
        """(sender, check) -> exchange in which it was found last; what goes on is logged once."""
        self.verdicts: list[Verdict] = []
        """On the exchange that was opened last."""

    def open(self, exchange: int) -> None:
        """Begin with `exchange`: what was found in the last one has been told."""
        self._exchange, self.verdicts = exchange, []

    def admits(
        self, neighbour: str, values: NDArray[np.floating], events: NDArray[np.integer]
    ) -> bool:
        """Return whether a neighbour's embeddings may be trained on; if not, there is a verdict.

        Parameters
        ----------
        values
            z_ji as decoded, shape (N, d_e).
        events
            Position of each row's event in the agreed list, shape (N,).
        """
        refusal = self._receipts[neighbour].check(values, events, self._exchange)
        if refusal is None:
            return True
        self.refuse(neighbour, refusal.fault, refusal.value, refusal.bound)
        return False

    def judge_held_out(self, peer: str, values: NDArray[np.floating]) -> Refusal | None:
        """Return why what a peer sent of held-out events, shape (N, d_e), cannot be measured.

        A peer that is no neighbour has no past here; it is judged as one in its first exchange.
        """
        return self._receipts.get(peer, Receipt()).check_held_out(values)

    def refuse(self, neighbour: str, check: Check, value: float = 0.0, bound: float = 0.0) -> None:
        """Note that the edge from `neighbour` is left out of this exchange."""
        self._note(neighbour, "refused", check, value, bound, self._exchange)

    def step_not_taken(self, check: Check) -> None:
        """Note that this client's own step was not taken; of several in an exchange, once."""
        if any(verdict.check == check for verdict in self.verdicts):
            return
        self._note(self._client, "not stepped", check, 0.0, 0.0, self._exchange)

    def look(self, sent: Mapping[str, Tensor], received: Mapping[str, Tensor]) -> set[str]:
        """Show the watches one batch of each edge; return the neighbours to leave out.

        Parameters
        ----------
        sent, received
            Neighbour -> what this client embedded for it and what came, shape (B, d_e); `sent` may
            hold more edges.
        """
        refused = set()
        for neighbour, values in received.items():
            own = sent[neighbour].detach()
            if not torch.isfinite(own).all():
                continue
            look = self._watches[neighbour].look(own.cpu().numpy(), values.cpu().numpy())
            for alarm in look.alarms:
                since = max(0, self._exchange - alarm.looks + 1)
                self._note(
                    neighbour, "changed", alarm.statistic, alarm.value, alarm.expected, since
                )
            if look.refusal is not None:
                refused.add(neighbour)
                self.refuse(neighbour, look.refusal.fault, look.refusal.value, look.refusal.bound)
        return refused

    def sense(self, inputs: NDArray[np.generic]) -> None:
        """Show the watch this client's own inputs of an exchange, shape (B, ...)."""
        if (change := self._inputs.look(inputs)) is not None:
            since = max(0, self._exchange - change.looks + 1)
            value, usual = (float(np.exp(log / 2)) for log in (change.value, change.expected))
            self._note(self._client, "changed", "inputs", value, usual, since)

    @property
    def nearness(self) -> float:
        """How near the nearest watch is to an alarm, which is at 1."""
        watches = [watch.nearness for watch in self._watches.values()]
        return max([self._inputs.nearness, *watches])

    def _note(
        self, sender: str, event: Event, check: Check, value: float, bound: float, since: int
    ) -> None:
        verdict = Verdict(
            sender=sender,
            event=event,
            check=check,
            value=value if math.isfinite(value) else 0.0,
            bound=bound if math.isfinite(bound) else 0.0,
            since=since,
        )
        if self._said.get((sender, check), -2) < self._exchange - 1:
            _log.warning("exchange %d: %s", self._exchange, verdict.told())
        self._said[sender, check] = self._exchange
        self.verdicts.append(verdict)

    def state(self) -> dict[str, Tensor]:
        """Return all that was learnt and the last verdicts, as named tensors."""
        said = np.frombuffer(pack_verdicts(self.verdicts), dtype=np.uint8)
        tensors = {"said": torch.from_numpy(said.copy())}
        tensors["inputs"] = torch.from_numpy(self._inputs.state())
        for neighbour, receipt in self._receipts.items():
            watch = torch.from_numpy(self._watches[neighbour].state())
            tensors[f"watch.{neighbour}"] = watch
            for name, array in receipt.state().items():
                tensors[f"receipt.{name}.{neighbour}"] = torch.from_numpy(array.copy())
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned; from nothing, where a state was saved without it."""
        self.verdicts = []
        if "said" in tensors:
            self.verdicts = list(read_verdicts(tensors["said"].numpy().tobytes()))
        if "inputs" in tensors:
            self._inputs.load(tensors["inputs"].numpy())
        for neighbour, receipt in self._receipts.items():
            if (watch := tensors.get(f"watch.{neighbour}")) is None:
                continue
            self._watches[neighbour].load(watch.numpy())
            receipt.load(
                {name: tensors[f"receipt.{name}.{neighbour}"].numpy() for name in receipt.state()}
            )
