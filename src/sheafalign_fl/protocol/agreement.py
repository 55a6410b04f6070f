"""The handshake's content: what clients tell of themselves, and what follows from it for all of them.

The relay checks every manifest and derives from them which events are shared on which edge. `sheafalign check` runs the
same functions over the same manifests, so what it passes the relay does not refuse.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.errors import DataError, HandshakeError, ProtocolError
from sheafalign_fl.inflation import inflate
from sheafalign_fl.metrics.registry import needs_labels
from sheafalign_fl.protocol.topology import Edge, Topology
from sheafalign_fl.protocol.verbs import PROTOCOL_VERSION
from sheafalign_fl.seeding import numpy_generator
from sheafalign_fl.version import __version__

ListName = Literal["train", "validation", "test", "probe"]
MOST_BYTES = 2**27
"""Of a manifest or an agreement, uncompressed."""
_LONGEST_ID = 256
MOST_COMPARED = 16
"""In a space that all clients share, pairs that are no neighbours are measured too up to so many clients."""
LEAST_OPEN, LEAST_SEALED = 2, 10
"""The least number of held-out events that anything is measured on."""
LISTS: tuple[ListName, ...] = ("train", "validation", "test", "probe")
"""The agreed lists of events; probe is the part of train on which probes and prototypes are fitted."""


@dataclass(frozen=True)
class Manifest:
    """What a client says about itself in the handshake. It holds no data and no weights."""

    name: str
    modality: str
    dim: int
    encoder: str
    parameters: int
    device: str
    input_shape: tuple[int, ...]
    notes: tuple[str, ...]
    labels: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    version: str
    protocol: int
    digest: str
    events: Mapping[str, NDArray[Any]]
    """Split -> sorted event ids."""
    nonce: str = ""
    """What the client contributes to the keys of sealed edges; empty where edges are not sealed."""
    twins: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """event, first: training events that are equal to earlier ones, if these are to be masked."""
    span: int = 1
    """Events whose ids differ by less share samples."""
    boot: str = ""
    """Identity of the client's process, if it is a deployed one that stays."""

    def to_bytes(self) -> bytes:
        """Return the manifest as bytes for the wire."""
        facts = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("events", "twins")
        }
        lists = {
            what: {name: encode_ids(ids).hex() for name, ids in getattr(self, what).items()}
            for what in ("events", "twins")
        }
        return zlib.compress(
            json.dumps({**facts, "classes": dict(self.classes), **lists}).encode(), 1
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Return the manifest that `data` holds; raise `HandshakeError` if it holds none."""
        try:
            facts = json.loads(inflate(data, MOST_BYTES))
            for what in ("events", "twins"):
                facts[what] = {
                    name: decode_ids(bytes.fromhex(ids)) for name, ids in facts[what].items()
                }
            facts["classes"] = {name: tuple(classes) for name, classes in facts["classes"].items()}
            for name in ("input_shape", "notes", "labels"):
                facts[name] = tuple(facts[name])
            manifest = cls(**facts)
            manifest._check_form()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HandshakeError(f"a client sent no readable manifest: {error}") from None
        return manifest

    def _check_form(self) -> None:
        """Raise `TypeError` or `KeyError` if a field is not of its type or a split is missing."""
        for name in ("name", "modality", "encoder", "device", "version", "digest", "nonce", "boot"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is no text")
        for name in ("dim", "parameters", "protocol", "span"):
            if not isinstance(getattr(self, name), int):
                raise TypeError(f"{name} is no integer")
        for split in SPLITS:
            if self.events[split].ndim != 1:
                raise TypeError(f"the ids of {split} are no plain list")
        if self.twins and self.twins["event"].shape != self.twins["first"].shape:
            raise TypeError("the equal events are not in pairs")


@dataclass(frozen=True)
class ClientAgreement:
    """What one client has to know: its neighbours, the agreed events, and which of them each edge shares."""

    neighbours: Mapping[str, int]
    """Neighbour -> d_e."""
    lists: Mapping[ListName, NDArray[Any]]
    """Agreed event ids, sorted, the same for every client."""
    shared: Mapping[str, Mapping[ListName, NDArray[np.bool_]]]
    """Client -> list -> mask over the list: both have the event. Beside the neighbours, these are the clients that an
    evaluation compares this one with in a space that all share."""
    nonces: Mapping[str, str] = field(default_factory=dict)
    """Client -> what it contributes to the keys of sealed edges: this client and the clients in `shared`."""
    labels: tuple[str, ...] = ()
    """The labels that this client's own embeddings are scored by; its data has all of them."""
    edge_labels: Mapping[str, str] = field(default_factory=dict)
    """Client in `shared` -> the label, one of `labels`, that the direction towards it is scored by."""
    codes: NDArray[np.int64] | None = None
    """Of the agreed training events: those with one code are equal to some client; None: not masked."""
    span: int = 1
    """Agreed events whose ids differ by less share samples."""

    def to_bytes(self) -> bytes:
        """Return the agreement as bytes for the wire."""
        content = {
            "nonces": dict(self.nonces),
            "labels": list(self.labels),
            "edge_labels": dict(self.edge_labels),
            "codes": None if self.codes is None else self.codes.astype("<i8").tobytes().hex(),
            "span": self.span,
            "neighbours": dict(self.neighbours),
            "lists": {name: encode_ids(ids).hex() for name, ids in self.lists.items()},
            "shared": {
                neighbour: {name: np.packbits(mask).tobytes().hex() for name, mask in masks.items()}
                for neighbour, masks in self.shared.items()
            },
        }
        return zlib.compress(json.dumps(content).encode(), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ClientAgreement":
        """Return the agreement that `data` holds; raise `ProtocolError` if it holds none.

        Its form is checked here, and what it says in `acceptance`.
        """
        try:
            content = json.loads(inflate(data, MOST_BYTES))
            lists = {name: decode_ids(bytes.fromhex(ids)) for name, ids in content["lists"].items()}
            shared = {
                peer: {name: _unpack_mask(text, len(lists[name])) for name, text in masks.items()}
                for peer, masks in content["shared"].items()
            }
            neighbours, nonces = dict(content["neighbours"]), dict(content["nonces"])
            if not all(type(dim) is int for dim in neighbours.values()):
                raise TypeError("a dimension is no integer")
            labels, edge_labels = tuple(content["labels"]), dict(content["edge_labels"])
            texts = [*nonces.values(), *labels, *edge_labels, *edge_labels.values()]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("a nonce or a label is no text")
            codes, span = content["codes"], content["span"]
            if codes is not None:
                codes = np.frombuffer(bytes.fromhex(codes), dtype="<i8").astype(np.int64)
            if type(span) is not int:
                raise TypeError("the span of events is no integer")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ProtocolError(f"the relay sent no readable agreement: {error}") from None
        return cls(neighbours, lists, shared, nonces, labels, edge_labels, codes, span)


@dataclass(frozen=True)
class Agreement:
    """What follows from all manifests: the agreed lists and who has which event."""

    lists: Mapping[ListName, NDArray[Any]]
    has: Mapping[str, Mapping[ListName, NDArray[np.bool_]]]
    labels: Mapping[str, tuple[str, ...]]
    """Client -> the labels it has of those that the evaluation uses."""
    strangers: tuple[Edge, ...] = ()
    """Pairs of clients that are no neighbours, but whose embeddings lie in one space, so that they are measured too."""
    nonces: Mapping[str, str] = field(default_factory=dict)
    """Client -> what it contributes to the keys of sealed edges; empty where edges are not sealed."""
    codes: NDArray[np.int64] | None = None
    """As in `ClientAgreement`."""
    span: int = 1

    @property
    def label(self) -> str | None:
        """All labels that the evaluation uses, as text for people; None without any."""
        return ", ".join(self.all_labels()) or None

    def all_labels(self) -> tuple[str, ...]:
        """Return the labels that the evaluation uses."""
        return tuple(sorted({label for labels in self.labels.values() for label in labels}))

    def measured(self, metrics: Sequence[str]) -> tuple[str, ...]:
        """Return those of `metrics` that can be measured: without labels not those that need them."""
        return tuple(name for name in metrics if self.all_labels() or not needs_labels(name))

    def edge_label(self, source: str, target: str) -> str | None:
        """Return the label that direction source -> target is scored by: one that both ends have, else the source's."""
        own = self.labels[source]
        return next(
            (label for label in own if label in self.labels[target]), own[0] if own else None
        )

    def shared(self, edge: Edge, name: ListName) -> NDArray[np.bool_]:
        """Return the mask over list `name` of the events that both ends of `edge` have."""
        return self.has[edge.source][name] & self.has[edge.target][name]

    def for_client(self, client: str, topology: Topology) -> ClientAgreement:
        """Return what `client` has to know."""
        return ClientAgreement(
            topology.neighbours(client),
            self.lists,
            {
                edge.other(client): {name: self.shared(edge, name) for name in LISTS}
                for edge in (*topology.edges_of(client), *self.strangers)
                if client in (edge.source, edge.target)
            },
            {
                name: self.nonces[name]
                for name in (client, *self.peers(client, topology))
                if name in self.nonces
            },
            self.labels.get(client, ()),
            {
                peer: label
                for peer in self.peers(client, topology)
                if client in self.labels and (label := self.edge_label(client, peer)) is not None
            },
            self.codes,
            self.span,
        )

    def peers(self, client: str, topology: Topology) -> list[str]:
        """Return the clients that an evaluation compares `client` with, in the order of the federation."""
        pairs = (*topology.edges_of(client), *self.strangers)
        found = {pair.other(client) for pair in pairs if client in (pair.source, pair.target)}
        return [other for other in topology.clients if other in found]


def check_manifest(manifest: Manifest, settings: Settings) -> None:
    """Refuse a client whose version, protocol, configuration or stalk differs: `HandshakeError` gives the reason."""
    expected: dict[str, tuple[object, object]] = {
        "software version": (manifest.version, __version__),
        "protocol version": (manifest.protocol, PROTOCOL_VERSION),
        "configuration digest": (manifest.digest[:16], settings.digest()[:16]),
    }
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
                f"client '{manifest.name}' is refused: its {what} is {theirs}, the relay's is {ours}"
            )


def agree(manifests: Sequence[Manifest], settings: Settings, topology: Topology) -> Agreement:
    """Derive the agreed lists from all manifests.

    Raises
    ------
    HandshakeError
        A client is refused, claimed twice, or missing.
    DataError
        Ids are of two kinds, an event is in different splits for different clients, an edge shares no events or fewer
        than a batch, or labels that a metric needs are absent.
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
        agreement = replace(agreement, strangers=_strangers(agreement, settings, topology))
    labels = _resolve_labels(by_name, settings, (*topology.edges, *agreement.strangers))
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
    agreement = replace(agreement, labels=theirs, nonces=nonces)
    if settings.objective.false_negatives == "mask":
        agreement = replace(
            agreement,
            codes=_equal_codes(by_name, lists["train"]),
            span=max(manifest.span for manifest in by_name.values()),
        )
    for edge in topology.edges:
        _check_edge(edge, agreement, by_name, settings)
    return agreement


def _equal_codes(by_name: Mapping[str, Manifest], ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return a code for each of `ids`, one for all that are equal to some client, also by way of others."""
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


def compares_non_neighbours(settings: Settings) -> bool:
    """Return whether an evaluation compares clients that are no neighbours: in a space that all share.

    Of more than `MOST_COMPARED` clients only edges are measured, because the pairs grow with the
    square; and where edges are sealed, nobody but a neighbour is sent an embedding.
    """
    return (
        settings.maps.family == "identity"
        and len(settings.clients) <= MOST_COMPARED
        and not settings.security.sealed
    )


def least_scored(settings: Settings) -> int:
    """Return the least number of events that a score may be of.

    Where edges are sealed a score has to be of many events: one of few says something of each.
    """
    return LEAST_SEALED if settings.security.sealed else LEAST_OPEN


def _strangers(agreement: Agreement, settings: Settings, topology: Topology) -> tuple[Edge, ...]:
    """Return the pairs of a constant sheaf that are no edges and share enough held-out events."""
    pairs = (
        Edge(one, other, settings.clients[one].dim)
        for one, other in combinations(topology.clients, 2)
        if other not in topology.neighbours(one)
    )
    split = settings.evaluation.split
    least = least_scored(settings)
    return tuple(pair for pair in pairs if agreement.shared(pair, split).sum() >= least)


def encode_ids(ids: NDArray[Any]) -> bytes:
    """Return event ids as bytes: ``i`` and little-endian int64, or ``U`` and JSON."""
    if ids.dtype.kind == "U":
        return b"U" + json.dumps(ids.tolist()).encode()
    return b"i" + ids.astype("<i8").tobytes()


def decode_ids(data: bytes) -> NDArray[Any]:
    """Return the ids that `encode_ids` made `data` from."""
    if data[:1] == b"U":
        ids = json.loads(data[1:])
        # An array of texts takes the space of its longest for each of them.
        if not all(isinstance(item, str) and len(item) <= _LONGEST_ID for item in ids):
            raise ValueError(f"an event id that is no text of at most {_LONGEST_ID} characters")
        return np.array(ids, dtype=np.str_)
    return np.frombuffer(data[1:], dtype="<i8").astype(np.int64)


def _unpack_mask(text: str, count: int) -> NDArray[np.bool_]:
    packed = bytes.fromhex(text)
    mask = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
    if len(packed) != -(-count // 8) or mask[count:].any():
        raise ValueError(f"a mask that is not over {count} events")
    return mask[:count].astype(np.bool_)


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
            f"event ids of client '{one}' are text but those of '{other}' are integers; use one kind"
        )


def _check_splits(by_name: Mapping[str, Manifest]) -> None:
    """Refuse an event that one client trains on and another one is tested on: nothing would be held out."""
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
        f"{events_are} in different splits for different clients (first: {event}, which is in {split} for '{client}' "
        f"but in {where} for '{other}'); an event must be in the same split for all clients"
    )


