"""From the manifests of all clients to what they agree to, and every refusal.

The relay checks every manifest and derives from them which events are shared on which edge.
`sheafalign check` runs the same functions over the same manifests, so what it passes the relay does
not refuse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.errors import DataError, HandshakeError
from sheafalign_fl.labels import Kind, told
from sheafalign_fl.metrics.registry import needs_labels
from sheafalign_fl.protocol.agreement import (
    LISTS,
    Agreement,
    ListName,
    compares_non_neighbours,
    least_scored,
    sampled_list,
)
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.topology import Edge, Topology
from sheafalign_fl.protocol.verbs import PROTOCOL_VERSION
from sheafalign_fl.version import __version__, series


def check_manifest(manifest: Manifest, settings: Settings) -> None:
    """Refuse a client whose release series, protocol, configuration or stalk is another one.

    Releases of one series work together, so that machines can be upgraded one after the other.

    Raises
    ------
    HandshakeError
        Gives the reason.
    """
    expected: dict[str, tuple[object, object]] = {
        "protocol version": (manifest.protocol, PROTOCOL_VERSION),
        "configuration digest": (manifest.digest[:16], settings.digest()[:16]),
    }
    if series(manifest.version) != series(__version__):
        expected = {"software version": (manifest.version, __version__)} | expected
    if manifest.name not in settings.clients:
        raise HandshakeError(
            f"client '{manifest.name}' is refused: the configuration names no such client"
        )
    client = settings.clients[manifest.name]
    expected["modality"] = (manifest.modality, client.modality or manifest.name)
    expected["stalk dimension"] = (manifest.dim, client.dim)
    for what, (theirs, ours) in expected.items():
        if theirs != ours:
            raise HandshakeError(
                f"client '{manifest.name}' is refused: its {what} is {theirs}, the relay's is "
                f"{ours}"
            )


def agree(manifests: Sequence[Manifest], settings: Settings, topology: Topology) -> Agreement:
    """Derive the agreed lists from all manifests.

    Raises
    ------
    HandshakeError
        A client is refused, claimed twice, or missing.
    DataError
        Ids are of two kinds, an event is in different splits for different clients, an edge shares
        no events or fewer than a batch, or labels that a metric needs are absent.
    """
    by_name: dict[str, Manifest] = {}
    for manifest in manifests:
        check_manifest(manifest, settings)
        if manifest.name in by_name:
            raise HandshakeError(
                f"client '{manifest.name}' is claimed by two nodes; the second is refused"
            )
        by_name[manifest.name] = manifest
    if absent := [client for client in topology.clients if client not in by_name]:
        raise HandshakeError(
            f"no node runs the client{'s' if len(absent) > 1 else ''} {', '.join(absent)}"
        )
    if settings.init_from is not None and not any(m.start for m in by_name.values()):
        raise HandshakeError(
            f"init_from: no client has weights of the run {Path(settings.init_from).name}"
        )
    _check_kinds(by_name)
    _check_splits(by_name)
    lists = _agreed_lists(by_name, settings, topology)
    has = {
        client: {
            name: np.isin(ids, manifest.events["train" if name == "probe" else name])
            for name, ids in lists.items()
        }
        for client, manifest in by_name.items()
    }
    agreement = Agreement(lists, has, {})
    if compares_non_neighbours(settings):
        agreement = replace(
            agreement, non_neighbours=_non_neighbours(agreement, settings, topology)
        )
    labels = _resolve_labels(by_name, settings, (*topology.edges, *agreement.non_neighbours))
    for label in labels:
        _check_classes(by_name, label)
    theirs = {
        client: tuple(label for label in labels if label in by_name[client].labels)
        for client in by_name
    }
    nonces = (
        {client: manifest.nonce for client, manifest in by_name.items()}
        if settings.security.sealed
        else {}
    )
    kinds = _check_label_kinds(by_name, labels)
    agreement = replace(agreement, labels=theirs, nonces=nonces, kinds=kinds)
    if settings.objective.false_negatives == "mask":
        agreement = replace(
            agreement,
            codes=_equal_codes(by_name, lists["train"]),
            span=max(manifest.span for manifest in by_name.values()),
        )
    for edge in topology.edges:
        _check_edge(edge, agreement, by_name, settings)
    if settings.watched_score is not None and not agreement.has_validation():
        raise DataError(
            f"the run is to be watched by {settings.watched_score} on validation events, and there "
            "are none; give the data a validation split, or leave out checkpoint.best and "
            "training.patience"
        )
    return agreement


def _equal_codes(by_name: Mapping[str, Manifest], ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return a code for each of `ids`, one for all equal to some client, also by way of others."""
    pairs = nx.Graph()
    pairs.add_nodes_from(ids.tolist())
    for manifest in by_name.values():
        if manifest.twins:
            twins = (manifest.twins[name].tolist() for name in ("event", "first"))
            pairs.add_edges_from(zip(*twins, strict=True))
    code = {
        event: number
        for number, group in enumerate(nx.connected_components(pairs))
        for event in group
    }
    return np.array([code[event] for event in ids.tolist()], dtype=np.int64)


