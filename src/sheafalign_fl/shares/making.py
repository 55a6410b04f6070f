"""From a client that has learnt to its share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.registry import sources
from sheafalign_fl.encoders.registry import encoder_name
from sheafalign_fl.learner import state
from sheafalign_fl.learner.node import Node
from sheafalign_fl.learner.received import Arrived
from sheafalign_fl.learner.refining import refinements
from sheafalign_fl.metrics.moments import Moments
from sheafalign_fl.protocol.agreement import ListName
from sheafalign_fl.runs.versions import software
from sheafalign_fl.shares import folder as share_folder
from sheafalign_fl.shares.facts import ImputationFacts, ShareFacts
from sheafalign_fl.shares.fitting import LEAST, arrived, common, complete, moments_of
from sheafalign_fl.shares.refined import refinement_tensors
from sheafalign_fl.sheaf.refinement import Refinement

_ROWS = 1024


def write_share(
    where: Path,
    node: Node,
    run_id: str,
    received: Mapping[str, Arrived] | None = None,
    measured: tuple[ListName, Mapping[str, NDArray[np.floating]]] | None = None,
) -> ShareFacts:
    """Write the share of `node` below the folder `where`, which is a run's or the client's own.

    Parameters
    ----------
    received
        Neighbour -> comparison embeddings of training events; default: those that came last.
    measured
        The list of the final evaluation, and neighbour -> the comparison embeddings that came for
        it.

    Raises
    ------
    OSError
        It cannot be written.
    """
    came = arrived(node) if received is None else dict(received)
    tensors = dict(node.weights())
    scaling = node.data.scaling
    if scaling is not None:
        tensors["scaling.mean"] = torch.from_numpy(np.asarray(scaling.mean, np.float64))
        tensors["scaling.scale"] = torch.from_numpy(np.asarray(scaling.scale, np.float64))
    imputation, moments = _imputation(node, came, measured)
    tensors |= moments
    refined: Mapping[str, Refinement] = {}
    if (kind := node.settings.evaluation.refine) != "none":
        # From what came in training wherever that is known, so that use is what evaluation was.
        last = came if received is None else arrived(node) or came
        refined = refinements(node, kind, last)
    for neighbour, found in refined.items():
        tensors |= state.under(f"refined.{neighbour}.", refinement_tensors(found))
    facts = _facts(node, run_id, imputation, tuple(refined))
    return share_folder.write(where / share_folder.SHARES / node.name, facts, tensors)


def _facts(
    node: Node, run_id: str, imputation: ImputationFacts | None, refined: tuple[str, ...]
) -> ShareFacts:
    settings, data = node.settings, node.data
    client = settings.clients[node.name]
    return ShareFacts(
        format=2 if data.unequal else 1,
        client=node.name,
        modality=client.modality or node.name,
        run=settings.name,
        run_id=run_id,
        source=settings.data.source,
        units="" if client.features is not None else _units(settings, client.modality or node.name),
        encoder=encoder_name(client.encoder, len(data.input_shape), data.encoder),
        encoder_options=client.encoder_options,
        input_shape=data.input_shape,
        unequal=data.unequal,
        layout=data.layout,
        scaled=data.scaling is not None,
        input_range=_input_range(node),
        dim=client.dim,
        dtype=settings.training.dtype,
        threads=settings.resources.threads,
        classes={label: tuple(data.classes.get(label, ())) for label in data.labels},
        neighbours=dict(node.agreement.neighbours),
        maps=settings.maps,
        temperature=settings.objective.learnable_temperature,
        dual=_has_dual(settings),
        imputation=imputation,
        refined=refined,
        exchanges=settings.training.exchanges,
        training_digest=node.weights_digest(),
        versions=software(),
        weights="",
    )


def _units(settings: Settings, modality: str) -> str:
    """Return what a built-in source says of the values of a modality."""
    info = sources().get(settings.data.source)
    known = () if info is None else info.modalities
    return next((item.meaning for item in known if item.name == modality), "")


def _has_dual(settings: Settings) -> bool:
    objective = settings.objective
    trained = objective.reconstruction > 0 or objective.cross_reconstruction > 0
    return settings.maps.family in ("orthogonal", "identity") or trained


def _input_range(node: Node) -> tuple[float, float]:
    rows = node.events.indices["train"]
    rows = rows[rows >= 0]
    sizes = [
        np.sqrt(np.square(node.data.x[part].reshape(len(part), -1), dtype=np.float64).mean(axis=1))
        for part in np.array_split(rows, max(1, -(-len(rows) // _ROWS)))
        if len(part)
    ]
    if not sizes:
        return 0.0, float(np.finfo(np.float32).max)
    together = np.concatenate(sizes)
    return float(together.min()), float(together.max())


# ---- what imputation is solved from --------------------------------------------------------------


def _imputation(
    node: Node,
    came: Mapping[str, Arrived],
    measured: tuple[ListName, Mapping[str, NDArray[np.floating]]] | None,
) -> tuple[ImputationFacts | None, dict[str, Tensor]]:
    """Return what is said of the moments, and the moments; None and none where too little came."""
    chosen = complete(came, node.agreement.neighbours)
    if not chosen:
        return None, {}
    fitted = moments_of(node, "train", chosen)
    tensors = _tensors("imputation.", fitted)
    held_out = None if measured is None else _held_out(node, list(chosen), *measured)
    if held_out is not None:
        tensors |= _tensors("held_out.", held_out)
    count = 0 if held_out is None else held_out.count
    return ImputationFacts(neighbours=tuple(chosen), events=fitted.count, held_out=count), tensors


def _held_out(
    node: Node,
    neighbours: list[str],
    name: ListName,
    received: Mapping[str, NDArray[np.floating]],
) -> Moments | None:
    """Return the moments of the events of the final evaluation; None if a neighbour was absent."""
    if not set(neighbours) <= set(received):
        return None
    came = {
        neighbour: (
            np.flatnonzero(node.agreement.shared[neighbour][name]).astype(np.intp),
            received[neighbour].astype(np.float32),
        )
        for neighbour in neighbours
    }
    both = common([positions for positions, _ in came.values()])
    if len(both) < LEAST:
        return None
    rows = {
        neighbour: (both, values[np.searchsorted(positions, both)])
        for neighbour, (positions, values) in came.items()
    }
    return moments_of(node, name, rows)


def _tensors(prefix: str, moments: Moments) -> dict[str, Tensor]:
    arrays: dict[str, Any] = {"mean": moments.mean, "covariance": moments.covariance}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    return state.under(prefix, tensors)
