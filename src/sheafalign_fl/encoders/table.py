"""What each built-in encoder costs on this machine: parameters and time, measured now."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

from sheafalign_fl.encoders.registry import ENCODERS, EncoderInfo
from sheafalign_fl.seeding import torch_seeded

DIM = 128
_REPEATS = 5


@dataclass(frozen=True)
class EncoderCost:
    """One encoder with `DIM` outputs, at its example's shape.

    Attributes
    ----------
    info
        The encoder.
    parameters
        How many numbers it learns.
    forward_ms, step_ms
        Milliseconds for a batch: forward alone, and forward with backward. Medians of 5, one
        thread.
    """

    info: EncoderInfo
    parameters: int
    forward_ms: float
    step_ms: float


def encoder_costs(batch: int) -> list[EncoderCost]:
    """Return the cost of every built-in encoder for batches of `batch` events."""
    with _one_thread():
        return [_cost(info, batch) for info in ENCODERS.values()]


def _cost(info: EncoderInfo, batch: int) -> EncoderCost:
    with torch_seeded(0, "encoder-costs", info.name):
        encoder = info.factory(info.example, DIM)
        x = torch.randn(batch, *info.example)

    def forward() -> None:
        with torch.no_grad():
            encoder(x)

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        encoder(x).square().mean().backward()

    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return EncoderCost(info, parameters, _milliseconds(forward), _milliseconds(step))


def _milliseconds(work: Callable[[], None]) -> float:
    """Return the median time of `work`, after it has run once to warm up."""
    work()
    times = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1000 * median(times)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
