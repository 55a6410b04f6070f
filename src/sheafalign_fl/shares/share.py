"""One client's share in memory: it embeds, and compares with its neighbours."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sheafalign_fl.config.policy import STRICT, Policy, policy_in_force, under
from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.data.normalisation import Scaling
from sheafalign_fl.encoders import build_encoder
from sheafalign_fl.errors import ConfigError, DataError, SheafAlignError
from sheafalign_fl.learner import state
from sheafalign_fl.learner.embedder import embedded
from sheafalign_fl.learner.factories import DTYPES, own_generator, resolve_device
from sheafalign_fl.learner.randomness import may_draw
from sheafalign_fl.metrics.moments import Affine
from sheafalign_fl.shares import folder as share_folder
from sheafalign_fl.shares.comparison import Comparison
from sheafalign_fl.shares.facts import ShareFacts
from sheafalign_fl.shares.imputation import Imputation
from sheafalign_fl.shares.inputs import embeddings_of, encoder_input
from sheafalign_fl.shares.refined import refinements_of
from sheafalign_fl.sheaf.maps import EdgeMaps, IdentityMaps, edge_maps
from sheafalign_fl.threads import torch_threads


class Share:
    """What one client learnt.

    Attributes
    ----------
    facts
        What `share.json` says.
    encoder
        f_i, in evaluation, on the device that it was loaded to. It takes scaled inputs.
    maps
        Neighbour -> (P_ij, Q_ij).
    scaling
        What makes the encoder's inputs of raw values; None where they are the same.
    imputation
        What h_i is imputed by from neighbours' comparison embeddings; None where too little came.
    refinements
        Neighbour -> what is made of z_ij and z_ji before they are compared; empty unless the run
        refined its maps.
    """

    def __init__(
        self,
        facts: ShareFacts,
        tensors: Mapping[str, Tensor],
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """Build encoder and maps and give them the weights of `tensors`; see `load_share`.

        Raises
        ------
        ConfigError
            The encoder or the maps cannot be made here: they are code that is not installed.
        DataError
            The weights are of another model than the facts say.
        """
        self.facts, self.device = facts, resolve_device(device)
        self.dtype, self.threads = DTYPES[facts.dtype], threads or facts.threads
        with own_generator(0, "share", facts.client):
            self.encoder = self._placed(_new_encoder(facts))
            self.maps = {
                neighbour: self._placed(_new_maps(facts, dim))
                for neighbour, dim in facts.neighbours.items()
            }
        self._random = may_draw(self.encoder) or any(map(may_draw, self.maps.values()))
        try:
            self._load(tensors)
            self.scaling = _scaling(facts, tensors)
            self.imputation = Imputation.of(facts, tensors)
            self.refinements = refinements_of(facts, tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"the share of client '{facts.client}' holds other weights than its facts say: "
                f"{reason[:300]}"
            ) from None

    @property
    def client(self) -> str:
        """The client's name."""
        return self.facts.client

    @property
    def neighbours(self) -> Mapping[str, int]:
        """Neighbour -> d_e."""
        return self.facts.neighbours

    def embed(self, x: ArrayLike, *, check_units: bool = True) -> NDArray[np.float32]:
        """Return h, shape (N, d_i), of raw events x, shape (N, ...), in the sensor's own units.

        Events of unequal length are a list of sequences (C, T), or (N, C, T) with NaN behind ends.

        Parameters
        ----------
        check_units
            Refuse values whose size says that they are in other units than training's.

        Raises
        ------
        DataError
            They are of another shape, not finite, none, or in other units.
        """
        made = encoder_input(x, self.facts, self.scaling, units=check_units)
        with self._drawing("embed"), torch_threads(self.threads):
            return embedded(
                self.encoder, lambda rows: self.tensor(made[rows]), len(made), self.facts.dim
            )

    def compare(self, neighbour: str, x: ArrayLike, *, check_units: bool = True) -> Comparison:
        """Return z_ij, shape (N, d_e), of raw events x in the space shared with `neighbour`.

        Raises
        ------
        DataError
            There is no such neighbour, or as for `embed`.
        """
        self.space(neighbour)
        return self.restrict(neighbour, self.embed(x, check_units=check_units))

    def restrict(self, neighbour: str, h: NDArray[np.floating]) -> Comparison:
        """Return z_ij, shape (N, d_e), of embeddings h, shape (N, d_i)."""
        self.space(neighbour)
        values = h.astype(np.float32)
        if neighbour in self.maps:
            values = self._apply(self.maps[neighbour], "restrict", h)
        return Comparison.of(values, self.client, neighbour, self.facts.run_id)

    def lift(self, neighbour: str, z: ArrayLike) -> NDArray[np.float32]:
        """Return Q_ij z, shape (N, d_i), of a neighbour's comparison embeddings z, shape (N, d_e).

        Raises
        ------
        DataError
            There is no such neighbour, the dual maps were not trained, or z is no z of it.
        """
        if not self.facts.dual:
            raise DataError(
                f"the share of client '{self.client}' has no trained dual maps (reconstruction and "
                "cross_reconstruction were 0); use the closed form"
            )
        values = self.received(neighbour, z)
        if neighbour not in self.maps:
            return values
        return self._apply(self.maps[neighbour], "lift", values)

    def refined(self, neighbour: str, z: NDArray[np.float32], *, own: bool) -> NDArray[np.float32]:
        """Return z, shape (N, d_e), as it is compared with `neighbour`'s; z itself if not refined.

        `own`: it is this client's z_ij, else the neighbour's z_ji.
        """
        if (found := self.refinements.get(neighbour)) is None:
            return z
        return (found.own if own else found.received).apply(z)

    def received(self, neighbour: str, z: ArrayLike) -> NDArray[np.float32]:
        """Return a neighbour's comparison embeddings for this client, checked, shape (N, d_e).

        Raises
        ------
        DataError
            They are of another run, edge or dimension, or not finite.
        """
        where = f"z of '{neighbour}' for '{self.client}'"
        if isinstance(z, Comparison):
            z.check(neighbour, self.client, self.facts.run_id)
        return embeddings_of(z, self.space(neighbour), where)

    def sent(self, neighbour: str, z: ArrayLike) -> NDArray[np.float32]:
        """Return this client's own z for `neighbour`, checked as `received` does."""
        if isinstance(z, Comparison):
            z.check(self.client, neighbour, self.facts.run_id)
        where = f"z of '{self.client}' for '{neighbour}'"
        return embeddings_of(z, self.space(neighbour), where)

    def dual_maps(self, neighbours: Iterable[str]) -> dict[str, Affine]:
        """Return neighbour -> z -> Q_ij z as an affine map; those that are none are left out."""
        maps = {name: self.maps[name] for name in neighbours if name in self.maps}
        return {
            name: Affine(own.dual().detach().double().cpu().numpy().T, np.zeros(self.facts.dim))
            for name, own in maps.items()
            if type(own).lift in (EdgeMaps.lift, IdentityMaps.lift)
        }

    def space(self, neighbour: str) -> int:
        """Return d_e of the space shared with `neighbour`; raise `DataError` if there is none."""
        if neighbour in self.facts.neighbours:
            return self.facts.neighbours[neighbour]
        if self.facts.shared_space and neighbour != self.client:
            return self.facts.dim
        known = ", ".join(self.facts.neighbours) or "none"
        raise DataError(
            f"client '{self.client}' shares no space with '{neighbour}'; its neighbours: {known}"
        )

    def tensor(self, values: NDArray[np.floating]) -> Tensor:
        """Copy `values` into torch's own memory: its alignment decides the last bits."""
        return torch.from_numpy(np.ascontiguousarray(values)).clone().to(self.device, self.dtype)

    def _apply(
        self, maps: EdgeMaps, what: str, values: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        with torch.no_grad(), self._drawing(what), torch_threads(self.threads):
            made: Tensor = getattr(maps, what)(self.tensor(values))
            return made.float().cpu().numpy()

    def _drawing(self, purpose: str) -> AbstractContextManager[None]:
        """Give modules that may draw random numbers a generator of their own."""
        return own_generator(0, purpose, self.client) if self._random else nullcontext()

    def _placed(self, module: Any) -> Any:
        return module.to(self.device, self.dtype).eval()

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        parts: dict[str, nn.Module] = {"encoder.": self.encoder}
        parts |= {f"maps.{neighbour}.": maps for neighbour, maps in self.maps.items()}
        digest = hashlib.sha256()
        for prefix, module in parts.items():
            own = {key: tensors[f"{prefix}{key}"] for key in module.state_dict()}
            module.load_state_dict(own, strict=True)
            for key, value in own.items():
                digest.update(f"{prefix}{key}".encode())
                digest.update(value.contiguous().numpy().tobytes())
        if digest.hexdigest() != self.facts.training_digest:
            raise ValueError("they are not those that training ended with")


def load_share(
    path: str | Path,
    device: str = "cpu",
    threads: int | None = None,
    allow: Iterable[str] = (),
) -> Share:
    """Return the share in the folder `path`.

    Parameters
    ----------
    device
        cpu, cuda, or auto.
    threads
        torch threads while it embeds; default: those of the run, which give the same bits.
    allow
        Dotted paths (``package.module:attribute``) that a share from elsewhere may name.

    A share names its encoder, and its maps. What is built in is data; a dotted path is code, which
    is imported only from the share of a run that lies here whole (``RUN_DIR/shares/CLIENT`` beside
    its `config.yaml`, as trusted as ``run --resume RUN_DIR``), or where `allow` names it. A share
    from elsewhere stays within the limits of a configuration from elsewhere too.

    Raises
    ------
    DataError
        The folder is no share, is damaged, or is of a newer version.
    ConfigError
        Its encoder or maps are not installed here, or not allowed, in which case nothing has been
        imported.
    """
    folder = Path(path)
    try:
        facts, tensors = share_folder.read(folder)
        policy = _policy(folder, facts, tuple(allow))
        with under(policy):
            return Share(facts, tensors, device=device, threads=threads)
    except SheafAlignError as error:
        if str(folder) in str(error):
            raise
        raise type(error)(f"{folder}: {error}") from None


def _policy(folder: Path, facts: ShareFacts, allow: tuple[str, ...]) -> Policy:
    """Return what the share in `folder` may ask of this machine; refuse code that it may not name.

    A policy that is in force already, as a node's, is not widened by where a share lies.
    """
    policy = policy_in_force()
    if policy.own_machine and share_folder.is_of_own_run(folder):
        return policy
    base = STRICT if policy.own_machine else policy
    policy = Policy.of({"allow": [*base.allow, *allow], "limits": base.limits}, "allow")
    for what, name in (("encoder", facts.encoder), ("map family", facts.maps.family)):
        if ":" in name and name not in policy.allow:
            raise ConfigError(
                f"its {what} '{name}' is code, which a share from elsewhere may not name; if you "
                f"trust it, allow it: --allow {name}, or allow=['{name}']"
            )
    return policy


def _new_encoder(facts: ShareFacts) -> nn.Module:
    settings = ClientSettings(
        encoder=facts.encoder, encoder_options=facts.encoder_options, dim=facts.dim
    )
    return build_encoder(facts.client, settings, facts.input_shape)


def _new_maps(facts: ShareFacts, dim: int) -> EdgeMaps:
    return edge_maps(facts.maps, facts.dim, dim, 1.0 if facts.temperature else None)


def _scaling(facts: ShareFacts, tensors: Mapping[str, Tensor]) -> Scaling | None:
    if not facts.scaled:
        return None
    parts = state.below("scaling.", tensors)
    mean, scale = parts["mean"].numpy(), parts["scale"].numpy()
    for part in (mean, scale):
        np.broadcast_shapes(part.shape, facts.event_shape)
        if part.ndim > len(facts.event_shape) or not np.isfinite(part).all():
            raise ValueError("its scaling does not fit its inputs")
    if not (scale != 0).all():
        raise ValueError("its scaling divides by 0")
    return Scaling(mean, scale)
