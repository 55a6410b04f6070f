"""One client's learner: encoder, maps, optimiser. It knows nothing of Flower.

The life of an exchange t: `embed(t)` runs the forward pass and returns z_ij(t) for every neighbour; the neighbours'
z_ji(t) come back; `step(t, inbound)` takes the optimiser's step. `step` uses the forward pass that `embed` made, if the
node still holds it, and otherwise makes it again: same weights, same events, same generator, so the same bits.
"""

import hashlib
import math
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

from sheafalign_fl.codecs import codec
from sheafalign_fl.config.schema import Settings, TrainingSettings
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.encoders import build_encoder
from sheafalign_fl.errors import ConfigError, ProtocolError, RunError
from sheafalign_fl.feedback import ErrorFeedback
from sheafalign_fl.protocol.agreement import ClientAgreement, ListName
from sheafalign_fl.protocol.rows import Loss
from sheafalign_fl.schedule import MIN_SHARED, BatchSchedule
from sheafalign_fl.seeding import torch_seeded
from sheafalign_fl.sheaf.group import GROUP_LOSSES
from sheafalign_fl.sheaf.maps import EdgeMaps, edge_maps
from sheafalign_fl.sheaf.objective import edge_terms

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
    masks: Mapping[str, NDArray[np.bool_]]
    """Neighbour -> mask over the events of the pass."""
    union: NDArray[np.bool_]
    """Mask over the events of the pass: those that h has rows for."""


class _MeanTerms:
    """Means over the steps of an exchange of each edge's terms."""

    def __init__(self) -> None:
        self._values: dict[str, list[list[float]]] = {}

    def note(self, neighbour: str, values: list[float]) -> None:
        """Note the values of one step, in the order of `LOSS_TERMS`."""
        self._values.setdefault(neighbour, []).append(values)

    def losses(self, client: str, events: Mapping[str, int]) -> list[Loss]:
        """Return one row for each edge."""
        means = {
            n: [sum(column) / len(rows) for column in zip(*rows, strict=True)]
            for n, rows in self._values.items()
        }
        return [
            Loss(
                source=client,
                target=n,
                events=events[n],
                **dict(zip(LOSS_TERMS, values, strict=True)),
            )
            for n, values in means.items()
        ]


