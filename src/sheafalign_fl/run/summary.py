"""Putting together `summary.json`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sheafalign_fl.agreement import Agreement, Manifest
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.run.folder import versions
from sheafalign_fl.run.results import (
    AbsenceRow,
    ClientFacts,
    EdgeBytes,
    EdgeFacts,
    Quality,
    Summary,
)
from sheafalign_fl.topology import Topology


def summarise(
    settings: Settings,
    topology: Topology,
    manifests: Mapping[str, Manifest],
    agreement: Agreement,
    *,
    quality: Quality,
    edges: Sequence[EdgeBytes],
    absences: Sequence[AbsenceRow],
    digests: Mapping[str, str],
    seconds: float,
    resumed: int,
) -> Summary:
    """Return the summary of a completed run."""
    found = versions()
    commit = found.pop("commit")
    return Summary(
        name=settings.name,
        seed=settings.seed,
        engine=settings.engine,
        config_digest=settings.digest(),
        versions={name: version for name, version in found.items() if version is not None},
        commit=commit,
        started=(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds"),
        seconds=seconds,
        exchanges=settings.training.exchanges,
        resumed=resumed,
        clients=tuple(_client(manifests[client]) for client in topology.clients),
        edges=tuple(
            EdgeFacts(
                source=edge.source,
                target=edge.target,
                dim=edge.dim,
                shared_events={split: int(agreement.shared(edge, split).sum()) for split in SPLITS},
            )
            for edge in topology.edges
        ),
        quality=quality,
        bytes=tuple(edges),
        absences=tuple(absences),
        weights_digest=dict(digests),
    )


def _client(manifest: Manifest) -> ClientFacts:
    return ClientFacts(
        name=manifest.name,
        modality=manifest.modality,
        dim=manifest.dim,
        encoder=manifest.encoder,
        parameters=manifest.parameters,
        device=manifest.device,
        input_shape=manifest.input_shape,
        events={split: len(ids) for split, ids in manifest.events.items()},
        notes=manifest.notes,
    )
