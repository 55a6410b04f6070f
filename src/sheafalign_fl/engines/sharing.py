"""Shares of a run that left none, as those of earlier versions, where its data can be read.

Here all clients are on one machine, so imputation is fitted on what neighbours would send of the
training events with their final weights; in a run it is fitted on what came last.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.errors import UserError
from sheafalign_fl.learner.node import Node
from sheafalign_fl.learner.received import Arrived
from sheafalign_fl.protocol.agreement import ListName
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.shares.making import write_share


def make_shares(path: Path, data: Path | None = None) -> list[Path]:
    """Write the share of every client of the run in `path`; return their folders.

    Parameters
    ----------
    data
        Where the data lies by now; default: where the run read it.

    Raises
    ------
    UserError
        It is no run folder, its training is not over or its weights are elsewhere; or the data
        cannot be read.
    RunError
        The data is not what the run was trained on.
    """
    folder = RunFolder(path)
    settings = folder.settings()
    if data is not None:
        own = settings.data.model_copy(update={"path": str(data.resolve())})
        settings = settings.model_copy(update={"data": own})
    nodes = _nodes(folder, settings)
    shares = []
    for name, node in nodes.items():
        split = settings.evaluation.split
        measured = {other: _sent(nodes[other], node, split)[1] for other in node.maps}
        received = {other: _sent(nodes[other], node, "train") for other in node.maps}
        write_share(path, node, folder.identity, received, (split, measured))
        shares.append(path / "shares" / name)
    return shares


def _nodes(folder: RunFolder, settings: Settings) -> Mapping[str, Node]:
    """Return every client's learner as its training ended."""
    total, checkpoint = settings.training.exchanges, folder.last_checkpoint()
    if checkpoint is None or checkpoint.exchange != total:
        done = 0 if checkpoint is None else checkpoint.exchange
        raise UserError(
            f"{folder.path} has a checkpoint of {done} of {total} exchanges; go on with it first: "
            f"sheafalign run --resume {folder.path}"
        )
    if lacking := [
        client
        for client in settings.clients
        if not (folder.checkpoint_dir(total) / f"{client}.safetensors").is_file()
    ]:
        raise UserError(
            f"{folder.path} holds no weights of client '{lacking[0]}': a deployed client keeps "
            "its share in its own state folder"
        )
    checked = check(settings, folder.path)
    nodes = {}
    for client in checked.topology.clients:
        agreement = checked.agreement.for_client(client, checked.topology)
        nodes[client] = Node(client, settings, checked.data[client], agreement)
        nodes[client].load_state(folder.load_client(total, client))
    return nodes


def _sent(source: Node, target: Node, name: ListName) -> Arrived:
    """Return what `source` sends of the list `name` to its neighbour `target`, and of which."""
    shared: NDArray[np.bool_] = target.agreement.shared[source.name][name]
    positions = np.flatnonzero(shared).astype(np.intp)
    return positions, source.restrict(target.name, source.embeddings_at(name, positions))
