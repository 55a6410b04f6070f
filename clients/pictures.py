"""Pictures of what a client has: kept, or drawn, on its own disk."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.extras import has
from sheafalign_fl.files import write_atomically
from sheafalign_fl.learner.node import Node
from sheafalign_fl.seeding import numpy_generator

PROJECTED_EVENTS = 300


def draw_sample(node: Node, folder: Path) -> None:
    """Save a picture of one of the client's events on its own disk, where matplotlib is there."""
    if not has("matplotlib"):  # a sensor's machine need not draw
        return
    from sheafalign_fl.data.pictures import event_picture

    client = node.settings.clients[node.name]
    figure = event_picture(client.modality or node.name, node.sample(), node.recommended_encoder)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(folder / "samples" / f"{node.name}.png", buffer.getvalue())


def sample_of_classes(labels: NDArray[np.int64], most: int, seed: int) -> NDArray[np.intp]:
    """Return the rows of at most `most` events, sorted: of every class as many as of the others.

    Events are drawn from the seed, in turns of one event of each class that has some left; events
    without a label are a class of their own.
    """
    order = numpy_generator(seed, "projection").permutation(len(labels))
    shuffled = labels[order]
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = shuffled == label
        turn[members] = np.arange(int(members.sum()))
    return np.sort(order[np.argsort(turn, kind="stable")[:most]]).astype(np.intp)


def save_projection(
    node: Node,
    edge: tuple[str, str | None],
    own: NDArray[np.floating],
    received: NDArray[np.floating],
    labels: NDArray[Any],
    folder: Path,
) -> None:
    """Save some of the embeddings of both ends of an edge into `folder`, to be drawn later.

    `edge` names the neighbour and the label, if it has classes; row k of all is the same event.
    """
    neighbour, label = edge
    shown = sample_of_classes(labels, PROJECTED_EVENTS, node.settings.seed)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        z_i=own[shown],
        z_j=received[shown],
        labels=labels[shown],
        source=np.array(node.name),
        target=np.array(neighbour),
        classes=np.array(node.class_names(label), dtype=np.str_),
    )
    write_atomically(folder / "projection.npz", buffer.getvalue())
