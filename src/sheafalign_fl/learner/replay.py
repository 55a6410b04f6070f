"""Further steps on past batches, with what the neighbours sent of them then as constants.

They cost no byte. What is remembered is what arrived, so as the codec had left it: it is the value
that the other end made this client work with, and a run is equal to one process that keeps the same
constants. Both ends of an edge replay the same batches, which follow from the seed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.learner.factories import DTYPES
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.seeding import numpy_generator


def remembered(settings: Settings, schedule: BatchSchedule) -> int:
    """Return how many past batches a client may remember."""
    return settings.training.replay_batches or schedule.batches_per_epoch


def memory_bytes(settings: Settings, schedule: BatchSchedule, neighbours: Mapping[str, int]) -> int:
    """Return the most bytes that a client remembers for replay; 0 where it replays nothing.

    That is where no event is missing. `neighbours` gives each d_e.
    """
    if settings.training.replay == 0:
        return 0
    values = remembered(settings, schedule) * schedule.batch_size * sum(neighbours.values())
    return values * DTYPES[settings.training.dtype].itemsize


def replayed(settings: Settings, schedule: BatchSchedule, exchange: int) -> list[int]:
    """Return the numbers of the past batches that all clients replay in `exchange`, in order.

    They are drawn from the seed, without repetition, out of the last `remembered` batches before
    the exchange's own; fewer than ``training.replay`` where there are not that many yet.
    """
    training = settings.training
    if training.replay == 0 or exchange < training.replay_from * training.exchanges:
        return []
    after = exchange * schedule.batches
    first = max(0, after - remembered(settings, schedule))
    count = min(training.replay, after - first)
    generator = numpy_generator(settings.seed, "replay", exchange)
    return [first + int(k) for k in generator.choice(after - first, size=count, replace=False)]


class ReplayMemory:
    """What arrived of the last batches.

    It takes `memory_bytes` at most: of an epoch, about as many values as the client sends in it.
    """

    def __init__(self, batches: int) -> None:
        """Remember the last `batches` scheduled batches; absences do not prolong an older one's."""
        self._batches = batches
        self._kept: dict[int, dict[str, Tensor]] = {}

    def keep(self, number: int, received: Mapping[str, Tensor]) -> None:
        """Remember neighbour -> z_ji of batch `number`, and forget what is too old by now."""
        if received:
            self._kept[number] = dict(received)
        for old in [kept for kept in self._kept if kept <= number - self._batches]:
            del self._kept[old]

    def recall(self, number: int) -> Mapping[str, Tensor]:
        """Return what arrived of batch `number`; nothing where this client was not there."""
        return self._kept.get(number, {})

    def state(self) -> dict[str, Tensor]:
        """Return all that is remembered, as ``NUMBER.NEIGHBOUR``."""
        return {
            f"{number}.{neighbour}": z.detach().cpu()
            for number, received in self._kept.items()
            for neighbour, z in received.items()
        }

    def load(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Remember what `state` returned instead; cloned, because alignment decides bits."""
        self._kept = {}
        for key, z in state.items():
            number, _, neighbour = key.partition(".")
            self._kept.setdefault(int(number), {})[neighbour] = z.clone().to(device)
