"""What federation costs in time: joint training, the in-process engine and Flower.

All three train the same models on the same batches. Use:
``python -m experiments.speed [--exchanges 200] [--engines inprocess,flower] [--clients 3,30,100]``.
Every figure is taken in this process or its children, one after the other; compare ratios, not
seconds.
"""

import argparse
import json
import resource
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
from sheafalign_fl.learner.manifest import client_data
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


def joint_seconds(settings: Settings, threads: int) -> float:
    """Return the seconds per step of joint training in one process with `threads` torch threads."""
    topology, agreed = build_topology(settings), check(settings).agreement
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    data = {client: client_data(client, settings) for client in topology.clients}
    joint = JointTraining(settings, topology, agreed, data)
    begun = time.monotonic()
    for exchange in range(settings.training.exchanges):
        joint.step(exchange)
    seconds = (time.monotonic() - begun) / settings.training.exchanges
    torch.set_num_threads(before)
    return seconds


def engine_seconds(settings: Settings, engine: str) -> tuple[float, float]:
    """Return the seconds per exchange, and of the run with start, handshake and evaluation."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        chosen = settings.model_copy(update={"engine": engine})
        folder.create(chosen)
        begun = time.monotonic()
        ENGINES[engine](chosen, folder)
        whole = time.monotonic() - begun
        seconds = [row["seconds"] for row in read_rows(folder.metrics) if row["kind"] == "exchange"]
        return sum(seconds) / len(seconds), whole


def measure(clients: int, exchanges: int, engines: Sequence[str]) -> dict[str, float]:
    """Return milliseconds per step of every way to train.

    Beside them, ratios to joint training on all processors.
    """
    settings = settings_for(clients, exchanges)
    found: dict[str, float] = {"clients": clients, "exchanges": exchanges}
    joint = joint_seconds(settings, processors())
    found["joint_ms"] = 1000 * joint
    for engine in engines:
        per_exchange, whole = engine_seconds(settings, engine)
        found[f"{engine}_ms"] = 1000 * per_exchange
        found[f"{engine}_ratio"] = per_exchange / joint
        found[f"{engine}_whole_seconds"] = whole
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    """Print one JSON object for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=200)
    parser.add_argument("--engines", default="inprocess,flower")
    parser.add_argument("--clients", default="3")
    arguments = parser.parse_args()
    for clients in (int(text) for text in arguments.clients.split(",")):
        found = measure(clients, arguments.exchanges, arguments.engines.split(","))
        print(json.dumps({name: round(value, 3) for name, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
