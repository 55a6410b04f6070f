"""One client's learner: encoder, maps, optimiser. It knows nothing of Flower.

The life of an exchange t: `embed(t)` runs the forward pass and returns z_ij(t) for every neighbour; the neighbours'
z_ji(t) come back; `step(t, inbound)` takes the optimiser's step. `step` uses the forward pass that `embed` made, if the
node still holds it, and otherwise makes it again: same weights, same events, same generator, so the same bits.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from sheafalign_fl.agreement import ClientAgreement, ListName
from sheafalign_fl.config.schema import Settings, TrainingSettings
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.encoders import build_encoder
from sheafalign_fl.errors import ConfigError, ProtocolError, RunError
from sheafalign_fl.run.results import Loss
from sheafalign_fl.schedule import BatchSchedule
from sheafalign_fl.seeding import torch_seeded
from sheafalign_fl.sheaf.maps import EdgeMaps, edge_maps
from sheafalign_fl.sheaf.objective import edge_terms

MIN_SHARED = 2
"""An edge takes part in a batch if both ends have at least this many of its events: one event has no negatives."""

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_EMBED_CHUNK = 512
# Encoders other than our own may draw from torch's global generator (dropout), which has to be theirs alone meanwhile.
_GENERATOR_LOCK = threading.Lock()


@dataclass(frozen=True)
class _Forward:
    """A forward pass of one batch, with its graph."""

    exchange: int
    h: Tensor
    z: Mapping[str, Tensor]
    rows: Mapping[str, Tensor | None]
    """Neighbour -> rows of h that the edge shares; None means all."""


class Node:
    """The learner of one client."""

    def __init__(self, name: str, settings: Settings, data: ModalityData, agreement: ClientAgreement) -> None:
        """Make encoder and maps from the seed and place them on the client's device.

        Raises
        ------
        ConfigError
            The encoder or the maps cannot be made with these settings.
        """
        self.name, self.settings, self.agreement = name, settings, agreement
        self.device = resolve_device(settings.clients[name].device)
        self.dtype = _DTYPES[settings.training.dtype]
        self._data = data
        self._indices = {key: _indices(data, ids) for key, ids in agreement.lists.items()}
        self.encoder = new_encoder(name, settings, data.input_shape).to(self.device, self.dtype)
        self.maps = {
            neighbour: new_maps(name, neighbour, dim, settings).to(self.device, self.dtype)
            for neighbour, dim in agreement.neighbours.items()
        }
        self._deterministic = type(self.encoder).__module__.startswith("sheafalign_fl.encoders.")
        self.optimiser = new_optimiser(self.parameters(), settings.training)
        self.schedule = BatchSchedule(len(agreement.lists["train"]), settings.training.batch_size, settings.seed)
        self._pending: _Forward | None = None

    def parameters(self) -> list[nn.Parameter]:
        """Return all trainable parameters: the encoder's, then each edge's maps in the order of the neighbours."""
        modules: list[nn.Module] = [self.encoder, *self.maps.values()]
        return [parameter for module in modules for parameter in module.parameters()]

    # ---- training --------------------------------------------------------------------------------------------------

    def shared_rows(self, exchange: int) -> dict[str, NDArray[np.bool_]]:
        """Return neighbour -> mask over the batch: both ends have the event. Edges with too few are left out."""
        positions = self.schedule.positions(exchange)
        masks = {neighbour: lists["train"][positions] for neighbour, lists in self.agreement.shared.items()}
        return {neighbour: mask for neighbour, mask in masks.items() if mask.sum() >= MIN_SHARED}

    def embed(self, exchange: int) -> dict[str, NDArray[np.floating]]:
        """Return neighbour -> comparison embeddings z_ij of the batch, shape (shared events, d_e)."""
        self._pending = self._forward(exchange)
        return {neighbour: z.detach().cpu().numpy() for neighbour, z in self._pending.z.items()}

    def step(self, exchange: int, inbound: Mapping[str, NDArray[np.floating]]) -> list[Loss]:
        """Take one optimiser step on the batch of `exchange`, given the neighbours' embeddings of it.

        Parameters
        ----------
        inbound
            Neighbour -> z_ji, shape (shared events, d_e). A neighbour that is left out was absent: its edge is skipped.

        Returns
        -------
        list of Loss
            The terms of every edge that took part, before the step.

        Raises
        ------
        ProtocolError
            An array comes from no neighbour or has the wrong shape. Nothing has changed then.
        RunError
            The loss is not finite. Nothing has changed then.
        """
        forward = self._pending
        if forward is None or forward.exchange != exchange:
            forward = self._forward(exchange)
        received = {neighbour: self._receive(neighbour, values, forward) for neighbour, values in inbound.items()}
        losses: list[Loss] = []
        total = forward.h.new_zeros(())
        for neighbour in self.maps:  # the agreed order, whatever order the frames came in
            if neighbour not in received:
                continue
            rows = forward.rows[neighbour]
            h = forward.h if rows is None else forward.h[rows]
            terms = edge_terms(
                self.settings.objective, self.maps[neighbour], h, forward.z[neighbour], received[neighbour]
            )
            total = total + terms.total
            values = torch.stack([getattr(terms, term) for term in LOSS_TERMS]).tolist()
            named = dict(zip(LOSS_TERMS, values, strict=True))
            losses.append(Loss(source=self.name, target=neighbour, events=len(h), **named))
        if losses:
            self._descend(total, exchange)
        self._pending = None
        return losses

    def _descend(self, total: Tensor, exchange: int) -> None:
        if not torch.isfinite(total):
            self._pending = None
            raise RunError(
                f"the loss of client '{self.name}' is {total.item()} at exchange {exchange}; "
                "a smaller training.learning_rate may help"
            )
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def _receive(self, neighbour: str, values: NDArray[np.floating], forward: _Forward) -> Tensor:
        if neighbour not in forward.z:
            raise ProtocolError(
                f"client '{self.name}' got embeddings from '{neighbour}', which shares no events with it"
            )
        expected = tuple(forward.z[neighbour].shape)
        if values.shape != expected:
            raise ProtocolError(
                f"client '{self.name}' got embeddings of shape {values.shape} from '{neighbour}', not {expected}"
            )
        return self._tensor(values)

    def _forward(self, exchange: int) -> _Forward:
        positions = self.schedule.positions(exchange)
        masks = self.shared_rows(exchange)
        union = np.logical_or.reduce(list(masks.values())) if masks else np.zeros(len(positions), dtype=np.bool_)
        batch = np.flatnonzero(union)
        x = self._inputs(self._indices["train"][positions[batch]])
        self.encoder.train()
        with self._generator(exchange):
            h = self.encoder(x) if len(batch) else x.new_zeros((0, self.settings.clients[self.name].dim))
        z: dict[str, Tensor] = {}
        rows: dict[str, Tensor | None] = {}
        for neighbour, mask in masks.items():
            chosen = mask[batch]
            rows[neighbour] = None if chosen.all() else torch.from_numpy(np.flatnonzero(chosen)).to(self.device)
            z[neighbour] = self.maps[neighbour].restrict(h if rows[neighbour] is None else h[rows[neighbour]])
        return _Forward(exchange, h, z, rows)

    def _generator(self, exchange: int) -> AbstractContextManager[None]:
        """Give the encoder its own generator; our own encoders draw nothing, so they need none."""
        return nullcontext() if self._deterministic else _seeded_alone(self.settings.seed, self.name, exchange)

    def _inputs(self, indices: NDArray[np.intp]) -> Tensor:
        return self._tensor(self._data.x[indices])

    def _tensor(self, values: NDArray[np.floating]) -> Tensor:
        """Copy `values` into memory of torch's own: its alignment decides which kernels run, and so the last bits."""
        return torch.from_numpy(np.ascontiguousarray(values)).clone().to(self.device, self.dtype)

    # ---- evaluation ------------------------------------------------------------------------------------------------

    def embeddings(self, name: ListName) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return h of the agreed list `name`, shape (N, d_i), and the mask of events that this client has.

        Rows of events that it lacks are 0.
        """
        indices = self._indices[name]
        has = indices >= 0
        h = np.zeros((len(indices), self.settings.clients[self.name].dim), dtype=np.float32)
        self.encoder.eval()
        with torch.no_grad():
            for chunk in np.array_split(np.flatnonzero(has), max(1, -(-int(has.sum()) // _EMBED_CHUNK))):
                if len(chunk):
                    h[chunk] = self.encoder(self._inputs(indices[chunk])).float().cpu().numpy()
        return h, has

    def restrict(self, neighbour: str, h: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return P_ij h for rows h, shape (N, d_i) -> (N, d_e)."""
        return self._apply(self.maps[neighbour].restrict, h)

    def lift(self, neighbour: str, z: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return Q_ij z for rows z, shape (N, d_e) -> (N, d_i)."""
        return self._apply(self.maps[neighbour].lift, z)

    def labels(self, label: str | None, name: ListName) -> NDArray[np.int64]:
        """Return the labels of the agreed list `name`, shape (N,); -1 where the event or its label is missing."""
        indices = self._indices[name]
        values = np.full(len(indices), -1, dtype=np.int64)
        if label is not None and label in self._data.labels:
            has = indices >= 0
            values[has] = self._data.labels[label][indices[has]]
        return values

    def class_names(self, label: str | None) -> tuple[str, ...]:
        """Return the names of the label's classes; empty where there are none."""
        return tuple(self._data.classes.get(label, ())) if label is not None else ()

    def sample(self) -> NDArray[np.float32]:
        """Return the input of this client's first event, for a picture of it."""
        first: NDArray[np.float32] = self._data.x[0]
        return first

    def _apply(self, function: Callable[[Tensor], Tensor], values: NDArray[np.floating]) -> NDArray[np.float32]:
        with torch.no_grad():
            return function(self._tensor(values)).float().cpu().numpy()

    # ---- state -----------------------------------------------------------------------------------------------------

    def state(self) -> bytes:
        """Return weights and optimiser as safetensors bytes. The node's generators have no state to save."""
        tensors = dict(self._weights())
        for index, parameter in enumerate(self.parameters()):
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{index}.{key}"] = torch.as_tensor(value).detach().cpu()
        return save_tensors({key: value.contiguous().clone() for key, value in tensors.items()})

    def load_state(self, data: bytes) -> None:
        """Restore what `state` returned; raise `RunError` if it is of another model."""
        try:
            tensors = load_tensors(data)
            for prefix, module in self._modules():
                module.load_state_dict(
                    {key: tensors[f"{prefix}{key}"].to(self.device) for key in module.state_dict()}, strict=True
                )
        except Exception as error:  # safetensors and torch each raise types of their own for damaged or foreign data
            raise RunError(f"the saved state of client '{self.name}' does not fit its model: {error}") from error
        self.optimiser = new_optimiser(self.parameters(), self.settings.training)
        for index, parameter in enumerate(self.parameters()):
            prefix = f"optimiser.{index}."
            found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if found:
                # Adam keeps its step count on the CPU, its moments beside the parameter. Cloned, because what
                # safetensors returns lies wherever it lay in the file, and alignment decides which kernels run.
                self.optimiser.state[parameter] = {
                    key: value.clone() if key == "step" else value.clone().to(self.device)
                    for key, value in found.items()
                }
        self._pending = None

    def weights_digest(self) -> str:
        """Return the SHA-256 of all weights: equal digests mean equal bits."""
        digest = hashlib.sha256()
        for key, value in self._weights():
            digest.update(key.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _weights(self) -> Iterable[tuple[str, Tensor]]:
        for prefix, module in self._modules():
            for key, value in module.state_dict().items():
                yield f"{prefix}{key}", value.detach().cpu()

    def _modules(self) -> Iterable[tuple[str, nn.Module]]:
        yield "encoder.", self.encoder
        for neighbour, maps in self.maps.items():
            yield f"maps.{neighbour}.", maps


LOSS_TERMS = ("laplacian", "contrastive", "reconstruction", "cross_reconstruction", "total")


def new_encoder(client: str, settings: Settings, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the encoder of `client` with initial weights that depend on (seed, client) alone."""
    with _GENERATOR_LOCK, torch_seeded(settings.seed, "encoder", client):
        return build_encoder(client, settings.clients[client], input_shape)


def new_maps(client: str, neighbour: str, edge_dim: int, settings: Settings) -> EdgeMaps:
    """Return the maps of `client` towards `neighbour`; initial values depend on (seed, client, neighbour) alone."""
    with _GENERATOR_LOCK, torch_seeded(settings.seed, "maps", client, neighbour):
        return edge_maps(settings.maps, settings.clients[client].dim, edge_dim)


def new_optimiser(parameters: list[nn.Parameter], settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimiser that `settings` names. All of them work element by element, so no client needs another's."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def resolve_device(device: str) -> torch.device:
    """Return the device that auto, cpu or cuda means on this machine.

    Raises
    ------
    ConfigError
        cuda was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for but torch finds no CUDA device; use device: auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


@contextmanager
def _seeded_alone(seed: int, client: str, exchange: int) -> Iterator[None]:
    """Hold the lock and the client's own generator for one forward pass."""
    with _GENERATOR_LOCK, torch_seeded(seed, "forward", client, exchange):
        yield


def _indices(data: ModalityData, ids: NDArray[Any]) -> NDArray[np.intp]:
    """Return for every id its row in `data`, or -1."""
    order = np.argsort(data.event_ids, kind="stable")
    found = np.searchsorted(data.event_ids, ids, sorter=order)
    found = np.minimum(found, len(order) - 1)
    rows = order[found]
    return np.where(data.event_ids[rows] == ids, rows, -1).astype(np.intp)
