"""Evaluation on the client: it embeds held-out events, and scores what its neighbours sent.

Scores of direction i -> j are computed by client i, which owns the queries, the labels and the
probe; j only sends its comparison embeddings, as in training. What a metric of the whole federation
needs beyond that (h, and each h imputed from a neighbour) goes to the evaluator, and only if such a
metric was agreed on. Which metrics there are is the affair of `sheafalign_fl.metrics` alone.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients import frames
from clients.nearby import nearby, told_moments
from clients.pictures import save_projection
from sheafalign_fl.errors import NotFiniteError, ProtocolError
from sheafalign_fl.labels import Kind, can_be_fitted, kind_of, known, to_wire, unknown
from sheafalign_fl.learner.node import Node
from sheafalign_fl.learner.refining import refinements
from sheafalign_fl.metrics.base import (
    ClientMetric,
    FederationMetric,
    Metric,
    Own,
    Pair,
    PairMetric,
    mean_over_labels,
)
from sheafalign_fl.metrics.registry import measured_metrics
from sheafalign_fl.metrics.standing_in import sources_of
from sheafalign_fl.protocol.agreement import LEAST_SEALED, ListName
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.measuring import EVALUATION_CODEC, MOMENTS, Measuring
from sheafalign_fl.protocol.messages import ScoresReply
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.protocol.verbs import EVALUATOR
from sheafalign_fl.protocol.verdict import Check, Verdict
from sheafalign_fl.shares.fitting import arrived
from sheafalign_fl.shares.making import write_share
from sheafalign_fl.sheaf.refinement import Refinement

_log = logging.getLogger("sheafalign.node")


def embed(node: Node, measuring: Measuring, seal: SealedEdges | None = None) -> dict[str, bytes]:
    """Return client -> packed frame of z_ij for the shared events that are measured.

    Beside the neighbours these are, in a space that all share, the other clients: there z_ij is
    h_i.
    """
    name, exchange = measuring.split(node.settings), measuring.exchange
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
    measuring: Measuring,
    inbound: Mapping[str, bytes],
    folder: Path,
    run: str,
    seal: SealedEdges | None = None,
) -> tuple[ScoresReply, dict[str, bytes]]:
    """Return this client's scores and its frames for the evaluator.

    What is measured, on which events and by which labels was agreed on; a message cannot say. The
    final evaluation is also when the client leaves its share: with what came for it the error of
    imputation is known.
    """
    name = measuring.split(node.settings)
    received, verdicts = receive(node, measuring, inbound, seal)
    scorer = _Scorer(node, name, received, final=measuring.final)
    wanted = measured_metrics(node.settings, final=measuring.final)
    results = {key: scorer.rows(metric) for key, metric in wanted.items()}
    together = any(isinstance(metric, FederationMetric) for metric in wanted.values())
    if (drawn := measuring.drawn_edge(node.settings, node.name)) in scorer.received:
        scorer.draw(str(drawn), folder)
    if measuring.final:
        leave_share(node, folder, run, (name, received))
    if node.settings.security.sealed or not together:
        return ScoresReply.of(results, verdicts, {}), {}
    answer = ScoresReply.of(results, verdicts, scorer.labels_for_evaluator())
    return answer, scorer.for_evaluator(measuring.exchange)


def receive(
    node: Node, measuring: Measuring, inbound: Mapping[str, bytes], seal: SealedEdges | None
) -> tuple[dict[str, NDArray[np.floating]], list[Verdict]]:
    """Return neighbour -> its comparison embeddings, and a verdict on each whose cannot be used.

    What one of them sent costs its own edge its scores, and no other.
    """
    name, exchange, own = measuring.split(node.settings), measuring.exchange, node.name
    received: dict[str, NDArray[np.floating]] = {}
    verdicts: list[Verdict] = []
    for source, data in inbound.items():
        if (shared := node.agreement.shared.get(source)) is None:
            raise ProtocolError(f"client '{own}' is not compared with '{source}'")
        # Of a client that is no neighbour it is h, in a space that all share.
        dim = node.agreement.neighbours.get(source, node.settings.clients[own].dim)
        due = frames.Due(
            "evaluate", exchange, source, own, EVALUATION_CODEC, int(shared[name].sum()), dim
        )
        try:
            values = frames.read(data, due, seal)
        except ProtocolError as error:
            check: Check = "finite" if isinstance(error, NotFiniteError) else "frame"
            _log.warning("evaluation %d, from '%s': %s", exchange, source, error)
            verdicts.append(_refused(source, check, exchange))
            continue
        if (refusal := node.gate.judge_held_out(source, values)) is None:
            received[source] = values
            continue
        verdicts.append(
            _refused(source, refusal.fault, exchange, value=refusal.value, bound=refusal.bound)
        )
        _log.warning("evaluation %d: %s", exchange, verdicts[-1].told())
    return received, verdicts


def _refused(
    source: str, check: Check, exchange: int, *, value: float = 0.0, bound: float = 0.0
) -> Verdict:
    return Verdict(
        sender=source, event="refused", check=check, value=value, bound=bound, since=exchange
    )


def leave_share(
    node: Node,
    folder: Path,
    run: str,
    measured: tuple[ListName, Mapping[str, NDArray[np.floating]]] | None = None,
) -> None:
    """Write the client's share into its own folder; a run is not lost because that fails."""
    try:
        write_share(folder, node, run, measured=measured)
    except OSError as error:
        _log.warning("the share of client '%s' cannot be written: %s", node.name, error)