class Node:
    """The learner of one client."""

    def __init__(
        self, name: str, settings: Settings, data: ModalityData, agreement: ClientAgreement
    ) -> None:
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
        self.recommended_encoder = data.encoder
        self._indices = {key: _indices(data, ids) for key, ids in agreement.lists.items()}
        self.encoder = new_encoder(name, settings, data.input_shape, data.encoder).to(
            self.device, self.dtype
        )
        self.maps = {
            neighbour: new_maps(name, neighbour, dim, settings).to(self.device, self.dtype)
            for neighbour, dim in agreement.neighbours.items()
        }
        self._deterministic = type(self.encoder).__module__.startswith("sheafalign_fl.encoders.")
        self.optimiser = new_optimiser(self.parameters(), settings.training)
        events = len(agreement.lists["train"])
        self.schedule = BatchSchedule.of(settings.training, events, settings.seed)
        self._pending: _Forward | None = None
        self._outbound: tuple[int, dict[str, NDArray[np.floating]]] | None = None
        """Stale schedule: embeddings that were made before the last step, and their exchange."""
        self.done = 0
        """Exchange after the last one that a step was taken on."""
        self.last: list[Loss] = []
        """What that step returned, for a relay that asks again because this client was restarted before it answered."""
        self.restored: int | None = None
        """After so many exchanges its state was saved, if this client was restarted and has taken no step since."""
        self._feedback: ErrorFeedback | None = None
        if settings.training.error_feedback:
            kind = np.float64 if self.dtype == torch.float64 else np.float32
            self._feedback = ErrorFeedback(
                codec(settings.codec), events, agreement.neighbours, kind
            )

    def parameters(self) -> list[nn.Parameter]:
        """Return all trainable parameters: the encoder's, then each edge's maps in the order of the neighbours."""
        modules: list[nn.Module] = [self.encoder, *self.maps.values()]
        return [parameter for module in modules for parameter in module.parameters()]

    # ---- training --------------------------------------------------------------------------------------------------

    def shared_rows(self, exchange: int) -> dict[str, NDArray[np.bool_]]:
        """Return neighbour -> mask over the exchange's events: both ends have it. Edges without any are left out."""
        shared = self.agreement.shared
        masks = {
            neighbour: self.schedule.shared(shared[neighbour]["train"], exchange)
            for neighbour in self.maps
        }
        return {neighbour: mask for neighbour, mask in masks.items() if mask.any()}

    def embed(self, exchange: int) -> dict[str, NDArray[np.floating]]:
        """Return neighbour -> what to send it of the exchange's events: z_ij, shape (shared events, d_e).

        With error feedback it is z_ij plus what the codec lost of these events the last time.
        """
        if (
            self._outbound is not None and self._outbound[0] == exchange
        ):  # embedded before the checkpoint was saved
            return self._outbound[1]
        with torch.set_grad_enabled(self._reuses_forward):
            forward = self._forward(exchange)
        self._pending = forward if self._reuses_forward else None
        sent: dict[str, NDArray[np.floating]] = {
            neighbour: z.detach().cpu().numpy() for neighbour, z in forward.z.items()
        }
        if self._feedback is not None:
            positions = self.schedule.positions(exchange)
            sent = {
                neighbour: self._feedback.correct(neighbour, positions[forward.masks[neighbour]], z)
                for neighbour, z in sent.items()
            }
        self._outbound = (exchange, sent) if self.settings.training.stale else None
        return sent

    def step(self, exchange: int, inbound: Mapping[str, NDArray[np.floating]]) -> list[Loss]:
        """Take the optimiser's steps on the batches of `exchange`, given the neighbours' embeddings of them.

        One step for each batch in turn, `training.local_steps` times over.

        Parameters
        ----------
        inbound
            Neighbour -> z_ji, shape (shared events, d_e). A neighbour that is left out was absent: its edge is skipped.

        Returns
        -------
        list of Loss
            The terms of every edge that took part: each is the mean over all steps of its value before the step.

        Raises
        ------
        ProtocolError
            An array comes from no neighbour or has the wrong shape. Nothing has changed then.
        RunError
            The loss is not finite. The step has not been taken then.
        """
        masks = self.shared_rows(exchange)
        received = {
            neighbour: self._receive(neighbour, values, masks, exchange)
            for neighbour, values in inbound.items()
        }
        seen = _MeanTerms()
        for _ in range(self.settings.training.local_steps):
            for batch in range(self.schedule.batches):
                forward = self._take_pending(exchange) or self._forward(exchange, batch)
                there = {n: parts[batch] for n, parts in received.items() if n in forward.z}
                if there:
                    self._descend(self._objective(forward, there, seen), exchange)
        self._pending = None
        losses = seen.losses(
            self.name, {neighbour: int(masks[neighbour].sum()) for neighbour in received}
        )
        if received:
            self.done, self.last = exchange + 1, losses
        return losses

    @property
    def _reuses_forward(self) -> bool:
        """Whether the pass that made the embeddings is also the first step's: same weights, same events."""
        return self.settings.training.batches == 1 and not self.settings.training.stale

    def _take_pending(self, exchange: int) -> "_Forward | None":
        pending, self._pending = self._pending, None
        return pending if pending is not None and pending.exchange == exchange else None

    def _objective(
        self, forward: _Forward, received: Mapping[str, Tensor], seen: "_MeanTerms"
    ) -> Tensor:
        """Return this client's objective on one batch and note its terms."""
        objective = self.settings.objective
        there = [
            neighbour for neighbour in self.maps if neighbour in received
        ]  # the agreed order, not that of arrival
        group = (
            None
            if objective.contrast == "pairs"
            else self._group_term(forward, received) / len(there)
        )
        total = forward.h.new_zeros(())
        for neighbour in there:
            rows = forward.rows[neighbour]
            h = forward.h if rows is None else forward.h[rows]
            terms = edge_terms(
                objective, self.maps[neighbour], h, forward.z[neighbour], received[neighbour], group
            )
            total = total + terms.total
            seen.note(
                neighbour, torch.stack([getattr(terms, term) for term in LOSS_TERMS]).tolist()
            )
        return total

    def _group_term(self, forward: _Forward, received: Mapping[str, Tensor]) -> Tensor:
        """Return the contrastive term over all clients that are there, on the events that all of them have.

        It is 0 where this client shares too few events of the batch with any of the others: so does then the group.
        """
        if len(forward.masks) < len(self.maps):
            return forward.h.new_zeros(())
        common = np.logical_and.reduce([forward.masks[neighbour] for neighbour in received])
        if common.sum() < MIN_SHARED:
            return forward.h.new_zeros(())
        embeddings: dict[str, Tensor] = {
            self.name: forward.h[_rows(common[forward.union], self.device)]
        }
        for neighbour, z in received.items():
            embeddings[neighbour] = z[_rows(common[forward.masks[neighbour]], self.device)]
        ordered = [embeddings[client] for client in self.settings.clients if client in embeddings]
        return GROUP_LOSSES[self.settings.objective.contrast](
            ordered, self.settings.objective.temperature
        )

    def _descend(self, total: Tensor, exchange: int) -> None:
        if not torch.isfinite(total):
            raise RunError(
                f"the loss of client '{self.name}' is {total.item()} at exchange {exchange}; "
                "a smaller training.learning_rate may help"
            )
        if not total.requires_grad:  # nothing that is weighted had enough events
            return
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings.training, exchange)
        self.optimiser.step()
        for maps in self.maps.values():
            maps.limit_temperature()

    def _receive(
        self,
        neighbour: str,
        values: NDArray[np.floating],
        masks: Mapping[str, NDArray[np.bool_]],
        exchange: int,
    ) -> list[Tensor]:
        """Return a neighbour's embeddings, one tensor for each batch of the exchange."""
        if neighbour not in masks:
            raise ProtocolError(
                f"client '{self.name}' got embeddings from '{neighbour}', which shares no events with it in exchange "
                f"{exchange}"
            )
        counts = masks[neighbour].reshape(self.schedule.batches, -1).sum(axis=1)
        expected = (int(counts.sum()), self.maps[neighbour].edge_dim)
        if values.shape != expected:
            raise ProtocolError(
                f"client '{self.name}' got embeddings of shape {values.shape} from '{neighbour}', not {expected}"
            )
        return [self._tensor(part) for part in np.split(values, np.cumsum(counts)[:-1])]

    def _forward(self, exchange: int, batch: int | None = None) -> _Forward:
        """Return the forward pass of one batch of the exchange, or of all of them in one."""
        size = self.schedule.batch_size
        chosen = slice(None) if batch is None else slice(batch * size, (batch + 1) * size)
        positions = self.schedule.positions(exchange)[chosen]
        masks = {neighbour: mask[chosen] for neighbour, mask in self.shared_rows(exchange).items()}
        masks = {neighbour: mask for neighbour, mask in masks.items() if mask.any()}
        union = (
            np.logical_or.reduce(list(masks.values()))
            if masks
            else np.zeros(len(positions), dtype=np.bool_)
        )
        h = self.encode(positions[union], exchange)
        z: dict[str, Tensor] = {}
        rows: dict[str, Tensor | None] = {}
        for neighbour, mask in masks.items():
            kept = mask[union]
            rows[neighbour] = None if kept.all() else _rows(kept, self.device)
            z[neighbour] = self.maps[neighbour].restrict(
                h if rows[neighbour] is None else h[rows[neighbour]]
            )
        return _Forward(exchange, h, z, rows, masks, union)

    def encode(self, positions: NDArray[np.intp], exchange: int) -> Tensor:
        """Return h, shape (N, d_i), of the training events at `positions` of the agreed list; the client has them.

        An encoder that draws random numbers draws those of `exchange`.
        """
        self.encoder.train()
        x = self._inputs(self._indices["train"][positions])
        with self._generator(exchange):
            return (
                self.encoder(x)
                if len(x)
                else x.new_zeros((0, self.settings.clients[self.name].dim))
            )

    def _generator(self, exchange: int) -> AbstractContextManager[None]:
        """Give the encoder its own generator; our own encoders draw nothing, so they need none."""
        return (
            nullcontext()
            if self._deterministic
            else _seeded_alone(self.settings.seed, self.name, exchange)
        )

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
            for chunk in np.array_split(
                np.flatnonzero(has), max(1, -(-int(has.sum()) // _EMBED_CHUNK))
            ):
                if len(chunk):
                    h[chunk] = self.encoder(self._inputs(indices[chunk])).float().cpu().numpy()
        return h, has

    def restrict(self, neighbour: str, h: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return P_ij h for rows h, shape (N, d_i) -> (N, d_e); h itself for a client that is no neighbour."""
        return self._apply(self.maps[neighbour].restrict, h) if neighbour in self.maps else h

    def lift(self, neighbour: str, z: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return Q_ij z for rows z, shape (N, d_e) -> (N, d_i); z itself for a client that is no neighbour."""
        return (
            self._apply(self.maps[neighbour].lift, z)
            if neighbour in self.maps
            else z.astype(np.float32)
        )

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

    def _apply(
        self, function: Callable[[Tensor], Tensor], values: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        with torch.no_grad():
            return function(self._tensor(values)).float().cpu().numpy()

    # ---- state -----------------------------------------------------------------------------------------------------

    def state(self) -> bytes:
        """Return weights and optimiser as safetensors bytes. The node's generators have no state to save."""
        tensors = dict(self._weights())
        tensors["done"] = torch.tensor(self.done)
        for loss in self.last:
            terms = [float(loss.events), *(getattr(loss, term) for term in LOSS_TERMS)]
            tensors[f"losses.{loss.target}"] = torch.tensor(terms, dtype=torch.float64)
        for index, parameter in enumerate(self.parameters()):
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{index}.{key}"] = torch.as_tensor(value).detach().cpu()
        if self._feedback is not None:
            tensors |= {
                f"feedback.{n}": torch.from_numpy(values) for n, values in self._feedback.state()
            }
        if self._outbound is not None:
            exchange, sent = self._outbound
            tensors |= {
                f"outbound.{exchange}.{n}": torch.from_numpy(values) for n, values in sent.items()
            }
        return save_tensors({key: value.contiguous().clone() for key, value in tensors.items()})

    def load_state(self, data: bytes) -> None:
        """Restore what `state` returned; raise `RunError` if it is of another model."""
        try:
            tensors = load_tensors(data)
            for prefix, module in self._modules():
                module.load_state_dict(
                    {key: tensors[f"{prefix}{key}"].to(self.device) for key in module.state_dict()},
                    strict=True,
                )
        except Exception as error:  # safetensors and torch each raise types of their own for damaged or foreign data
            raise RunError(
                f"the saved state of client '{self.name}' does not fit its model: {error}"
            ) from error
        self.optimiser = new_optimiser(self.parameters(), self.settings.training)
        for index, parameter in enumerate(self.parameters()):
            prefix = f"optimiser.{index}."
            found = {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            if found:
                # Adam keeps its step count on the CPU, its moments beside the parameter. Cloned, because what
                # safetensors returns lies wherever it lay in the file, and alignment decides which kernels run.
                self.optimiser.state[parameter] = {
                    key: value.clone() if key == "step" else value.clone().to(self.device)
                    for key, value in found.items()
                }
        self._pending = None
        self._load_messages(tensors)

    def _load_messages(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` says of messages: the last answer, residuals, embeddings already made."""
        self.done, self.last = int(tensors.get("done", torch.tensor(0))), []
        outbound: dict[int, dict[str, NDArray[np.floating]]] = {}
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "losses":
                events, *terms = value.tolist()
                named = dict(zip(LOSS_TERMS, terms, strict=True))
                self.last.append(Loss(source=self.name, target=rest, events=int(events), **named))
            elif kind == "feedback" and self._feedback is not None:
                self._feedback.load(rest, value.numpy())
            elif kind == "outbound":
                exchange, _, neighbour = rest.partition(".")
                outbound.setdefault(int(exchange), {})[neighbour] = value.numpy().copy()
        self._outbound = next(iter(outbound.items()), None)

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


def new_encoder(
    client: str, settings: Settings, input_shape: tuple[int, ...], preferred: str | None = None
) -> nn.Module:
    """Return the encoder of `client` with initial weights that depend on (seed, client) alone.

    `preferred` is what its data source recommends (`ModalityData.encoder`).
    """
    with _GENERATOR_LOCK, torch_seeded(settings.seed, "encoder", client):
        return build_encoder(client, settings.clients[client], input_shape, preferred)


def new_maps(client: str, neighbour: str, edge_dim: int, settings: Settings) -> EdgeMaps:
    """Return the maps of `client` towards `neighbour`; initial values depend on (seed, client, neighbour) alone."""
    objective = settings.objective
    learnt = objective.temperature if objective.learnable_temperature else None
    with _GENERATOR_LOCK, torch_seeded(settings.seed, "maps", client, neighbour):
        return edge_maps(settings.maps, settings.clients[client].dim, edge_dim, learnt)


def new_optimiser(
    parameters: list[nn.Parameter], settings: TrainingSettings
) -> torch.optim.Optimizer:
    """Return the optimiser that `settings` names. All of them work element by element, so no client needs another's.

    Scalars (a learnt temperature) are not decayed: that would pull tau towards 1.
    """
    arrays = [parameter for parameter in parameters if parameter.ndim > 0]
    scalars = [parameter for parameter in parameters if parameter.ndim == 0]
    groups: list[dict[str, Any]] = [{"params": arrays, "weight_decay": settings.weight_decay}]
    if scalars:
        groups.append({"params": scalars, "weight_decay": 0.0})
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.learning_rate)


def learning_rate(settings: TrainingSettings, exchange: int) -> float:
    """Return the learning rate of `exchange`: constant, or falling from the full rate to 0 along half a cosine."""
    if settings.decay == "none":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * exchange / settings.exchanges))


def resolve_device(device: str) -> torch.device:
    """Return the device that auto, cpu or cuda means on this machine.

    Raises
    ------
    ConfigError
        cuda was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for but torch finds no CUDA device; use device: auto or cpu"
        )
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


def _rows(mask: NDArray[np.bool_], device: torch.device) -> Tensor:
    """Return the positions at which `mask` is true, as an index."""
    return torch.from_numpy(np.flatnonzero(mask)).to(device)
