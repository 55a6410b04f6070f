"""What a client knows of itself and its neighbours together: what imputation is fitted on.

With sealed edges the metric `missing` is measured on it, here, and only scores leave; with open
ones the evaluator, who has all h, is told what the imputation of this client's h is solved from.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.learner.node import Node
from sheafalign_fl.learner.received import Arrived
from sheafalign_fl.metrics.base import Nearby
from sheafalign_fl.metrics.moments import Moments
from sheafalign_fl.metrics.standing_in import StandIn, sources_of
from sheafalign_fl.protocol.agreement import ListName
from sheafalign_fl.shares.fitting import arrived, complete, moments_of

Arrays = Mapping[str, NDArray[np.floating]]


def told_moments(node: Node) -> Moments:
    """Return the moments of [z of each source, h] of training events, for the evaluator.

    Columns of a source that sent too little are zero; so is everything where all did.
    """
    sources, dim = sources_of(node.agreement.neighbours), node.settings.clients[node.name].dim
    width = sum(sources.values()) + dim
    came = _came(node, sources)
    if not came:
        return Moments.nothing(width)
    ends = np.cumsum(list(sources.values())).tolist()
    places = {i: np.arange(end - sources[i], end) for i, end in zip(sources, ends, strict=True)}
    columns = np.concatenate([*(places[i] for i in came), np.arange(ends[-1], width)])
    found, whole = moments_of(node, "train", came), Moments.nothing(width)
    whole.mean[columns] = found.mean
    whole.covariance[np.ix_(columns, columns)] = found.covariance
    return Moments(found.count, whole.mean, whole.covariance)


def nearby(
    node: Node, name: ListName, h: NDArray[np.floating], received: Arrays, label: str
) -> Nearby | None:
    """Return what this client has of events of the list `name`; None where too little has come.

    Parameters
    ----------
    h
        Its own embeddings of the list.
    received
        Neighbour -> z of the list's events that both have.
    """
    sources = {i: dim for i, dim in sources_of(node.agreement.neighbours).items() if i in received}
    came = _came(node, sources)
    if not came:
        return None
    positions = next(iter(came.values()))[0]
    shared = {i: node.agreement.shared[i][name] for i in came}
    both: NDArray[np.bool_] = np.logical_and.reduce(list(shared.values()))
    own = node.name
    parts = {own: h[both], **{i: received[i][both[shared[i]]] for i in came}}
    fitted = moments_of(node, "train", came)  # the columns of every source, then its own
    widths = {**{i: sources[i] for i in came}, own: h.shape[1]}
    fit_h = node.embeddings_at("train", positions)
    there = {i: parts[i] for i in came}
    lifted = {(i, own): node.lift(i, z) for i, z in there.items() if len(z)}
    restricted = {(own, i): node.restrict(i, parts[own]) for i in came if len(parts[own])}
    return Nearby(
        client=own,
        parts=parts,
        labels=node.labels(label, name)[both],
        fit_parts={own: fit_h, **{i: z for i, (_, z) in came.items()}},
        fit_labels=node.labels(label, "train")[positions],
        imputed={**lifted, **restricted},
        shared_space=node.settings.maps.family == "identity",
        standing_in=_standing_in(fitted, widths, parts),
    )


def _standing_in(fitted: Moments, widths: Mapping[str, int], parts: Arrays) -> dict[str, StandIn]:
    """Return part -> how it follows from the others; `fitted` has the columns of `widths`."""
    ends = np.cumsum(list(widths.values())).tolist()
    columns = {
        part: np.arange(end - width, end)
        for (part, width), end in zip(widths.items(), ends, strict=True)
    }
    found = {}
    for part in parts:
        others = {other: width for other, width in widths.items() if other != part}
        order = np.concatenate([*(columns[other] for other in others), columns[part]])
        given = {other: parts[other] for other in others}
        if (stand_in := StandIn.of(fitted.take(order), others, given)) is not None:
            found[part] = stand_in
    return found


def _came(node: Node, sources: Mapping[str, int]) -> dict[str, Arrived]:
    """Return what those sources sent last that sent enough, of the events that all of them did."""
    came = {i: got for i, got in arrived(node).items() if i in sources}
    found = complete(came, sources)
    return {i: found[i] for i in sources if i in found}
