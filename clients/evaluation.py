"""Evaluation on the client: it embeds held-out events, and scores what its neighbours sent (DESIGN section 5).

Scores of direction i -> j are computed by client i, which owns the queries, the labels and the probe; j only sends its
comparison embeddings, as in training. What the fused probe of "missing modalities" needs beyond that (h, and each h
imputed from a neighbour) goes to the evaluator, and only if that metric is asked for.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients import frames
from sheafalign_fl import metrics
from sheafalign_fl.data.pictures import event_picture
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.flower.records import Scalar
from sheafalign_fl.node import Node
from sheafalign_fl.protocol.agreement import ListName
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.protocol.verbs import EVALUATOR

_CODEC = "float32"
"""Evaluation always travels in full precision, so that it measures the model and not the codec."""
PROJECTED_EVENTS = 300


def list_name(fields: Mapping[str, Scalar]) -> ListName:
    """Return the agreed list that a message names; raise `ProtocolError` if there is none of that name."""
    match fields.get("list"):
        case "validation":
            return "validation"
        case "test":
            return "test"
    raise ProtocolError(f"evaluation on an unknown list of events: {fields.get('list')!r}")


def embed(
    node: Node, name: ListName, exchange: int, seal: SealedEdges | None = None
) -> dict[str, bytes]:
    """Return client -> packed frame of z_ij for the shared events of list `name`.

    Beside the neighbours these are, in a space that all share, the other clients: there z_ij is h_i.
    """
    h, _ = node.embeddings(name)
    outbound = {}
    for neighbour, shared in node.agreement.shared.items():
        if (mask := shared[name]).any():
            outbound[neighbour] = _frame(
                node, neighbour, exchange, node.restrict(neighbour, h[mask]), seal
            )
    return outbound


def score(
    node: Node,
    fields: Mapping[str, Scalar],
    inbound: Mapping[str, bytes],
    folder: Path,
    seal: SealedEdges | None = None,
) -> tuple[dict[str, Scalar], dict[str, bytes]]:
    """Return this client's scores (a JSON field) and its frames for the evaluator.

    Fields: `list`, `exchange`, `labels` (JSON list: this client's), `edge_labels` (JSON: neighbour -> label), `metrics`
    (names, comma-separated), `projection` (a neighbour whose edge is to be drawn, or "").
    """
    name, wanted = list_name(fields), str(fields["metrics"]).split(",")
    exchange = int(str(fields["exchange"]))
    labels, edge_labels = json.loads(str(fields["labels"])), json.loads(str(fields["edge_labels"]))
    received = {
        source: frames.read(data, "evaluate", exchange, source, node.name, _CODEC, seal)
        for source, data in inbound.items()
    }
    scorer = _Scorer(node, name, labels, edge_labels, received)
    results: dict[str, list[dict[str, Any]]] = {
        metric: [] for metric in ("retrieval", "transfer", "probe", "consistency")
    }
    for neighbour in scorer.received:
        if "retrieval" in wanted:
            results["retrieval"].append(scorer.retrieval(neighbour))
        if "consistency" in wanted and list(node.settings.clients).index(node.name) < list(
            node.settings.clients
        ).index(neighbour):
            results["consistency"].append(scorer.consistency(neighbour))
        if "transfer" in wanted and scorer.can_transfer(neighbour):
            results["transfer"].append(scorer.transfer(neighbour))
    if "probe" in wanted:
        results["probe"] += scorer.probe()
    if (projected := str(fields["projection"])) in scorer.received:
        scorer.save_projection(projected, folder / "projection.npz")
    answer: dict[str, Scalar] = {"scores": json.dumps(results)}
    outbound: dict[str, bytes] = {}
    if "missing" in wanted:
        outbound = scorer.for_evaluator(exchange)
        both: tuple[ListName, ...] = ("probe", name)
        for label in labels:
            for list_ in both:
                answer[f"labels.{list_}.{label}"] = (
                    node.labels(label, list_).astype("<i4").tobytes()
                )
    return answer, outbound


def draw_sample(node: Node, folder: Path) -> None:
    """Save a picture of one of the client's events, on its own disk."""
    client = node.settings.clients[node.name]
    figure = event_picture(client.modality or node.name, node.sample(), node.recommended_encoder)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(folder / "samples" / f"{node.name}.png", buffer.getvalue())


class _Scorer:
    """Everything that the metrics of one evaluation share."""

    def __init__(
        self,
        node: Node,
        name: ListName,
        labels: Sequence[str],
        edge_labels: Mapping[str, str],
        received: Mapping[str, NDArray[np.floating]],
    ) -> None:
        self.node, self.name, self.labels, self.edge_labels = node, name, labels, edge_labels
        self.received = dict(received)
        self.h, self.has = node.embeddings(name)
        self.probe_h, self.probe_has = node.embeddings("probe")
        for neighbour, values in self.received.items():
            own = node.settings.clients[
                node.name
            ].dim  # of a client that is no neighbour, in a space that all share
            expected = (
                int(self._shared(neighbour).sum()),
                node.agreement.neighbours.get(neighbour, own),
            )
            if values.shape != expected:
                raise ProtocolError(
                    f"evaluation embeddings of '{neighbour}' have shape {values.shape}, not {expected}"
                )

    def can_transfer(self, neighbour: str) -> bool:
        """Return whether there is something to fit on, and a tested event that the edge shares to compare with."""
        label = self.edge_labels.get(neighbour)
        return self._can_fit(label) and bool(
            (self._tested(label)[self._shared(neighbour)] >= 0).any()
        )

    def retrieval(self, neighbour: str) -> dict[str, Any]:
        shared = self._shared(neighbour)
        labels = self._tested(self.edge_labels.get(neighbour))[shared]
        return metrics.retrieval(
            self.node.name,
            neighbour,
            self._own(neighbour),
            self.received[neighbour],
            labels if (labels >= 0).any() else None,
        ).model_dump()

    def consistency(self, neighbour: str) -> dict[str, Any]:
        return metrics.consistency(
            self.node.name, neighbour, self._own(neighbour), self.received[neighbour]
        ).model_dump()

    def transfer(self, neighbour: str) -> dict[str, Any]:
        label = self.edge_labels[neighbour]
        labels = self.node.labels(label, "probe")
        fitted = labels >= 0
        return metrics.transfer(
            self.node.name,
            neighbour,
            self.node.restrict(neighbour, self.probe_h[fitted]),
            labels[fitted],
            self.received[neighbour],
            self._tested(label)[self._shared(neighbour)],
        ).model_dump()

    def probe(self) -> list[dict[str, Any]]:
        """Return one row, the mean over this client's labels; none where there is nothing to fit on or to test."""
        rows = [
            metrics.linear_probe(
                self.node.name,
                self.probe_h[self.probe_has],
                self.node.labels(label, "probe")[self.probe_has],
                self.h[self.has],
                self._tested(label)[self.has],
            ).model_dump()
            for label in self.labels
            if self._can_fit(label) and bool((self._tested(label) >= 0).any())
        ]
        if not rows:
            return []
        means = {key: sum(row[key] for row in rows) / len(rows) for key in ("accuracy", "majority")}
        return [rows[0] | means]

    def for_evaluator(self, exchange: int) -> dict[str, bytes]:
        """Return h of the fitting and the tested events, and h imputed from each neighbour, for the fused probe."""
        contents: dict[str, NDArray[np.float32]] = {
            "probe": self.probe_h[self.probe_has],
            self.name: self.h[self.has],
        }
        contents |= {
            f"from.{source}": self.node.lift(source, values)
            for source, values in self.received.items()
        }
        return {
            key: _frame(self.node, EVALUATOR, exchange, values) for key, values in contents.items()
        }

    def save_projection(self, neighbour: str, path: Path) -> None:
        shared, label = self._shared(neighbour), self.edge_labels.get(neighbour)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            z_i=self._own(neighbour)[:PROJECTED_EVENTS],
            z_j=self.received[neighbour][:PROJECTED_EVENTS],
            labels=self._tested(label)[shared][:PROJECTED_EVENTS],
            source=np.array(self.node.name),
            target=np.array(neighbour),
            classes=np.array(self.node.class_names(label), dtype=np.str_),
        )
        write_atomically(path, buffer.getvalue())

    def _tested(self, label: str | None) -> NDArray[np.int64]:
        """Return the label of every event of the tested list, -1 where there is none."""
        return self.node.labels(label, self.name)

    def _can_fit(self, label: str | None) -> bool:
        """Return whether this client's training events are labelled with two classes at least."""
        labels = self.node.labels(label, "probe")
        return len(np.unique(labels[labels >= 0])) >= 2

    def _shared(self, neighbour: str) -> NDArray[np.bool_]:
        return self.node.agreement.shared[neighbour][self.name]

    def _own(self, neighbour: str) -> NDArray[np.float32]:
        return self.node.restrict(neighbour, self.h[self._shared(neighbour)])


def _frame(
    node: Node,
    destination: str,
    exchange: int,
    values: NDArray[np.floating],
    seal: SealedEdges | None = None,
) -> bytes:
    return frames.write(
        Frame.of("evaluate", exchange, node.name, destination, _CODEC, values), seal
    )
