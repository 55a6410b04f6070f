"""What all clients have agreed to: lists of events, who shares which, what one client is told."""

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.inflation import inflate
from sheafalign_fl.labels import Kind, told
from sheafalign_fl.metrics.registry import label_kinds, needs_labels
from sheafalign_fl.protocol.ids import counted, decode_lists, encode_ids, unpack_mask
from sheafalign_fl.protocol.topology import Edge, Topology
from sheafalign_fl.seeding import numpy_generator

ListName = Literal["train", "validation", "test", "probe"]
MOST_BYTES = 2**26
"""Of an agreement, uncompressed: two million events with integer ids, and their masks."""
MOST_COMPARED = 16
"""In a space that all clients share, pairs that are no neighbours are measured too, up to so many
clients."""
LEAST_OPEN, LEAST_SEALED = 2, 10
"""The least number of held-out events that anything is measured on."""
LISTS: tuple[ListName, ...] = ("train", "validation", "test", "probe")
"""The agreed lists of events; probe is the part of train on which probes and prototypes are
fitted."""


@dataclass(frozen=True)
class ClientAgreement:
    """What one client has to know: its neighbours, the agreed events, which of them edges share."""

    neighbours: Mapping[str, int]
    """Neighbour -> d_e."""
    lists: Mapping[ListName, NDArray[Any]]
    """Agreed event ids, sorted, the same for every client."""
    shared: Mapping[str, Mapping[ListName, NDArray[np.bool_]]]
    """Client -> list -> mask over the list: both have the event. Beside the neighbours, these are
    the clients that an evaluation compares this one with in a space that all share."""
    nonces: Mapping[str, str] = field(default_factory=dict)
    """Client -> what it contributes to the keys of sealed edges: this client and the clients in
    `shared`."""
    labels: tuple[str, ...] = ()
    """The labels that this client's own embeddings are scored by; its data has all of them."""
    edge_labels: Mapping[str, str] = field(default_factory=dict)
    """Client in `shared` -> the label, one of `labels`, that the direction towards it is scored
    by."""
    codes: NDArray[np.int64] | None = None
    """Of the agreed training events: those with one code are equal to some client; None: not
    masked."""
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
            content = json.loads(counted(inflate(data, MOST_BYTES)))
            lists = decode_lists(content["lists"])
            shared = {
                peer: {name: unpack_mask(text, len(lists[name])) for name, text in masks.items()}
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
    non_neighbours: tuple[Edge, ...] = ()
    """Pairs of clients that are no neighbours, but whose embeddings lie in one space, so that they
    are measured too."""
    nonces: Mapping[str, str] = field(default_factory=dict)
    """Client -> what it contributes to the keys of sealed edges; empty where edges are not
    sealed."""
    codes: NDArray[np.int64] | None = None
    """As in `ClientAgreement`."""
    span: int = 1
    kinds: Mapping[str, tuple[Kind, int]] = field(default_factory=dict)
    """Label -> what it is and how many an event has, where it is not one class."""

    @property
    def label(self) -> str | None:
        """All labels that the evaluation uses, as text for people; None without any."""
        return ", ".join(self.all_labels()) or None

    def all_labels(self) -> tuple[str, ...]:
        """Return the labels that the evaluation uses."""
        return tuple(sorted({label for labels in self.labels.values() for label in labels}))

    def kind_of(self, label: str) -> tuple[Kind, int]:
        """Return what a label is, and how many of it an event has."""
        return self.kinds.get(label, ("classes", 1))

    def labels_for(self, kinds: Collection[Kind]) -> tuple[str, ...]:
        """Return the labels of these kinds that the evaluation uses."""
        return tuple(label for label in self.all_labels() if self.kind_of(label)[0] in kinds)

    def measured(self, metrics: Sequence[str]) -> tuple[str, ...]:
        """Return those of `metrics` that can be measured: what needs labels, by those it can use.

        Without labels that is none that needs them.
        """
        return tuple(
            name for name in metrics if not needs_labels(name) or self.labels_for(label_kinds(name))
        )

    def why_not_measured(self, metrics: Sequence[str]) -> str:
        """Return one line on those of `metrics` that cannot be measured; empty if all can."""
        able = self.measured(metrics)
        if not (left_out := [name for name in metrics if name not in able]):
            return ""
        names = ", ".join(left_out)
        if not self.all_labels():
            return f"no client has labels, so {names} are not measured"
        kinds = (f"'{label}' is {told(*self.kind_of(label))}" for label in self.all_labels())
        return f"{names} need classes, so they are not measured: the label {', '.join(kinds)}"

    def has_validation(self) -> bool:
        """Return whether there are validation events to measure anything on between exchanges."""
        return len(self.lists["validation"]) >= LEAST_OPEN

    def edge_label(self, source: str, target: str) -> str | None:
        """Return the label that scores source -> target: one that both have, else the source's."""
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
                for edge in (*topology.edges_of(client), *self.non_neighbours)
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
        """Return the clients that evaluation compares `client` with, in the federation's order."""
        pairs = (*topology.edges_of(client), *self.non_neighbours)
        found = {pair.other(client) for pair in pairs if client in (pair.source, pair.target)}
        return [other for other in topology.clients if other in found]


def compares_non_neighbours(settings: Settings) -> bool:
    """Return whether an evaluation compares non-neighbours: in a space that all share.

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
