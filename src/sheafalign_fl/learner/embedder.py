"""One client's encoder and maps over its own data: from events to embeddings, nothing is learnt."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.learner.events import ClientEvents
from sheafalign_fl.learner.factories import (
    DTYPES,
    client_maps,
    new_encoder,
    own_generator,
    resolve_device,
)
from sheafalign_fl.learner.initial import Initial, check_fits
from sheafalign_fl.learner.randomness import may_draw
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.protocol.agreement import ClientAgreement, ListName
from sheafalign_fl.sheaf.maps import EdgeMaps
from sheafalign_fl.sheaf.negatives import false_negatives
from sheafalign_fl.sheaf.terms import weighted_terms

_EMBED_CHUNK = 512


def embedded(
    encoder: nn.Module, inputs: Callable[[NDArray[np.intp]], Tensor], count: int, dim: int
) -> NDArray[np.float32]:
    """Return h, shape (count, dim): `encoder` in evaluation of `inputs`, some rows at a time.

    How rows are divided follows from `count` alone, so the same events have the same bits whoever
    embeds them: the number of rows that a layer gets decides the last of them.
    """
    h = np.zeros((count, dim), dtype=np.float32)
    encoder.eval()
    with torch.no_grad():
        for rows in np.array_split(np.arange(count), max(1, -(-count // _EMBED_CHUNK))):
            if len(rows):
                h[rows] = encoder(inputs(rows)).float().cpu().numpy()
    return h


class Embedder:
    """The modules of one client."""

    def __init__(
        self, name: str, settings: Settings, data: ModalityData, agreement: ClientAgreement
    ) -> None:
        """Make encoder and maps from the seed and place them on the client's device.

        Raises
        ------
        ConfigError
            The encoder, the maps or a loss term cannot be made with these settings.
        """
        self.name, self.settings, self.agreement = name, settings, agreement
        self.device = resolve_device(settings.clients[name].device)
        self.dtype = DTYPES[settings.training.dtype]
        self._data = data
        self.recommended_encoder = data.encoder
        self.encoder = new_encoder(name, settings, data.input_shape, data.encoder).to(
            self.device, self.dtype
        )
        self.maps = {
            neighbour: maps.to(self.device, self.dtype)
            for neighbour, maps in client_maps(name, agreement.neighbours, settings).items()
        }
        self.known: frozenset[str] = frozenset()
        """Neighbours towards which this client had maps in the run that it started from."""
        self.started_from = ""
        """That run, for people; empty where the weights are the seed's."""
        self.hold_still()
        self.terms = weighted_terms(settings.objective)
        self._random = may_draw(self.encoder)
        self._random_alignment = any(weighted.term.random for weighted in self.terms) or any(
            may_draw(maps) for maps in self.maps.values()
        )
        count = len(agreement.lists["train"])
        self.schedule = BatchSchedule.of(settings.training, count, settings.seed)
        self.events = ClientEvents(name, data, agreement, self.schedule)

    def parameters(self) -> list[nn.Parameter]:
        """Return all trainable parameters: the encoder's, then each edge's maps, as agreed."""
        modules: list[nn.Module] = [self.encoder, *self.maps.values()]
        # Edges may share their maps.
        return list(dict.fromkeys(p for module in modules for p in module.parameters()))

    # ---- what stays as it is ---------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it is."""
        return self.settings.clients[self.name].freeze

    def trainable(self) -> list[nn.Parameter]:
        """Return `parameters` without those that stay as they are."""
        still = {id(parameter) for parameter in self._still()}
        return [parameter for parameter in self.parameters() if id(parameter) not in still]

    def hold_still(self) -> None:
        """Take what stays as it is out of every gradient."""
        for parameter in self._still():
            parameter.requires_grad = False

    def _still(self) -> Iterable[nn.Parameter]:
        """Yield the parameters that stay as they are.

        The two ends of an edge have equal copies of a learnt temperature, so where one end does
        not move its copy, the other does not either.
        """
        if self.frozen:
            yield from self.encoder.parameters()
        for neighbour in self.known:
            maps, other = self.maps[neighbour], self.settings.clients[neighbour]
            if self.frozen:
                yield from maps.parameters()
            elif other.freeze and maps.log_temperature is not None:
                yield maps.log_temperature

    def maps_at_work(self, neighbour: str) -> EdgeMaps:
        """Return the maps towards `neighbour` as training needs them: still ones as in use."""
        maps = self.maps[neighbour]
        maps.train(not (self.frozen and neighbour in self.known))
        return maps

    def start_from(self, initial: Initial) -> None:
        """Take over the encoder and the maps that this client had in another run.

        Raises
        ------
        ConfigError
            They do not fit: names the first weight that does not.
        """
        parts = [f"maps.{client}." for client in self.settings.clients]
        taken = {
            part: (module, weights)
            for part, module in self._modules()
            if (weights := initial.below(part, parts)) or part == "encoder."
        }
        for part, (module, weights) in taken.items():
            check_fits(self.name, part, weights, module, initial.run)
        for module, weights in taken.values():
            module.load_state_dict(weights, strict=True)
        known = [neighbour for neighbour in self.maps if f"maps.{neighbour}." in taken]
        self.known, self.started_from = frozenset(known), str(initial)
        self.hold_still()

    def encode(self, positions: NDArray[np.intp], *draw: int | str) -> Tensor:
        """Return h, shape (N, d_i), of training events at `positions` of the agreed list.

        The client has all of them. An encoder that draws random numbers draws those of `draw`:
        the exchange, and whatever else tells one pass from another.
        """
        self.encoder.train(not self.frozen)
        x = self._inputs(self.events.indices["train"][positions])
        with self._generator("forward", *draw):
            return (
                self.encoder(x)
                if len(x)
                else x.new_zeros((0, self.settings.clients[self.name].dim))
            )

    def alignment_generator(self, purpose: str, *draw: int | str) -> AbstractContextManager[None]:
        """Give maps and loss terms that may draw random numbers a generator of their own."""
        if not self._random_alignment:
            return nullcontext()
        return own_generator(self.settings.seed, purpose, self.name, *draw)

    def same_events(self, positions: NDArray[np.intp]) -> Tensor | None:
        """Return which events at `positions` of the agreed list are no negatives of each other."""
        codes = self.agreement.codes
        if codes is None:
            return None
        ids = self.agreement.lists["train"][positions]
        mask = false_negatives(codes[positions], ids, self.agreement.span)
        return None if mask is None else torch.from_numpy(mask).to(self.device)

    def tensor(self, values: NDArray[np.floating]) -> Tensor:
        """Copy `values` into torch's own memory: its alignment decides the last bits."""
        return torch.from_numpy(np.ascontiguousarray(values)).clone().to(self.device, self.dtype)

    def _inputs(self, indices: NDArray[np.intp]) -> Tensor:
        return self.tensor(self._data.x[indices])

    def _generator(self, purpose: str, *draw: int | str) -> AbstractContextManager[None]:
        """Give an encoder that may draw random numbers a generator of its own."""
        if not self._random:
            return nullcontext()
        return own_generator(self.settings.seed, purpose, self.name, *draw)

    # ---- evaluation ------------------------------------------------------------------------------

    def embeddings(self, name: ListName) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return h of the agreed list `name`, shape (N, d_i), and which events this client has.

        Rows of events that it lacks are 0.
        """
        indices = self.events.indices[name]
        has = indices >= 0
        h = np.zeros((len(indices), self.settings.clients[self.name].dim), dtype=np.float32)
        h[has] = self.embeddings_at(name, np.flatnonzero(has))
        return h, has

    def embeddings_at(self, name: ListName, positions: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return h of events of the agreed list `name`, all of which this client has."""
        there, dim = self.events.indices[name][positions], self.settings.clients[self.name].dim
        with self._generator("evaluate", name):
            return embedded(self.encoder, lambda rows: self._inputs(there[rows]), len(there), dim)

    def restrict(self, neighbour: str, h: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return P_ij h for rows h, (N, d_i) -> (N, d_e); h itself for one that is no neighbour."""
        if neighbour not in self.maps:
            return h
        return self._apply(self.maps[neighbour].eval().restrict, h)

    def lift(self, neighbour: str, z: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return Q_ij z for rows z, (N, d_e) -> (N, d_i); z itself for one that is no neighbour."""
        if neighbour not in self.maps:
            return z.astype(np.float32)
        return self._apply(self.maps[neighbour].eval().lift, z)

    def labels(self, label: str | None, name: ListName) -> NDArray[Any]:
        """Return the labels of the agreed list `name`; unknown where one is missing."""
        return self.events.labels(label, name)

    def class_names(self, label: str | None) -> tuple[str, ...]:
        """Return the names of the label's classes; empty where there are none."""
        return tuple(self._data.classes.get(label, ())) if label is not None else ()

    @property
    def data(self) -> ModalityData:
        """Events of this client, which never leave it."""
        return self._data

    def sample(self) -> NDArray[np.float32]:
        """Return the input of this client's first event, for a picture of it."""
        first: NDArray[np.float32] = self._data.x[0]
        return first

    def _apply(
        self, function: Callable[[Tensor], Tensor], values: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        with torch.no_grad(), self.alignment_generator("evaluate"):
            return function(self.tensor(values)).float().cpu().numpy()

    # ---- weights ---------------------------------------------------------------------------------

    def weights(self) -> Iterable[tuple[str, Tensor]]:
        """Yield (name, weight) of encoder and maps."""
        for prefix, module in self._modules():
            for key, value in module.state_dict().items():
                yield f"{prefix}{key}", value.detach().cpu()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what `weights` yielded; raise `KeyError` or `RuntimeError` if it is foreign."""
        for prefix, module in self._modules():
            own = {key: weights[f"{prefix}{key}"].to(self.device) for key in module.state_dict()}
            module.load_state_dict(own, strict=True)

    def weights_digest(self) -> str:
        """Return the SHA-256 of all weights: equal digests mean equal bits."""
        digest = hashlib.sha256()
        for key, value in self.weights():
            digest.update(key.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _modules(self) -> Iterable[tuple[str, nn.Module]]:
        yield "encoder.", self.encoder
        for neighbour, maps in self.maps.items():
            yield f"maps.{neighbour}.", maps
