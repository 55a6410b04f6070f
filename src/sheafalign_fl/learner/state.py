"""A client's state as bytes: one flat mapping of named tensors, in the safetensors format.

Names: ``encoder.``, ``maps.NEIGHBOUR.`` (weights), ``optimiser.INDEX.``, ``done`` (exchanges),
``inputs`` (digest of the client's data), ``losses`` (the last answer), ``gate.`` (what receipts and
watches have learnt), ``feedback.NEIGHBOUR``, ``outbound.EXCHANGE.NEIGHBOUR``,
``received.EXCHANGE.NEIGHBOUR`` (of the last exchanges), ``replay.BATCH.NEIGHBOUR``, ``start`` (the
run that it started from, and the neighbours that it knew there). A node's generators have no state
to save.
"""

import json
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return `tensors` as bytes, the same for equal contents."""
    return save_tensors({key: value.contiguous().clone() for key, value in tensors.items()})


def from_bytes(data: bytes) -> dict[str, Tensor]:
    """Return what `to_bytes` was given; safetensors raises errors of its own for other bytes."""
    found: dict[str, Tensor] = load_tensors(data)
    return found


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, named without it."""
    return {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `prefix` before their names."""
    return {f"{prefix}{key}": value for key, value in tensors.items()}


def outbound_tensors(
    outbound: tuple[int, Mapping[str, NDArray[np.floating]]] | None,
) -> dict[str, Tensor]:
    """Return embeddings that were made before the last step, as ``EXCHANGE.NEIGHBOUR``."""
    if outbound is None:
        return {}
    exchange, sent = outbound
    return {f"{exchange}.{n}": torch.from_numpy(values) for n, values in sent.items()}


def outbound_of(
    tensors: Mapping[str, Tensor],
) -> tuple[int, dict[str, NDArray[np.floating]]] | None:
    """Return what `outbound_tensors` was given."""
    found: dict[int, dict[str, NDArray[np.floating]]] = {}
    for key, value in tensors.items():
        exchange, _, neighbour = key.partition(".")
        found.setdefault(int(exchange), {})[neighbour] = value.numpy().copy()
    return next(iter(found.items()), None)


def start_tensor(run: str, known: Iterable[str]) -> Tensor:
    """Return the run that a client started from, and the neighbours that it knew in it."""
    text = json.dumps({"run": run, "known": sorted(known)})
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def start_of(tensor: Tensor) -> tuple[str, frozenset[str]]:
    """Return what `start_tensor` was given."""
    content = json.loads(tensor.numpy().tobytes())
    return str(content["run"]), frozenset(map(str, content["known"]))
