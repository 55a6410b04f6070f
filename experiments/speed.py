"""What federation costs in time: joint training, the in-process engine and Flower.

All three train the same models on the same batches. Use:
``python -m experiments.speed [--exchanges 100] [--rounds 5] [--engines inprocess,flower]
[--clients 3,30,100]``.
Ways to train take turns, so that whatever else the machine does meets all of them; a ratio is the
median over the rounds, with the least and the largest beside it. Compare ratios, not seconds. Where
the machine is not quiet, the ratio of processor time (`cpu`) says what wall time cannot.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import processors
from sheafalign_fl.engines.launch import ENGINES
from sheafalign_fl.engines.pooled import JointTraining
from sheafalign_fl.learner.factories import new_optimiser
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.runs.folder import RunFolder, read_rows

THREE = ("camera", "lidar", "radar")


def settings_for(clients: int, exchanges: int) -> Settings:
    """Return three of the scenes' image clients, or `clients` beam ones on a small-world graph."""
    if clients == len(THREE):
        members: dict[str, dict[str, object]] = {name: {} for name in THREE}
        graph: dict[str, object] = {"topology": "complete", "dim": 64}
    else:
        members = {"beam": {"replicas": clients, "dim": 64, "missing": 0.02}}
        graph = {"topology": "small-world", "neighbours": 4, "probability": 0.1, "dim": 32}
    return parse_settings(
        {
            "name": f"speed-{clients}",
            "engine": "inprocess",
            "data": {"source": "scenes", "options": {"events": 4000, "dropout": 0.0}},
            "clients": members,
            "graph": graph,
            "training": {
                "exchanges": exchanges,
                "batch_size": 128 if clients == len(THREE) else 64,
            },
            "evaluation": {"every": 0, "metrics": ["retrieval"], "events": 500},
            "checkpoint": {"every": 0},
        },
        resolved=True,  # one step an exchange, as the joint loop takes
    )


class JointLoop:
    """Joint training as one would write it by hand: one loss, one backward pass, one step.

    Each edge is evaluated once. Nothing is checked, copied or counted, unlike in a federation and
    in `engine: pooled`, so that what those cost is in the ratio.
    """

    def __init__(self, settings: Settings) -> None:
        """Make the clients' encoders and maps, with the weights that a federation starts from."""
        topology, agreed = build_topology(settings), check(settings).agreement
        data = {client: client_data(client, settings) for client in topology.clients}
        self._joint = JointTraining(settings, topology, agreed, data)
        self.nodes = self._joint.nodes
        own = [p for node in self.nodes.values() for p in node.parameters()]
        self._optimiser = new_optimiser(list(dict.fromkeys(own)), settings.training)
        self._schedule = BatchSchedule.of(
            settings.training, len(agreed.lists["train"]), settings.seed
        )
        self._done = 0

    def step(self) -> None:
        """Take the next step."""
        loss = self._joint.objective(self._schedule.batch(self._done), self._done)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._done += 1

    def spent(self, steps: int, threads: int) -> "Spent":
        """Return what one step takes, over `steps` of them, with `threads` torch threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        self.step()  # the first with other threads makes them
        begun = Spent.now()
        for _ in range(steps):
            self.step()
        spent = begun.since(steps)
        torch.set_num_threads(before)
        return spent


@dataclass(frozen=True)
class Spent:
    """Seconds that went by, and seconds that this process's threads worked."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Spent":
        """Return both clocks."""
        return cls(time.monotonic(), time.process_time())

    def since(self, steps: int) -> "Spent":
        """Return what was spent since then on each of `steps`."""
        now = Spent.now()
        return Spent((now.wall - self.wall) / steps, (now.cpu - self.cpu) / steps)


def engine_spent(settings: Settings, engine: str) -> tuple[Spent, float]:
    """Return what an exchange takes, and the seconds of a run from its start to its summary.

    The first exchange is left out: it makes the threads. Of processor time, that of a run of two
    exchanges is taken off.
    """
    each, long = _run(settings, engine)
    short = settings.training.model_copy(update={"exchanges": 2})
    _, begun = _run(settings.model_copy(update={"training": short}), engine)
    further = settings.training.exchanges - 2
    return Spent(each, (long.cpu - begun.cpu) / further), long.wall


def _run(settings: Settings, engine: str) -> tuple[float, Spent]:
    """Return the seconds of an exchange, and what the whole run took."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        chosen = settings.model_copy(update={"engine": engine})
        folder.create(chosen)
        begun = Spent.now()
        ENGINES[engine](chosen, folder)
        whole = begun.since(1)
        seconds = [row["seconds"] for row in read_rows(folder.metrics) if row["kind"] == "exchange"]
        return statistics.fmean(seconds[1:]), whole


def measure(clients: int, exchanges: int, engines: Sequence[str], rounds: int) -> dict[str, float]:
    """Return milliseconds per step of every way to train, as medians over the rounds.

    Beside them, ratios to joint training in the same round, with whichever number of torch threads
    is the faster there.
    """
    settings = settings_for(clients, exchanges)
    loop = JointLoop(settings)
    rows: dict[str, list[float]] = {}
    for number in range(rounds):
        ways = ["joint", *engines]
        now = _round(settings, loop, ways if number % 2 == 0 else ways[::-1])
        for name, value in now.items():
            rows.setdefault(name, []).append(value)
    found: dict[str, float] = {"clients": clients, "exchanges": exchanges, "rounds": rounds}
    for name, values in rows.items():
        found[name] = statistics.median(values)
        if name.endswith("_ratio"):
            found |= {f"{name}_least": min(values), f"{name}_most": max(values)}
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def _round(settings: Settings, loop: JointLoop, ways: Sequence[str]) -> dict[str, float]:
    """Let each of `ways` train once, one after the other."""
    spent, found = {}, {}
    for way in ways:
        if way == "joint":
            tried = [loop.spent(settings.training.exchanges, count) for count in {1, processors()}]
            spent[way] = Spent(min(one.wall for one in tried), min(one.cpu for one in tried))
        else:
            spent[way], found[f"{way}_whole_seconds"] = engine_spent(settings, way)
        found[f"{way}_ms"] = 1000 * spent[way].wall
    for way in spent.keys() - {"joint"}:
        found[f"{way}_ratio"] = spent[way].wall / spent["joint"].wall
        if way == "inprocess":  # others work in processes of their own
            found[f"{way}_cpu_ratio"] = spent[way].cpu / spent["joint"].cpu
    return found


def main() -> None:
    """Print one JSON object for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=100, help="at least 3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", default="inprocess,flower")
    parser.add_argument("--clients", default="3")
    arguments = parser.parse_args()
    for clients in (int(text) for text in arguments.clients.split(",")):
        found = measure(
            clients, arguments.exchanges, arguments.engines.split(","), arguments.rounds
        )
        print(json.dumps({name: round(value, 3) for name, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
