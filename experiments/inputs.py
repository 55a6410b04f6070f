"""What the watch on a client's own inputs finds, and how soon: ``python -m experiments.inputs``.

It needs no training, so that many runs can be watched: batches are drawn as training draws them.
The table gives for each client in how many clean runs an alarm was raised, how near the sums came
to the threshold, and after how many exchanges each fault of a sensor was found.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.faults import FAULTS, Fault, Moment, federation
from sheafalign_fl.config import Settings
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.seeding import numpy_generator
from sheafalign_fl.watching.inputs import InputWatch

SENSING = tuple(fault for fault in FAULTS if fault.sensing is not None)


def batches(
    settings: Settings, client: str, fault: Fault | None = None, begun: int = 0
) -> Iterator[NDArray[np.generic]]:
    """Yield a client's inputs of every exchange; from exchange `begun` on with a `fault`."""
    data = client_data(client, settings)
    train = np.flatnonzero(data.split == SPLITS.index("train"))
    schedule = BatchSchedule.of(settings.training, len(train), settings.seed)
    moment = Moment(0, begun, [], numpy_generator(settings.seed, "fault"))
    for exchange in range(settings.training.exchanges):
        moment.exchange = exchange
        rows = train[schedule.positions(exchange)]
        if fault is None or fault.sensing is None or exchange < begun:
            yield data.x[rows]
        else:
            yield np.asarray(fault.sensing(data.x, moment), dtype=np.float32)[rows]


def alarms(given: Iterator[NDArray[np.generic]]) -> tuple[list[int], float]:
    """Return the exchanges in which there was an alarm, and how near the sums came to one."""
    watch, found, nearest = InputWatch(), [], 0.0
    for exchange, x in enumerate(given):
        if watch.look(x) is not None:
            found.append(exchange)
        nearest = max(nearest, watch.nearness)
    return found, nearest


def delays(data: str, client: str, exchanges: int, begun: int, seeds: Sequence[int]) -> str:
    """Return after how many exchanges each fault was found, as text."""
    parts = []
    for fault in SENSING:
        found = []
        for seed in seeds:
            given = batches(federation(data, exchanges, seed), client, fault, begun)
            late = [exchange - begun + 1 for exchange in alarms(given)[0] if exchange >= begun]
            found.append(str(late[0]) if late else "not")
        parts.append(f"{fault.name} {' '.join(found)}")
    return "; ".join(parts)


def main() -> None:
    """Print a line for each client."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="views", choices=["views", "multifeature", "watch"])
    parser.add_argument("--exchanges", type=int, default=300)
    parser.add_argument("--at", type=int, default=150, help="exchange at which a fault begins")
    parser.add_argument("--runs", type=int, default=100, help="clean runs")
    parser.add_argument("--faulty", type=int, default=3, help="runs with each fault")
    options = parser.parse_args()
    for client in federation(options.data, options.exchanges, 0).clients:
        clean = [
            alarms(batches(federation(options.data, options.exchanges, seed), client))
            for seed in range(options.runs)
        ]
        alarmed = sum(bool(found) for found, _ in clean)
        nearest = max((near for _, near in clean), default=0.0)
        late = delays(options.data, client, options.exchanges, options.at, range(options.faulty))
        print(
            f"{options.data}, {client}: {alarmed} of {options.runs} clean runs raised an alarm, "
            f"at most {nearest:.2f} of the threshold; found after: {late}",
            flush=True,
        )


if __name__ == "__main__":
    main()
