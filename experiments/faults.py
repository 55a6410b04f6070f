"""What a bad neighbour does, and how soon it is found: ``python -m experiments.faults``.

Every fault is injected into one client (or one edge) of a small federation at a chosen exchange, in
one process. The table gives for each fault: after how many exchanges it was found and by what,
whether the right client or edge was named, and the retrieval of the edges that the fault does not
touch, with and without the checks, beside a run without a fault. ``--clean N`` counts false alarms
over N runs without a fault instead.
"""

import argparse
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sheafalign_fl import metrics
from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.engines.check import check
from sheafalign_fl.learner.gate import Gate
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.node import Node
from sheafalign_fl.protocol.topology import Topology, build_topology
from sheafalign_fl.seeding import numpy_generator
from sheafalign_fl.watching.location import Sign, Suspect, locate

Values = NDArray[np.floating]
Sent = dict[tuple[str, str], Values]
"""(sender, receiver) -> comparison embeddings of one exchange."""
STALE = 20
"""Exchanges by which old embeddings are old."""


def views(modality: str, seed: int, *, events: int = 600, size: int = 12) -> ModalityData:
    """Return one view of a latent that all clients see; all have one form, to be swapped.

    Raises
    ------
    ValueError
        `modality` is not ``v`` and a number.
    """
    latent = numpy_generator(seed, "views").normal(size=(events, 6))
    own = numpy_generator(seed, "views", modality)
    int(modality.removeprefix("v"))
    x = np.tanh(latent @ own.normal(size=(6, size))) + 0.1 * own.normal(size=(events, size))
    split = np.repeat(np.array([0, 2], dtype=np.uint8), [events - events // 4, events // 4])
    return ModalityData(x.astype(np.float32), np.arange(events, dtype=np.int64), split)


def federation(data: str, exchanges: int, seed: int, *, plain: bool = True) -> Settings:
    """Return the settings of a small federation on ``views``, ``multifeature`` or ``watch``.

    `plain` is the objective and the rate that the documented figures are of; else what method
    ``sheafalign`` prescribes.
    """
    clients = {
        "views": ["v0", "v1", "v2", "v3"],
        "multifeature": ["fourier", "profile", "karhunen", "pixels"],
        "watch": ["accelerometer", "gyroscope", "spectrum"],
    }[data]
    dim = 8 if data == "views" else 32
    return parse_settings(
        {
            "name": f"faults-{data}",
            "seed": seed,
            "engine": "inprocess",
            "data": {"source": "experiments.faults:views" if data == "views" else data},
            "clients": {client: {"dim": 2 * dim} for client in clients},
            "graph": {"dim": dim},
            "training": {"exchanges": exchanges, "batch_size": 64},
            "evaluation": {"every": 0, "metrics": ["retrieval"]},
        },
        resolved=plain,
    )


# ---- faults --------------------------------------------------------------------------------------


@dataclass
class Moment:
    """What a fault knows when it strikes."""

    exchange: int
    begun: int
    past: list[Sent]
    """What was honestly embedded, exchange by exchange."""
    rng: np.random.Generator


Sending = Callable[[Values, tuple[str, str], Moment], Values]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with a client, or with what it sends to one neighbour."""

    name: str
    sending: Sending | None = None
    """What becomes of the embeddings on their way."""
    sensing: Callable[[Values, Moment], Values] | None = None
    """What becomes of the client's inputs, in the order of their events."""
    one_edge: bool = False
    swap: bool = False
    """The inputs are another client's."""


def _random(z: Values, key: tuple[str, str], now: Moment) -> Values:
    size = np.sqrt(np.mean(np.square(z)))
    return np.asarray(size * now.rng.normal(size=z.shape), dtype=z.dtype)


def _old(z: Values, key: tuple[str, str], now: Moment) -> Values:
    return now.past[now.exchange - STALE][key]


def _gain(factor: float) -> Sending:
    return lambda z, key, now: (z * np.float32(factor)).astype(z.dtype)


def _age(x: Values, now: Moment) -> Values:
    """Return inputs with noise that grows by 1 % of their scatter an exchange."""
    scale = np.float32(0.01 * (now.exchange - now.begun)) * x.std()
    return np.asarray(x + scale * now.rng.normal(size=x.shape))


def _drift(x: Values, now: Moment) -> Values:
    """Return inputs with an offset that grows by 1 % of their scatter an exchange."""
    way = numpy_generator(0, "drift").normal(size=x.shape[1:])
    return np.asarray(x + np.float32(0.01 * (now.exchange - now.begun)) * x.std() * way)


SENDING: Mapping[str, Sending] = {
    "not a number": lambda z, key, now: np.full_like(z, np.nan),
    "3e38": lambda z, key, now: np.full_like(z, 3e38),
    "1e18": lambda z, key, now: np.full_like(z, 1e18),
    "times 1e6": _gain(1e6),
    "times 3": _gain(3),
    "constant": lambda z, key, now: np.broadcast_to(z[0], z.shape).copy(),
    "repeated": lambda z, key, now: now.past[now.begun - 1][key],
    "old": _old,
    "random": _random,
    "negated": _gain(-1),
}
FAULTS: tuple[Fault, ...] = (
    *(Fault(name, sending) for name, sending in SENDING.items()),
    *(Fault(f"{name}, one edge", SENDING[name], one_edge=True) for name in ("1e18", "random")),
    Fault("shifted clock", sensing=lambda x, now: np.roll(x, 3, axis=0)),
    Fault("stuck sensor", sensing=lambda x, now: np.broadcast_to(x[0], x.shape).copy()),
    Fault("drifting sensor", sensing=_drift),
    Fault("sensor that grows noisy", sensing=_age),
    Fault("two sensors swapped", swap=True),
)


# ---- a run ---------------------------------------------------------------------------------------


class OpenGate(Gate):
    """A gate that lets everything in and sees nothing: how it was without the checks."""

    def admits(self, neighbour: str, values: Values, events: NDArray[np.integer]) -> bool:
        """Let everything in."""
        return True

    def look(self, *_: object) -> set[str]:
        """See nothing."""
        return set()

    def sense(self, *_: object) -> None:
        """See nothing."""


@dataclass
class Result:
    """What came of one run."""

    suspects: tuple[Suspect, ...]
    signs: list[Sign]
    nearest: float
    """How near any watch came to an alarm, which is at 1."""
    quality: float
    """Recall at 1 on held-out events, mean over the edges that the fault does not touch; NaN if the
    run ended."""


def run(
    settings: Settings,
    fault: Fault | None = None,
    begun: int = 0,
    *,
    checked: bool = True,
    frozen: bool = False,
) -> Result:
    """Run a federation in which `fault` strikes its first client (swap: also its second).

    Parameters
    ----------
    begun
        Exchange from which on.
    frozen
        Train no more once the fault has begun: what a watch sees where a model is in use.
    """
    topology, agreement = build_topology(settings), check(settings).agreement
    nodes = {
        client: Node(
            client, settings, client_data(client, settings), agreement.for_client(client, topology)
        )
        for client in topology.clients
    }
    bad, other = topology.clients[:2]
    clean = {client: node._data for client, node in nodes.items()}
    moment = Moment(0, begun, [], numpy_generator(settings.seed, "fault"))
    signs: list[Sign] = []
    nearest = 0.0
    for exchange in range(settings.training.exchanges):
        moment.exchange = exchange
        struck = fault is not None and exchange >= begun
        if fault is not None and struck:
            _disturb_sensors(fault, nodes, clean, bad, other, moment)
        sent = {(i, j): z for i, node in nodes.items() for j, z in node.embed(exchange).items()}
        moment.past.append(sent)
        got = _on_its_way(fault, sent, bad, other, moment) if fault and struck else sent
        for client, node in nodes.items():
            if not checked:
                node.gate = OpenGate(client, topology.neighbours(client))
            inbound = {i: z for (i, j), z in got.items() if j == client}
            if frozen and exchange >= begun:
                _watch_alone(node, exchange, {j: sent[client, j] for j in inbound}, inbound)
            else:
                node.step(exchange, inbound)
            nearest = max(nearest, node.gate.nearness)
            signs += [
                Sign(v.sender, client, v.check, exchange, v.since) for v in node.gate.verdicts
            ]
    edges = [(edge.source, edge.target) for edge in topology.edges]
    touched = {bad, other} if fault is not None and (fault.swap or fault.one_edge) else {bad}
    return Result(locate(signs, edges), signs, nearest, _quality(nodes, topology, touched))


def _watch_alone(
    node: Node, exchange: int, sent: Mapping[str, Values], got: Mapping[str, Values]
) -> None:
    """Show the gate one exchange without a step."""
    node.gate.open(exchange)
    node.gate.sense(node.sensed(exchange))
    masks, positions = node.shared_rows(exchange), node.schedule.positions(exchange)
    shown = {n: z for n, z in got.items() if node.gate.admits(n, z, positions[masks[n]])}
    node.gate.look(
        {n: torch.from_numpy(z) for n, z in sent.items()},
        {n: torch.from_numpy(np.ascontiguousarray(z)) for n, z in shown.items()},
    )


def _on_its_way(fault: Fault, sent: Sent, bad: str, other: str, moment: Moment) -> Sent:
    """Return what arrives of what was sent."""
    got = dict(sent)
    for key, z in sent.items():
        hit = key[0] == bad and (key[1] == other or not fault.one_edge)
        if fault.sending is not None and hit:
            got[key] = fault.sending(z, key, moment)
    return got


def _disturb_sensors(
    fault: Fault,
    nodes: Mapping[str, Node],
    clean: Mapping[str, ModalityData],
    bad: str,
    other: str,
    moment: Moment,
) -> None:
    if fault.swap:
        for client, source in ((bad, other), (other, bad)):
            nodes[client]._data = dataclasses.replace(clean[client], x=clean[source].x)
    if fault.sensing is not None:
        x = np.ascontiguousarray(fault.sensing(clean[bad].x, moment), dtype=np.float32)
        nodes[bad]._data = dataclasses.replace(clean[bad], x=x)


def _quality(nodes: Mapping[str, Node], topology: Topology, touched: set[str]) -> float:
    recalls = []
    for edge in topology.edges:
        if {edge.source, edge.target} & touched:
            continue
        z = {}
        for one, far in ((edge.source, edge.target), (edge.target, edge.source)):
            h, _ = nodes[one].embeddings("test")
            z[one] = nodes[one].restrict(far, h)
        for one, far in ((edge.source, edge.target), (edge.target, edge.source)):
            recalls.append(metrics.retrieval(one, far, z[one], z[far], None).recall_at_1)
    return float(np.mean(recalls))


def right(fault: Fault, settings: Settings, suspects: tuple[Suspect, ...]) -> bool:
    """Return whether exactly the clients, or the edge, were named."""
    bad, other = build_topology(settings).clients[:2]
    named = {suspect.clients for suspect in suspects}
    if fault.swap:
        return named == {(bad,), (other,)}
    return named == {(bad, other) if fault.one_edge else (bad,)}


# ---- the tables ----------------------------------------------------------------------------------


def main() -> None:
    """Print the table of faults, or count false alarms."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="views", choices=["views", "multifeature", "watch"])
    parser.add_argument("--exchanges", type=int, default=300)
    parser.add_argument("--at", type=int, default=150, help="exchange at which a fault begins")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frozen", action="store_true", help="train no more from then on")
    parser.add_argument("--only", default="", help="faults whose names hold this")
    parser.add_argument(
        "--clean", type=int, default=0, help="runs without a fault to count in, from --seed on"
    )
    parser.add_argument(
        "--default", action="store_true", help="train as method sheafalign does, not plainly"
    )
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # every verdict would be logged
    if options.clean:
        settings = [
            federation(options.data, options.exchanges, seed, plain=not options.default)
            for seed in range(options.seed, options.seed + options.clean)
        ]
        count_false_alarms(settings)
    else:
        made = federation(options.data, options.exchanges, options.seed, plain=not options.default)
        faults = [fault for fault in FAULTS if options.only in fault.name]
        show_faults(made, options.at, faults, frozen=options.frozen)


def show_faults(settings: Settings, at: int, faults: Sequence[Fault], *, frozen: bool) -> None:
    """Print the table of faults."""
    row = "{:24} {:>11} {:38} {:7} {:>7} {:>9}"
    print(row.format("fault", "found after", "by", "named", "checked", "unchecked"))
    good = run(settings)
    named = "nobody" if not good.suspects else "wrong"
    print(row.format("none", "", "", named, f"{good.quality:.3f}", ""), flush=True)
    for fault in faults:
        if fault.swap and not settings.name.endswith("views"):
            continue
        checked = run(settings, fault, at, frozen=frozen)
        unchecked = run(settings, fault, at, checked=False, frozen=frozen)
        first = min((sign.exchange - at + 1 for sign in checked.signs), default=None)
        by = [sign.check for sign in checked.signs if sign.exchange - at + 1 <= (first or 0) + 20]
        cells = (
            fault.name,
            "not found" if first is None else str(first),
            ", ".join(sorted(set(by))),
            "right" if right(fault, settings, checked.suspects) else "wrong",
            f"{checked.quality:.3f}",
            f"{unchecked.quality:.3f}",
        )
        print(row.format(*cells), flush=True)
        if cells[3] == "wrong":
            for suspect in checked.suspects:
                print("    named:", ", ".join(suspect.clients), "since", suspect.since)


def count_false_alarms(runs: Sequence[Settings]) -> None:
    """Print how many of `runs`, which have no fault, raised an alarm."""
    alarmed: list[Any] = []
    nearest: list[float] = []
    for done, settings in enumerate(runs, 1):
        result = run(settings)
        nearest.append(result.nearest)
        if result.signs:
            alarmed.append((settings.seed, result.signs[0]))
        if done % 5 == 0 or done == len(runs):
            print(
                f"{settings.name}: {len(alarmed)} of {done} runs of "
                f"{settings.training.exchanges} exchanges raised an alarm; the sums came to at "
                f"most {max(nearest):.2f} of the threshold "
                f"(median of the runs {np.median(nearest):.2f})",
                *alarmed,
                flush=True,
            )


if __name__ == "__main__":
    main()
