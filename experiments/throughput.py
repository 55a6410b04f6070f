"""`python -m experiments.throughput`: how many events a second each encoder embeds, here and now.

One thread, the example's shape, 128 outputs, events one by one and 64 together, by processor time:
the best of some repetitions, because whatever else a machine does only takes time away. Its load is
printed beside.
"""

import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.console import Console

from sheafalign_fl.encoders.registry import ENCODERS, EncoderInfo
from sheafalign_fl.learner.embedder import embedded
from sheafalign_fl.report.content import Table
from sheafalign_fl.report.tables import rich_table
from sheafalign_fl.seeding import torch_seeded
from sheafalign_fl.threads import torch_threads

DIM = 128
BATCHES = (1, 64)
_REPETITIONS = 5
_SECONDS = 0.1


def main() -> None:
    """Print the table."""
    with torch_threads(1):
        rows = tuple(row(info) for info in ENCODERS.values())
    columns = ("encoder", "example", *(f"events / s, {batch} together" for batch in BATCHES))
    Console(width=100).print(rich_table(Table("Throughput", columns, rows, text_columns=2)))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} processors; load of the last 1, 5 and 15 minutes: {load}")


def row(info: EncoderInfo) -> tuple[str, ...]:
    """Return one encoder's row."""
    with torch_seeded(0, "throughput", info.name):
        encoder = info.factory(info.example, DIM).eval()
        x = torch.randn(max(BATCHES), *info.example)

    def embed(batch: int) -> None:
        embedded(encoder, lambda rows: x[rows], batch, DIM)

    rates = [rate(partial(embed, batch)) * batch for batch in BATCHES]
    return info.name, " × ".join(map(str, info.example)), *(f"{np.round(r):,.0f}" for r in rates)


def rate(work: Callable[[], None]) -> float:
    """Return how often in a second of processor time `work` can be done, at best."""
    work()  # to warm up
    best = 0.0
    for _ in range(_REPETITIONS):
        count, begun = 0, time.process_time()
        while (seconds := time.process_time() - begun) < _SECONDS or not count:
            work()
            count += 1
        best = max(best, count / seconds)
    return best


if __name__ == "__main__":
    main()