class _Scorer:
    """Everything that the metrics of one evaluation share."""

    def __init__(
        self,
        node: Node,
        name: ListName,
        received: Mapping[str, NDArray[np.floating]],
        *,
        final: bool,
    ) -> None:
        self.node, self.name = node, name
        self.least = LEAST_SEALED if node.settings.security.sealed else 1
        """Events that a score has to be of: where edges are sealed, one of few would tell of
        each."""
        self.labels, self.edge_labels = node.agreement.labels, node.agreement.edge_labels
        self.received = dict(received)
        self.h, self.has = node.embeddings(name)
        self.probe_h, self.probe_has = node.embeddings("probe")
        kind = node.settings.evaluation.refine
        self.refinements: dict[str, Refinement] = {}
        if final and kind != "none":
            self.refinements = refinements(node, kind, arrived(node))

    def rows(self, metric: Metric) -> list[dict[str, Any]]:
        """Return this client's rows of a metric; none of what has too few events or labels."""
        match metric:
            case PairMetric():
                return self._pairs(metric)
            case ClientMetric():
                return self._own_rows(metric)
            case FederationMetric() if self.node.settings.security.sealed:
                return self._nearby_rows(metric)
        return []

    def _pairs(self, metric: PairMetric) -> list[dict[str, Any]]:
        order = list(self.node.settings.clients)
        rows: list[dict[str, Any]] = []
        for neighbour, values in self.received.items():
            first = order.index(self.node.name) < order.index(neighbour)
            if len(values) < self.least or not (metric.directed or first):
                continue
            if (held := self._pair(metric, neighbour)) is not None:
                ends = {"source": held.source, "target": held.target, "events": len(held.own)}
                rows.append(ends | dict(metric.measure(held)))
        return rows

    def _pair(self, metric: PairMetric, neighbour: str) -> Pair | None:
        """Return what `metric` measures; None if it needs labels that there are not."""
        label, shared = self.edge_labels.get(neighbour), self._shared(neighbour)
        if label is not None and self._kind(label) not in metric.label_kinds:
            label = None
        labels = self._tested(label)[shared]
        if metric.needs_labels and not self._enough(labels):
            return None
        if metric.needs_fit and metric.needs_labels and not self._can_fit(label):
            return None
        fit_labels = self.node.labels(label, "probe")
        fitted = self._fitted(metric, fit_labels)
        own, received = self._own(neighbour), self.received[neighbour]
        fit_own = self.node.restrict(neighbour, self.probe_h[fitted])
        if metric.refined and (found := self.refinements.get(neighbour)) is not None:
            own, received = found.own.apply(own), found.received.apply(received)
            fit_own = found.own.apply(fit_own)
        usable = labels if self._enough(labels) else unknown(kind_of(labels), len(labels))
        name = self.node.name
        return Pair(name, neighbour, own, received, usable, fit_own, fit_labels[fitted])

    def _own_rows(self, metric: ClientMetric) -> list[dict[str, Any]]:
        """Return one row, the mean over this client's labels; none where there are too few."""
        labels: tuple[str | None, ...] = (
            self._labels_for(metric) if metric.needs_labels else (None,)
        )
        if int(self.has.sum()) < self.least:
            return []
        measured = [
            metric.measure(self._own_events(metric, label))
            for label in labels
            if (self._enough(self._tested(label)) or not metric.needs_labels)
            and (self._can_fit(label) or not (metric.needs_fit and metric.needs_labels))
        ]
        if not measured:
            return []
        whose = {"client": self.node.name, "events": int(self.has.sum())}
        return [whose | mean_over_labels(measured)]

    def _nearby_rows(self, metric: FederationMetric) -> list[dict[str, Any]]:
        """Return what can be measured here of a metric of all, the mean over this client's labels.

        Nothing but these numbers leaves.
        """
        measured = [
            metric.measure_nearby(held)
            for label in self._labels_for(metric)
            if (held := nearby(self.node, self.name, self.h, self.received, label)) is not None
            and self._enough(held.labels)
            and self._enough(held.fit_labels)
            and can_be_fitted(held.fit_labels)
        ]
        return [mean_over_labels(several) for several in zip(*measured, strict=True)]

    def _labels_for(self, metric: Metric) -> tuple[str, ...]:
        """Return this client's labels that the metric can use."""
        return tuple(x for x in self.labels if self._kind(x) in metric.label_kinds)

    def _kind(self, label: str) -> Kind:
        return kind_of(self.node.data.labels[label])

    def _own_events(self, metric: ClientMetric, label: str | None) -> Own:
        fit_labels = self.node.labels(label, "probe")
        fitted = self._fitted(metric, fit_labels)
        return Own(
            self.node.name,
            self.h[self.has],
            self._tested(label)[self.has],
            self.probe_h[fitted],
            fit_labels[fitted],
        )

    def _fitted(self, metric: Metric, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Return the mask of the training events that `metric` fits something on."""
        if not metric.needs_fit:
            return np.zeros_like(self.probe_has)
        return known(labels) & self.probe_has if metric.needs_labels else self.probe_has

    def for_evaluator(self, exchange: int) -> dict[str, bytes]:
        """Return what the fused probe needs: h of the fitting and of the tested events.

        And what imputes h of the tested ones: each neighbour's z, lifted and as it came, and the
        moments that a ridge regression is solved from.
        """
        contents: dict[str, NDArray[np.floating]] = {
            "probe": self.probe_h[self.probe_has],
            self.name: self.h[self.has],
        }
        contents |= {
            f"from.{source}": self.node.lift(source, values)
            for source, values in self.received.items()
        }
        sources = sources_of(self.node.agreement.neighbours)
        contents |= {f"z.{i}": z for i, z in self.received.items() if i in sources}
        contents[MOMENTS] = told_moments(self.node).packed()
        return {
            key: _frame(self.node, EVALUATOR, exchange, values) for key, values in contents.items()
        }

    def labels_for_evaluator(self) -> dict[str, bytes]:
        """Return the labels of the fitting and the tested events, for the fused probe."""
        both: tuple[ListName, ...] = ("probe", self.name)
        return {
            f"{key}.{label}": to_wire(self.node.labels(label, key))
            for label in self.labels
            for key in both
        }

    def draw(self, neighbour: str, folder: Path) -> None:
        """Keep what a picture of the edge to `neighbour` is drawn from, on this client's disk."""
        label = self.edge_labels.get(neighbour)
        if label is not None and self._kind(label) != "classes":
            label = None
        save_projection(
            self.node,
            (neighbour, label),
            self._own(neighbour),
            self.received[neighbour],
            self._tested(label)[self._shared(neighbour)],
            folder,
        )

    def _tested(self, label: str | None) -> NDArray[Any]:
        """Return the label of every event of the tested list, unknown where there is none."""
        return self.node.labels(label, self.name)

    def _can_fit(self, label: str | None) -> bool:
        """Return whether this client's training events have labels that differ."""
        labels = self.node.labels(label, "probe")
        return self._enough(labels) and can_be_fitted(labels)

    def _enough(self, labels: NDArray[Any]) -> bool:
        """Return whether so many events are labelled that a score may be of them."""
        return int(known(labels).sum()) >= self.least

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
        Frame.of("evaluate", exchange, node.name, destination, EVALUATION_CODEC, values), seal
    )
