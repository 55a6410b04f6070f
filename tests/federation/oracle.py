"""Joint training in one process, written from DESIGN section 2 and independent of the round loop and of `Node.step`.

All clients' modules sit in one process, one backward pass goes through all of them, one optimiser steps all of them.
It shares with the federation only the initial weights, the batches and the data.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sheafalign_fl.check import check
from sheafalign_fl.config import Settings
from sheafalign_fl.manifest import client_data
from sheafalign_fl.node import new_encoder, new_maps
from sheafalign_fl.schedule import BatchSchedule
from sheafalign_fl.topology import build_topology


def joint_training(settings: Settings) -> dict[str, dict[str, Tensor]]:
    """Return client -> name -> final weights after joint training."""
    dtype = torch.float64 if settings.training.dtype == "float64" else torch.float32
    topology, agreed = build_topology(settings), check(settings).agreement
    data = {client: client_data(client, settings) for client in topology.clients}
    encoders = {c: new_encoder(c, settings, data[c].input_shape).to(dtype) for c in topology.clients}
    maps = {
        (c, n): new_maps(c, n, dim, settings).to(dtype)
        for c in topology.clients
        for n, dim in topology.neighbours(c).items()
    }
    parameters = [p for module in [*encoders.values(), *maps.values()] for p in module.parameters()]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[settings.training.optimiser]
    optimiser = kind(parameters, lr=settings.training.learning_rate, weight_decay=settings.training.weight_decay)
    ids = agreed.lists["train"]
    schedule = BatchSchedule(len(ids), settings.training.batch_size, settings.seed)
    rows = {c: {event: row for row, event in enumerate(data[c].event_ids.tolist())} for c in topology.clients}
    for exchange in range(settings.training.exchanges):
        batch = ids[schedule.positions(exchange)].tolist()
        total = torch.zeros((), dtype=dtype)
        for edge in topology.edges:
            i, j = edge.source, edge.target
            events = [event for event in batch if event in rows[i] and event in rows[j]]
            if len(events) < 2:
                continue
            h_i, h_j = (
                encoders[c](torch.from_numpy(data[c].x[[rows[c][event] for event in events]]).to(dtype)) for c in (i, j)
            )
            total = total + edge_objective(settings, maps, (i, j), h_i, h_j)
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    weights: dict[str, dict[str, Tensor]] = {c: dict(_state("encoder.", encoders[c])) for c in topology.clients}
    for (c, n), module in maps.items():
        weights[c].update(_state(f"maps.{n}.", module))
    return weights


def edge_objective(
    settings: Settings, maps: Mapping[tuple[str, str], torch.nn.Module], ends: tuple[str, str], h_i: Tensor, h_j: Tensor
) -> Tensor:
    """Return the objective of one edge, both ends' reconstructions included, straight from the equations."""
    (i, j), w = ends, settings.objective
    P_ij, P_ji, Q_ij, Q_ji = maps[i, j].P, maps[j, i].P, maps[i, j].Q, maps[j, i].Q
    z_ij, z_ji = h_i @ P_ij.T, h_j @ P_ji.T  # type: ignore[operator]
    laplacian = ((z_ij - z_ji) ** 2).sum(1).mean()
    unit_i, unit_j = (z / z.norm(dim=1, keepdim=True) for z in (z_ij, z_ji))
    if w.normalised_laplacian:
        laplacian = ((unit_i - unit_j) ** 2).sum(1).mean()
    similarity = unit_i @ unit_j.T / w.temperature
    own = similarity.diagonal()
    contrastive = ((similarity.logsumexp(1) - own).mean() + (similarity.logsumexp(0) - own).mean()) / 2
    reconstruction = ((z_ij @ Q_ij.T - h_i) ** 2).mean() + ((z_ji @ Q_ji.T - h_j) ** 2).mean()  # type: ignore[operator]
    cross = ((z_ji.detach() @ Q_ij.T - h_i.detach()) ** 2).mean()  # type: ignore[operator]
    cross = cross + ((z_ij.detach() @ Q_ji.T - h_j.detach()) ** 2).mean()  # type: ignore[operator]
    total: Tensor = (
        w.laplacian * laplacian
        + w.contrastive * contrastive
        + w.reconstruction * reconstruction
        + w.cross_reconstruction * cross
    )
    return total


def largest_difference(
    weights: Mapping[str, Mapping[str, Tensor]], others: Mapping[str, Mapping[str, Tensor]]
) -> float:
    """Return the largest absolute difference of any weight; the names must be the same."""
    assert {(c, n) for c in weights for n in weights[c]} == {(c, n) for c in others for n in others[c]}
    return max(float((weights[c][n] - others[c][n]).abs().max()) for c in weights for n in weights[c])


def _state(prefix: str, module: torch.nn.Module) -> list[tuple[str, Tensor]]:
    return [(prefix + name, value.detach().clone()) for name, value in module.state_dict().items()]