def _agreed_lists(
    by_name: Mapping[str, Manifest], settings: Settings, topology: Topology
) -> dict[ListName, NDArray[Any]]:
    """Return for each split the sorted ids that both ends of at least one edge have, evaluation's lists sampled."""
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


def sampled_list(ids: NDArray[Any], name: ListName, settings: Settings) -> NDArray[Any]:
    """Return the sorted sample of the sorted `ids` that is the agreed list `name`."""
    evaluation = settings.evaluation
    most = {
        "train": len(ids),
        "validation": max(1, evaluation.events // 2),
        "test": evaluation.events,
        "probe": evaluation.train_events,
    }[name]
    if len(ids) <= most:
        return ids
    generator = numpy_generator(settings.seed, "evaluation", name)
    return np.sort(generator.choice(ids, size=most, replace=False))


def _resolve_labels(
    by_name: Mapping[str, Manifest], settings: Settings, pairs: Sequence[Edge]
) -> tuple[str, ...]:
    """Return the labels that the evaluation uses: the one asked for, else one for all clients, else one per pair."""
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
    """Refuse clients that number the classes of `label` differently: their labels could not be compared."""
    found = {name: manifest.classes.get(label) for name, manifest in by_name.items()}
    named = {name: tuple(classes) for name, classes in found.items() if classes}
    for name, classes in named.items():
        first, expected = next(iter(named.items()))
        if classes != expected:
            raise DataError(
                f"the label '{label}' has the classes {', '.join(classes)} for client '{name}' but "
                f"{', '.join(expected)} for client '{first}'; give the labels as integers"
            )


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
            f"training.batch_size is {settings.training.batch_size} but the edge {name} shares only {shared} training "
            "events; make the batch smaller"
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
            f"evaluation.events: {settings.evaluation.events} samples only {sampled} of the {held} {split} events that "
            f"the edge {name} shares, so nothing can be measured on it; make the sample larger"
        )