def _non_neighbours(
    agreement: Agreement, settings: Settings, topology: Topology
) -> tuple[Edge, ...]:
    """Return the pairs of a constant sheaf that are no edges and share enough held-out events."""
    pairs = (
        Edge(one, other, settings.clients[one].dim)
        for one, other in combinations(topology.clients, 2)
        if other not in topology.neighbours(one)
    )
    split = settings.evaluation.split
    least = least_scored(settings)
    return tuple(pair for pair in pairs if agreement.shared(pair, split).sum() >= least)


def _check_kinds(by_name: Mapping[str, Manifest]) -> None:
    kinds = {
        name: "text"
        if any(ids.dtype.kind == "U" for ids in manifest.events.values() if len(ids))
        else "integers"
        for name, manifest in by_name.items()
    }
    if len(set(kinds.values())) > 1:
        one, other = (
            next(name for name, kind in kinds.items() if kind == wanted)
            for wanted in ("text", "integers")
        )
        raise DataError(
            f"event ids of client '{one}' are text but those of '{other}' are integers; use one "
            "kind"
        )


def _check_splits(by_name: Mapping[str, Manifest]) -> None:
    """Refuse an event that one client trains on and another tests on: nothing would be held out."""
    ids: dict[str, set[Any]] = {split: set() for split in SPLITS}
    for manifest in by_name.values():
        for split, events in ids.items():
            events.update(manifest.events[split].tolist())
    double = set().union(*(ids[one] & ids[other] for one, other in combinations(SPLITS, 2)))
    if not double:
        return
    event = min(double)
    places = [
        (name, split)
        for name, manifest in by_name.items()
        for split in SPLITS
        if (manifest.events[split] == event).any()
    ]
    (client, split), *others = places
    other, where = next(place for place in others if place[1] != split)
    events_are = "1 event is" if len(double) == 1 else f"{len(double)} events are"
    raise DataError(
        f"{events_are} in different splits for different clients (first: {event}, which is in "
        f"{split} for '{client}' but in {where} for '{other}'); an event must be in the same split "
        "for all clients"
    )


def _agreed_lists(
    by_name: Mapping[str, Manifest], settings: Settings, topology: Topology
) -> dict[ListName, NDArray[Any]]:
    """Return each split's sorted ids that both ends of some edge have, evaluation's sampled."""
    lists: dict[ListName, NDArray[Any]] = {}
    for split in SPLITS:
        pairs = [
            np.intersect1d(
                by_name[edge.source].events[split],
                by_name[edge.target].events[split],
                assume_unique=True,
            )
            for edge in topology.edges
        ]
        lists[split] = np.unique(np.concatenate(pairs))
    lists["probe"] = lists["train"]
    return {name: sampled_list(lists[name], name, settings) for name in LISTS}


