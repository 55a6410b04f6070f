"""The result of a completed run, `summary.json`, and how it is put together.

`docs/summary.schema.json` is the JSON Schema of `Summary`; a test keeps it equal to this file.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.errors import DataError
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.rows import AbsenceRow, EdgeBytes
from sheafalign_fl.protocol.topology import Topology
from sheafalign_fl.protocol.verdict import WatchRow
from sheafalign_fl.row import Row
from sheafalign_fl.runs.departures import Departure, find_departures
from sheafalign_fl.runs.faults import FaultFacts, find_faults
from sheafalign_fl.runs.versions import versions
from sheafalign_fl.version import __version__

SCHEMA_VERSION: Literal[1] = 1


class ClientFacts(Row):
    """What a client told about itself in the handshake."""

    name: str
    modality: str
    dim: int
    encoder: str
    parameters: int
    device: str
    input_shape: tuple[int, ...]
    events: dict[str, int]
    """Split -> number of events."""
    notes: tuple[str, ...]


class EdgeFacts(Row):
    """One edge of the graph."""

    source: str
    target: str
    dim: int
    shared_events: dict[str, int]
    """Split -> number of events that both ends have."""


class Summary(Row):
    """`summary.json`: the result of a completed run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    seed: int
    engine: str
    config_digest: str
    versions: dict[str, str]
    commit: str | None
    """Git commit of the software, "+" added if the tree had changes; null outside a repository."""
    started: str
    """ISO 8601, UTC."""
    seconds: float
    """Wall time of all sessions of the run together."""
    exchanges: int
    resumed: int
    """How many times the run was resumed."""
    clients: tuple[ClientFacts, ...]
    edges: tuple[EdgeFacts, ...]
    quality: Quality
    bytes: tuple[EdgeBytes, ...]
    absences: tuple[AbsenceRow, ...]
    faults: tuple[FaultFacts, ...] = ()
    """Which sensors or edges were at fault, as far as the clients' watches can tell."""
    departures: tuple[Departure, ...] = ()
    """Clients that the run ended without."""
    weights_digest: dict[str, str]
    """Client -> SHA-256 of its final weights: equal runs have equal digests."""


def read_summary(path: Path) -> Summary:
    """Return the summary in the file `path`.

    Raises
    ------
    DataError
        It cannot be read, is damaged, or a newer version of the software wrote it.
    """
    try:
        content = path.read_bytes()
        return Summary.model_validate_json(content)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        newer = _newer(content)
        problem = newer or f"damaged ({first_problem(error)})"
        raise DataError(f"{path}: {problem}") from None


def _newer(content: bytes) -> str | None:
    """Return why a summary that this version cannot read is of a newer one, else None."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    version = found.get("schema_version") if isinstance(found, dict) else None
    if not isinstance(version, int) or version <= SCHEMA_VERSION:
        return None
    return (
        f"its schema version is {version}, and this version of sheafalign-fl ({__version__}) "
        f"reads up to {SCHEMA_VERSION}; read it with the version that wrote it (versions.json)"
    )


def first_problem(error: ValidationError) -> str:
    """Return the first of the problems that were found, in one line."""
    detail = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, detail["loc"]))
    return " ".join(f"{where}: {detail['msg']}".lstrip(": ").split())


def summarise(
    settings: Settings,
    topology: Topology,
    manifests: Mapping[str, Manifest],
    agreement: Agreement,
    *,
    quality: Quality,
    edges: Sequence[EdgeBytes],
    absences: Sequence[AbsenceRow],
    watched: Sequence[WatchRow],
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
        faults=find_faults(watched, [(edge.source, edge.target) for edge in topology.edges]),
        departures=find_departures(tuple(settings.clients), digests.keys(), absences),
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
