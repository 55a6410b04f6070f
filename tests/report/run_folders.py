"""Run folders as a run leaves them, filled with plausible made-up numbers."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.metrics.consistency import Consistency
from sheafalign_fl.metrics.missing import Missing
from sheafalign_fl.metrics.probe import Probe
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.retrieval import Retrieval
from sheafalign_fl.metrics.transfer import Transfer
from sheafalign_fl.protocol.rows import AbsenceRow, EvaluationRow, ExchangeRow, Loss
from sheafalign_fl.protocol.topology import Topology, build_topology
from sheafalign_fl.runs.folder import MetricsLog, RunFolder
from sheafalign_fl.runs.ledger import Ledger, LedgerRow
from sheafalign_fl.runs.summary import ClientFacts, EdgeFacts, Summary

CLIENTS = ("camera", "lidar", "radar")
_SPLITS = {"train": 2000, "validation": 300, "test": 600}


def settings(
    clients: Sequence[str] = CLIENTS, *, name: str = "roadside", seed: int = 0, **sections: object
) -> Settings:
    content = {
        "name": name,
        "seed": seed,
        "clients": {client: {"dim": 64 + 32 * (index % 3)} for index, client in enumerate(clients)},
        "graph": {"topology": "complete", "dim": 32},
        "training": {"exchanges": 40, "batch_size": 64},
        **sections,
    }
    return parse_settings(content)


def quality(
    topology: Topology, split: str, progress: float, generator: np.random.Generator
) -> Quality:
    """Return measurements as they look after a fraction `progress` of the training."""
    directions = [
        pair
        for edge in topology.edges
        for pair in itertools.permutations((edge.source, edge.target))
    ]

    def score(low: float, high: float) -> float:
        return float(np.clip(low + (high - low) * progress + generator.normal(0, 0.03), 0, 1))

    count = len(topology.clients)
    final = split == "test"
    return Quality(
        split="test" if final else "validation",
        label="blockage",
        retrieval=tuple(
            Retrieval(
                source=source,
                target=target,
                events=_SPLITS[split],
                recall_at_1=score(0.0, 0.5),
                recall_at_5=score(0.02, 0.7),
                recall_at_10=score(0.03, 0.85),
                median_rank=float(generator.integers(1, 9)),
                mean_average_precision=score(0.4, 0.7),
            )
            for source, target in directions
        ),
        transfer=tuple(
            Transfer(
                source=source,
                target=target,
                events=_SPLITS[split],
                prototype_accuracy=score(0.5, 0.7),
                probe_accuracy=score(0.5, 0.75),
                majority=0.55,
            )
            for source, target in directions
            if final
        ),
        probe=tuple(
            Probe(client=client, events=_SPLITS[split], accuracy=score(0.7, 0.8), majority=0.55)
            for client in topology.clients
            if final
        ),
        missing=tuple(
            Missing(
                missing=missing,
                subsets=min(64, 1 + missing * 3),
                events=_SPLITS[split],
                imputed=0.9 - 0.2 * missing / count,
                mean_fill=0.9 - 0.3 * missing / count,
                zero_fill=0.9 - 0.4 * missing / count,
                worst_imputed=0.85 - 0.3 * missing / count,
            )
            for missing in range(count)
            if final
        ),
        consistency=tuple(
            Consistency(
                source=edge.source, target=edge.target, events=_SPLITS[split], value=score(0.9, 0.2)
            )
            for edge in topology.edges
        ),
    )


def picture() -> bytes:
    figure, buffer = Figure(figsize=(2, 1.2)), io.BytesIO()
    figure.subplots().imshow(np.random.default_rng(0).random((8, 12)))
    figure.savefig(buffer, format="png", dpi=60)
    return buffer.getvalue()


def write_run(
    path: Path,
    chosen: Settings | None = None,
    *,
    done: int | None = None,
    absences: Sequence[AbsenceRow] = (),
    notes: Sequence[str] = ("the sensor missed 63 of 3000 events",),
    extras: bool = True,
    lift: float = 1.0,
) -> RunFolder:
    """Write a run folder; with `done` exchanges only, it is interrupted and has no summary.

    Parameters
    ----------
    extras
        Whether there are pictures and a projection.
    lift
        Scales the quality that the run reaches.
    """
    chosen = chosen or settings()
    topology = build_topology(chosen)
    generator = np.random.default_rng(chosen.seed)
    folder = RunFolder(path)
    folder.create(chosen)
    total = chosen.training.exchanges
    ledger = _write_rows(
        folder, chosen, topology, generator, total if done is None else done, absences, lift
    )
    if done is not None:
        folder.set_status("interrupted", "stopped by the user")
        return folder
    folder.save_summary(
        _summary(
            chosen, topology, ledger, absences, notes, quality(topology, "test", lift, generator)
        )
    )
    folder.set_status("completed")
    if extras:
        (path / "samples").mkdir()
        for client in topology.clients[:12]:
            (path / "samples" / f"{client}.png").write_bytes(picture())
        _write_projection(path / "projection.npz", topology, generator)
    return folder


def _write_rows(
    folder: RunFolder,
    chosen: Settings,
    topology: Topology,
    generator: np.random.Generator,
    done: int,
    absences: Sequence[AbsenceRow],
    lift: float,
) -> Ledger:
    ledger, metrics = Ledger(folder.ledger), MetricsLog(folder.metrics)
    events = chosen.training.batch_size
    ledger.record(
        LedgerRow(0, "relay", client, "setup", "", 0, 0, 0, 0, 900) for client in topology.clients
    )
    for exchange in range(done):
        decay = 0.1 + np.exp(-exchange / 12) * (1 + 0.05 * generator.normal())
        losses = []
        for edge in topology.edges:
            for source, target in itertools.permutations((edge.source, edge.target)):
                payload = 4 * events * edge.dim
                row = LedgerRow(
                    exchange,
                    source,
                    target,
                    "train",
                    chosen.codec,
                    events,
                    edge.dim,
                    payload,
                    payload + 150,
                    2 * payload + 400,
                )
                ledger.record([row])
                losses.append(
                    Loss(
                        source=source,
                        target=target,
                        events=events,
                        terms={
                            "laplacian": 2 * decay,
                            "contrastive": 4 * decay,
                            "reconstruction": decay,
                            "cross_reconstruction": 0.0,
                            "total": 6.1 * decay,
                        },
                    )
                )
        totals = ledger.totals("train")
        metrics.write(
            ExchangeRow(
                exchange=exchange,
                losses=tuple(losses),
                absent=tuple(
                    row.client
                    for row in absences
                    if row.exchange == exchange and row.event != "returned"
                ),
                payload_bytes=totals.payload_bytes,
                message_bytes=totals.message_bytes,
                relay_bytes=totals.relay_bytes,
                seconds=0.02,
            )
        )
        for absence in absences:
            if absence.exchange == exchange:
                metrics.write(absence)
        if (exchange + 1) % 10 == 0:
            measured = quality(
                topology, "validation", lift * (exchange + 1) / chosen.training.exchanges, generator
            )
            metrics.write(
                EvaluationRow(
                    exchange=exchange + 1, payload_bytes=totals.payload_bytes, quality=measured
                )
            )
    ledger.close()
    metrics.close()
    return ledger


def _summary(
    chosen: Settings,
    topology: Topology,
    ledger: Ledger,
    absences: Sequence[AbsenceRow],
    notes: Sequence[str],
    measured: Quality,
) -> Summary:
    return Summary(
        name=chosen.name,
        seed=chosen.seed,
        engine=chosen.engine,
        config_digest=chosen.digest(),
        versions={"sheafalign-fl": "0.1.0", "flwr": "1.41.0"},
        commit="0123456789abcdef0123456789abcdef01234567+",
        started="2025-11-03T10:00:00+00:00",
        seconds=83.4,
        exchanges=chosen.training.exchanges,
        resumed=1,
        clients=tuple(
            ClientFacts(
                name=name,
                modality=client.modality or name,
                dim=client.dim,
                encoder="ImageEncoder",
                parameters=122_240,
                device="cpu",
                input_shape=(3, 24, 48),
                events=_SPLITS,
                notes=tuple(notes) if index == 0 else (),
            )
            for index, (name, client) in enumerate(chosen.clients.items())
        ),
        edges=tuple(
            EdgeFacts(source=edge.source, target=edge.target, dim=edge.dim, shared_events=_SPLITS)
            for edge in topology.edges
        ),
        quality=measured,
        bytes=ledger.edges(),
        absences=tuple(absences),
        weights_digest={name: f"{index:064x}" for index, name in enumerate(topology.clients)},
    )


def _write_projection(path: Path, topology: Topology, generator: np.random.Generator) -> None:
    edge = topology.edges[0]
    labels = generator.integers(-1, 2, 150)
    z = generator.normal(size=(150, edge.dim)) + 2 * labels[:, None]
    np.savez(
        path,
        z_i=z,
        z_j=z + generator.normal(0, 0.4, z.shape),
        labels=labels,
        source=np.array(edge.source),
        target=np.array(edge.target),
        classes=np.array(["clear", "blocked"]),
    )