def _resolve_labels(
    by_name: Mapping[str, Manifest], settings: Settings, pairs: Sequence[Edge]
) -> tuple[str, ...]:
    """Return the evaluation's labels: the one asked for, else one for all, else one per pair."""
    needing = [name for name in settings.evaluation.metrics if needs_labels(name)]
    known = [label for manifest in by_name.values() for label in manifest.labels]
    wanted = settings.evaluation.label
    if wanted is not None and wanted not in known:
        has = (
            f"the data has {', '.join(dict.fromkeys(known))}" if known else "the data has no labels"
        )
        raise DataError(f"evaluation.label: no client has a label '{wanted}'; {has}")
    if wanted is None and not known and len(needing) == len(settings.evaluation.metrics):
        raise DataError(
            f"evaluation.metrics: {', '.join(needing)} need labels but no client has any; "
            "set evaluation.metrics: [retrieval, consistency]"
        )
    if wanted is not None or not known:
        return (wanted,) if wanted is not None else ()
    if all(known[0] in manifest.labels for manifest in by_name.values() if manifest.labels):
        return (known[0],)
    common = [_first_common(by_name[pair.source], by_name[pair.target]) for pair in pairs]
    return tuple(dict.fromkeys(label for label in common if label is not None)) or (known[0],)


def _first_common(one: Manifest, other: Manifest) -> str | None:
    return next((label for label in one.labels if label in other.labels), None)


def _check_classes(by_name: Mapping[str, Manifest], label: str) -> None:
    """Refuse clients that number the classes of `label` differently: labels would not compare."""
    found = {name: manifest.classes.get(label) for name, manifest in by_name.items()}
    named = {name: tuple(classes) for name, classes in found.items() if classes}
    for name, classes in named.items():
        first, expected = next(iter(named.items()))
        if classes != expected:
            raise DataError(
                f"the label '{label}' has the classes {', '.join(classes)} for client '{name}' but "
                f"{', '.join(expected)} for client '{first}'; give the labels as integers"
            )


def _check_label_kinds(
    by_name: Mapping[str, Manifest], labels: Sequence[str]
) -> dict[str, tuple[Kind, int]]:
    """Return label -> what it is; refuse labels that two clients, or two labels, mean otherwise."""
    kinds: dict[str, tuple[Kind, int]] = {}
    for label in labels:
        found = {
            name: manifest.kind_of(label)
            for name, manifest in by_name.items()
            if label in manifest.labels
        }
        (first, kinds[label]), *others = found.items()
        for name, kind in others:
            if kind != kinds[label]:
                raise DataError(
                    f"the label '{label}' is {told(*kinds[label])} for client '{first}' but "
                    f"{told(*kind)} for client '{name}'"
                )
    if len({kind for kind, _ in kinds.values()}) > 1:
        each = ", ".join(f"'{label}' is {told(*kind)}" for label, kind in kinds.items())
        raise DataError(
            f"labels of several kinds have no mean ({each}); set evaluation.label to one of them"
        )
    return kinds


def _why_none(edge: Edge, by_name: Mapping[str, Manifest], split: str) -> str:
    """Return what the clients themselves say of having no events of a split."""
    reasons = [
        f"{client}: {note}"
        for client in (edge.source, edge.target)
        for note in by_name[client].notes
        if note.startswith(f"no {split} events")
    ]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _check_edge(
    edge: Edge, agreement: Agreement, by_name: Mapping[str, Manifest], settings: Settings
) -> None:
    name = f"{edge.source}-{edge.target}"
    shared = int(agreement.shared(edge, "train").sum())
    if shared == 0:
        raise DataError(
            f"the edge {name} has no shared training events: no event id occurs at both ends"
        )
    if shared < settings.training.batch_size:
        raise DataError(
            f"training.batch_size is {settings.training.batch_size} but the edge {name} shares "
            f"only {shared} training events; make the batch smaller"
        )
    split, least = settings.evaluation.split, least_scored(settings)
    if (sampled := int(agreement.shared(edge, split).sum())) < least:
        held = len(
            np.intersect1d(by_name[edge.source].events[split], by_name[edge.target].events[split])
        )
        if held < least:
            raise DataError(
                f"the edge {name} shares fewer than {least} {split} events, so nothing can be "
                f"measured on it{_why_none(edge, by_name, split)}"
            )
        raise DataError(
            f"evaluation.events: {settings.evaluation.events} samples only {sampled} of the {held} "
            f"{split} events that the edge {name} shares, so nothing can be measured on it; make "
            "the sample larger"
        )
