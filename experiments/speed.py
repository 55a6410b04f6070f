"""What federation costs in time: joint training, the in-process engine and Flower.

All three train the same models on the same batches. Use:
``python -m experiments.speed [--exchanges 100] [--rounds 5] [--engines inprocess,flower]
[--clients 3,30,100]``.
Ways to train take turns, so that whatever else the machine does meets all of them; a ratio is the
median over the rounds, with the least and the largest beside it. Compare ratios, not seconds.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
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
        }
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

    def seconds(self, steps: int, threads: int) -> float:
        """Return the seconds per step, over `steps` of them, with `threads` torch threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        self.step()  # the first with other threads makes them
        begun = time.monotonic()
        for _ in range(steps):
            self.step()
        seconds = (time.monotonic() - begun) / steps
        torch.set_num_threads(before)
        return seconds


def engine_seconds(settings: Settings, engine: str) -> tuple[float, float]:
    """Return the seconds per exchange, and of the run with start, handshake and evaluation.

    The first exchange is left out of the former: it makes the threads.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        chosen = settings.model_copy(update={"engine": engine})
        folder.create(chosen)
        begun = time.monotonic()
        ENGINES[engine](chosen, folder)
        whole = time.monotonic() - begun
        seconds = [row["seconds"] for row in read_rows(folder.metrics) if row["kind"] == "exchange"]
        return statistics.fmean(seconds[1:]), whole


def measure(clients: int, exchanges: int, engines: Sequence[str], rounds: int) -> dict[str, float]:
    """Return milliseconds per step of every way to train, as medians over the rounds.

    Beside them, ratios to joint training in the same round, with whichever number of torch threads
    is the faster there.
    """
    settings = settings_for(clients, exchanges)
    loop, found = JointLoop(settings), {"clients": clients, "exchanges": exchanges}
    rows: dict[str, list[float]] = {}
    for number in range(rounds):
        now: dict[str, float] = {}
        for way in ["joint", *engines] if number % 2 == 0 else [*reversed(engines), "joint"]:
            if way == "joint":
                counts = sorted({1, processors()})
                now["joint_ms"] = 1000 * min(loop.seconds(exchanges, count) for count in counts)
            else:
                each, now[f"{way}_whole_seconds"] = engine_seconds(settings, way)
                now[f"{way}_ms"] = 1000 * each
        for engine in engines:
            now[f"{engine}_ratio"] = now[f"{engine}_ms"] / now["joint_ms"]
        for name, value in now.items():
            rows.setdefault(name, []).append(value)
    result: dict[str, float] = {**found, "rounds": rounds}
    for name, values in rows.items():
        result[name] = statistics.median(values)
        if name.endswith("_ratio"):
            result |= {f"{name}_least": min(values), f"{name}_most": max(values)}
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def main() -> None:
    """Print one JSON object for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=100, help="at least 2")
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
