"""What imputation is fitted on: what came last from neighbours, beside the client's own h."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.learner.node import Node
from sheafalign_fl.learner.received import Arrived
from sheafalign_fl.metrics.moments import Moments
from sheafalign_fl.protocol.agreement import ListName

LEAST = 16
"""Events that moments are computed of at least."""
_WIDEST = 2048
"""Most columns of comparison embeddings that moments are kept of (32 MB)."""


def arrived(node: Node) -> dict[str, Arrived]:
    """Return neighbour -> what it sent of training events last, without those that sent nothing."""
    found = {
        neighbour: node.received.of(neighbour, node.agreement.shared[neighbour]["train"])
        for neighbour in node.agreement.neighbours
    }
    return {neighbour: came for neighbour, came in found.items() if came is not None}


def complete(came: Mapping[str, Arrived], dims: Mapping[str, int]) -> dict[str, Arrived]:
    """Return what came of the events that every one of the neighbours left over has sent.

    Where these are too few, or the columns too many, the neighbour that sent least is left out.
    """
    left = dict(came)
    while left:
        both = common([positions for positions, _ in left.values()])
        width = sum(dims[neighbour] for neighbour in left)
        if len(both) >= LEAST and width <= _WIDEST:
            return {
                neighbour: (both, values[np.searchsorted(positions, both)])
                for neighbour, (positions, values) in left.items()
            }
        del left[min(reversed(list(left)), key=lambda neighbour: len(left[neighbour][0]))]
    return {}


def common(lists: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Return the positions that are in all of the lists."""
    both = lists[0]
    for positions in lists[1:]:
        both = np.intersect1d(both, positions, assume_unique=True)
    return both


def moments_of(node: Node, name: ListName, came: Mapping[str, Arrived]) -> Moments:
    """Return the moments of [z of each neighbour, h] over the same events of the list `name`."""
    positions = next(iter(came.values()))[0]
    h = node.embeddings_at(name, positions)
    return Moments.of(np.concatenate([*(values for _, values in came.values()), h], axis=1))
