"""Training in one process, written from DESIGN sections 2 and 3.

It is independent of the round loop and of `Node.step`. `joint_training`: all clients' modules in
one place, one backward pass through all of them, one optimiser for all of them.
`simulated_protocol`: every client with an optimiser of its own and its neighbours' values as
constants, for the options under which a federation is not joint training. Both share with the
federation only the initial weights, the order of the events and the data; losses and steps are
written here from the equations.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import permutations

import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.learner.factories import new_encoder, new_maps
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.replay import replayed
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.protocol.topology import build_topology

Weights = dict[str, dict[str, Tensor]]
Code = Callable[[Tensor], Tensor]
"""What a codec makes of an array on its way: decode(encode(.))."""


@dataclass
class World:
    """Initial weights, data and order of events; nothing here learns or sends."""

    settings: Settings
    clients: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    encoders: dict[str, torch.nn.Module] = field(default_factory=dict)
    maps: dict[tuple[str, str], torch.nn.Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings, topology = self.settings, build_topology(self.settings)
        self.dtype = torch.float64 if settings.training.dtype == "float64" else torch.float32
        self.clients = tuple(topology.clients)
        self.edges = tuple((edge.source, edge.target) for edge in topology.edges)
        data = {client: client_data(client, settings) for client in self.clients}
        self.encoders = {
            c: new_encoder(c, settings, data[c].input_shape, data[c].encoder).to(self.dtype)
            for c in self.clients
        }
        self.maps = {
            (c, n): new_maps(c, n, dim, settings).to(self.dtype)
            for c in self.clients
            for n, dim in topology.neighbours(c).items()
        }
        if settings.maps.family == "shared":
            one = {c: new_maps(c, "", settings.graph.dim, settings) for c in self.clients}
            self.maps = {(c, n): one[c].to(self.dtype) for c, n in self.maps}
        self.events: dict[str, dict[object, Tensor]] = {
            c: {
                event: torch.from_numpy(x.copy())
                for event, x in zip(d.event_ids.tolist(), d.x, strict=True)
            }
            for c, d in data.items()
        }
        self._ids = check(settings).agreement.lists["train"]
        self._schedule = BatchSchedule(len(self._ids), settings.training.batch_size, settings.seed)
        self.exchanges = BatchSchedule.of(settings.training, len(self._ids), settings.seed)

    def batch(self, number: int) -> list[object]:
        """Return the events of the `number`th batch since the start."""
        events: list[object] = self._ids[self._schedule.positions(number)].tolist()
        return events

    def batches(self, exchange: int) -> list[list[object]]:
        """Return the batches of one exchange."""
        count = self.settings.training.batches
        return [self.batch(exchange * count + index) for index in range(count)]

    def common(self, batch: Sequence[object], *clients: str) -> list[object]:
        """Return the events of `batch` that all of `clients` have.

        None where it is only one, which has no negative.
        """
        events = [
            event for event in batch if all(event in self.events[client] for client in clients)
        ]
        return events if len(events) >= 2 else []

    def h(self, client: str, events: Sequence[object]) -> Tensor:
        embedded: Tensor = self.encoders[client](
            torch.stack([self.events[client][e] for e in events]).to(self.dtype)
        )
        return embedded

    def same(self, events: Sequence[object]) -> Tensor | None:
        """Return which pairs of events are equal to some client or share samples, if masked."""
        if self.settings.objective.false_negatives == "keep":
            return None
        span = int(self.settings.data.options.get("span", 1))
        mask = torch.zeros(len(events), len(events), dtype=torch.bool)
        for a, b in permutations(range(len(events)), 2):
            one, other = events[a], events[b]
            near = isinstance(one, int) and isinstance(other, int) and abs(one - other) < span
            mask[a, b] = near or any(
                one in seen and other in seen and torch.equal(seen[one], seen[other])
                for seen in self.events.values()
            )
        return mask

    def neighbours(self, client: str) -> list[str]:
        return [j if i == client else i for i, j in self.edges if client in (i, j)]

    def matrices(self, client: str, neighbour: str) -> tuple[Tensor, Tensor]:
        """Return P_ij and Q_ij."""
        if self.settings.maps.family == "identity":
            identity = torch.eye(self.settings.clients[client].dim, dtype=self.dtype)
            return identity, identity
        maps = self.maps[client, neighbour]
        P, Q = maps.P, maps.Q
        assert isinstance(P, Tensor)
        assert isinstance(Q, Tensor)
        return P, Q

    def log_tau(self, client: str, neighbour: str) -> torch.nn.Parameter:
        parameter = self.maps[client, neighbour].log_temperature
        assert isinstance(parameter, torch.nn.Parameter)
        return parameter

    def tau(self, client: str, neighbour: str) -> Tensor:
        objective = self.settings.objective
        if objective.learnable_temperature:
            return self.log_tau(client, neighbour).exp()
        return torch.tensor(objective.temperature, dtype=self.dtype)

    def weights(self) -> Weights:
        weights: Weights = {
            c: dict(_state("encoder.", encoder)) for c, encoder in self.encoders.items()
        }
        for (client, neighbour), module in self.maps.items():
            weights[client].update(_state(f"maps.{neighbour}.", module))
        return weights

    def learner(
        self,
        parameters: Sequence[torch.nn.Parameter],
        owned: Sequence[Sequence[torch.nn.Parameter]] = (),
    ) -> "Learner":
        return Learner(self.settings, parameters, owned)


class Learner:
    """An optimiser and its learning rate, as torch does it; a temperature is never decayed."""

    def __init__(
        self,
        settings: Settings,
        parameters: Sequence[torch.nn.Parameter],
        owned: Sequence[Sequence[torch.nn.Parameter]] = (),
    ) -> None:
        """Optimise `parameters`; `owned` says which of them belong to one client, if not all do."""
        training = settings.training
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[
            training.optimiser
        ]
        groups = [
            {
                "params": [p for p in parameters if p.dim() > 0],
                "weight_decay": training.weight_decay,
            },
            {"params": [p for p in parameters if p.dim() == 0], "weight_decay": 0.0},
        ]
        self._optimiser: torch.optim.Optimizer = kind(groups, lr=training.learning_rate)
        self._clip, self._owned = training.clip, owned or [parameters]
        rising = round(training.warmup * training.exchanges)
        after: LRScheduler = ConstantLR(self._optimiser, factor=1.0, total_iters=0)
        if training.decay == "cosine":
            after = CosineAnnealingLR(self._optimiser, T_max=training.exchanges - rising)
        self._rate = after
        if rising:
            rise = LinearLR(self._optimiser, start_factor=1 / (rising + 1), total_iters=rising)
            self._rate = SequentialLR(self._optimiser, [rise, after], milestones=[rising])

    def step(self, total: Tensor) -> None:
        self._optimiser.zero_grad()
        if total.requires_grad:
            total.backward()  # type: ignore[no-untyped-call]
            for own in self._owned:
                self._shorten([p.grad for p in own if p.dim() > 0 and p.grad is not None])
            self._optimiser.step()

    def _shorten(self, gradients: Sequence[Tensor]) -> None:
        """Scale one client's gradients so that together they are no longer than the limit.

        As torch does it, which adds 1e-6 to the length.
        """
        length = float(sum((g**2).sum() for g in gradients)) ** 0.5
        if self._clip is not None and length + 1e-6 > self._clip:
            for gradient in gradients:
                gradient.mul_(self._clip / (length + 1e-6))

    def end_of_exchange(self) -> None:
        with warnings.catch_warnings():  # torch's own SequentialLR warns of how it steps others
            warnings.simplefilter("ignore")
            self._rate.step()


# ---- the equations -------------------------------------------------------------------------------


def unit(z: Tensor) -> Tensor:
    """Return the rows of z at length 1."""
    scaled: Tensor = z / z.norm(dim=1, keepdim=True)
    return scaled


def nce(similarity: Tensor, smoothing: float, same: Tensor | None = None) -> Tensor:
    """Return the symmetric InfoNCE of logits (B, B), positives on the diagonal, targets smoothed.

    What is the `same` event twice is neither a negative nor a target.
    """
    count = len(similarity)
    there = torch.ones_like(similarity) if same is None else (~same).to(similarity.dtype)
    wanted = (1 - smoothing) * torch.eye(count, dtype=similarity.dtype)
    wanted = wanted + smoothing * there / there.sum(1, keepdim=True)
    similarity = torch.where(there > 0, similarity, -1e30)
    loss = torch.zeros((), dtype=similarity.dtype)
    for logits in (similarity, similarity.T):
        surprise = logits.logsumexp(1, keepdim=True) - logits
        loss = loss + (wanted * surprise).sum(1).mean() / 2
    return loss


def aligned(
    settings: Settings, z_i: Tensor, z_j: Tensor, tau: Tensor, same: Tensor | None = None
) -> Tensor:
    """Return what the two ends of an edge share: lambda Laplacian + beta contrastive.

    `same`: pairs (B, B) that are no negatives of each other.
    """
    w = settings.objective
    a, b = (unit(z_i), unit(z_j)) if w.normalised_laplacian else (z_i, z_j)
    total = weighted(w.laplacian, ((a - b) ** 2).sum(1).mean())
    if w.procrustes:
        total = total + w.procrustes * best_rotated(z_i, z_j)
    if w.contrast == "pairs":
        similarity = unit(z_i) @ unit(z_j).T / tau
        total = total + weighted(w.contrastive, nce(similarity, w.label_smoothing, same))
    return total


def best_rotated(z_i: Tensor, z_j: Tensor) -> Tensor:
    """Return the mean square distance after the best rotation R, a constant (scipy's).

    Expanded: ||z_i||^2 + ||z_j||^2 - 2 <z_i, R z_j>.
    """
    R = torch.from_numpy(orthogonal_procrustes(z_j.detach().numpy(), z_i.detach().numpy())[0].T)
    inner = torch.stack([a @ R @ b for a, b in zip(z_i, z_j, strict=True)])
    return ((z_i**2).sum(1) + (z_j**2).sum(1) - 2 * inner).mean()


def rebuilt(settings: Settings, P: Tensor, Q: Tensor, h: Tensor, z_other: Tensor) -> Tensor:
    """Return the reconstruction terms of one end of an edge."""
    w = settings.objective
    own = (
        (h.detach() @ P.detach().T @ Q.T - h.detach()) if w.stop_gradient else (h @ P.T @ Q.T - h)
    ) ** 2
    cross = (z_other.detach() @ Q.T - h.detach()) ** 2
    total = weighted(w.reconstruction, own.mean()) + weighted(w.cross_reconstruction, cross.mean())
    total = total + weighted(w.terms.get("tests.toy:shrinking", 0.0), (h**2).mean())
    return total + spread(settings, h @ P.T)


def spread(settings: Settings, z: Tensor) -> Tensor:
    """Return the variance and covariance terms of one end's z, dimension by dimension."""
    w, (count, dims) = settings.objective, z.shape
    apart = [z[:, k] - z[:, k].sum() / count for k in range(dims)]
    moments = [[(a * b).sum() / (count - 1) for b in apart] for a in apart]
    hinges = [(1 - (moments[k][k] + 1e-4).sqrt()).clamp(min=0) for k in range(dims)]
    mixed = [moments[k][m] ** 2 for k in range(dims) for m in range(dims) if k != m]
    nothing = torch.zeros((), dtype=z.dtype)
    return weighted(w.variance, sum(hinges, nothing) / dims) + weighted(
        w.covariance, sum(mixed, nothing) / dims
    )


def weighted(weight: float, term: Tensor) -> Tensor:
    """Return weight * term; a term of weight 0 is not there, so has no gradient, not even 0.

    That makes a difference to Adam, which moves weights with a gradient of 0 by its momentum.
    """
    return weight * term if weight > 0 else term.detach() * 0


def group_loss(settings: Settings, embeddings: Sequence[Tensor]) -> Tensor:
    """Return the contrastive term that compares all clients, one event at a time."""
    tau, units = settings.objective.temperature, [unit(z) for z in embeddings]
    smoothing = settings.objective.label_smoothing
    events = range(len(units[0]))
    if settings.objective.contrast == "centroid":
        sums = [torch.stack([u[b] for u in units]).sum(0) for b in events]
        centroids = [s / s.norm() for s in sums]
        logits = [
            torch.stack([torch.stack([c @ u[b] for b in events]) for c in centroids]) / tau
            for u in units
        ]
        return torch.stack([nce(matrix, smoothing) for matrix in logits]).sum()
    if settings.objective.contrast == "area":
        return nce(triangles(*units) / -tau, smoothing)
    if settings.objective.contrast == "product":
        return multilinear(units, tau, smoothing)
    anchor, *others = units
    # One Gram determinant for every pair (anchor's event, others' event), by Leibniz's formula.
    inner = {(0, 0): torch.ones(len(anchor), len(anchor), dtype=anchor.dtype)}
    for k, u in enumerate(others, start=1):
        inner[0, k] = inner[k, 0] = anchor @ u.T
        for m, v in enumerate(others, start=1):
            inner[k, m] = (u * v).sum(1).expand(len(anchor), -1)
    determinant = torch.zeros_like(inner[0, 0])
    for order in permutations(range(len(units))):
        inversions = sum(
            order[a] > order[b] for a in range(len(order)) for b in range(a + 1, len(order))
        )
        product = torch.ones_like(determinant)
        for row, column in enumerate(order):
            product = product * inner[row, column]
        determinant = determinant + (-1) ** inversions * product
    return nce(-(determinant.clamp(min=0) + 1e-6).sqrt() / tau, smoothing)


def triangles(anchor: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return areas (B, B) of triangles anchor b, one c, other c by the lengths of their sides.

    Heron: 16 A^2 = 4 a^2 b^2 - (a^2 + b^2 - c^2)^2.
    """
    rows = []
    for x in anchor:
        areas = []
        for y, z in zip(one, other, strict=True):
            a, b, c = ((x - y) ** 2).sum(), ((x - z) ** 2).sum(), ((y - z) ** 2).sum()
            squared = (4 * a * b - (a + b - c) ** 2) / 4
            areas.append((squared.clamp(min=0) + 1e-6).sqrt() / 2)
        rows.append(torch.stack(areas))
    return torch.stack(rows)


def multilinear(units: Sequence[Tensor], tau: float, smoothing: float) -> Tensor:
    """Return Symile's loss, an anchor, an event and a negative at a time."""
    events, dim = units[0].shape
    scale, losses = dim ** (len(units) / 2 - 1) / tau, []
    for anchor in range(len(units)):
        others = [k for k in range(len(units)) if k != anchor]
        for b in range(events):
            logits = []
            for c in range(events):
                product = units[anchor][b]
                for shift, k in enumerate(others):
                    product = product * units[k][b if c == b else (c - shift) % events]
                logits.append(scale * product.sum())
            surprise = torch.stack(logits).logsumexp(0) - torch.stack(logits)
            losses.append((1 - smoothing) * surprise[b] + smoothing * surprise.mean())
    return torch.stack(losses).mean()


# ---- joint training ------------------------------------------------------------------------------


def joint_training(settings: Settings, start: Weights | None = None) -> Weights:
    """Return client -> name -> final weights of joint training; an edge's tau is one parameter.

    `start` are weights to begin with; of clients that the settings freeze they have no gradient.
    """
    world = World(settings)
    _begin_with(world, start or {})
    parameters = [p for encoder in world.encoders.values() for p in encoder.parameters()]
    for (i, j), maps in world.maps.items():
        parameters += [p for p in maps.parameters() if p.dim() > 0]
        if settings.objective.learnable_temperature and (i, j) in world.edges:
            parameters.append(world.log_tau(i, j))
    parameters = [p for p in dict.fromkeys(parameters) if p.requires_grad]  # edges may share some
    learner = world.learner(parameters, [list(_own(world, client)) for client in world.clients])
    for exchange in range(settings.training.exchanges):
        for _ in range(settings.training.local_steps):
            for batch in world.batches(exchange):
                learner.step(joint_objective(world, batch))
        learner.end_of_exchange()
    weights = world.weights()
    if settings.objective.learnable_temperature:
        for i, j in world.edges:
            weights[j][f"maps.{i}.log_temperature"] = weights[i][f"maps.{j}.log_temperature"]
    return weights


def _begin_with(world: World, start: Weights) -> None:
    """Take over weights by name, and take those of frozen clients out of the gradient."""
    for client, weights in start.items():
        modules = {"encoder.": world.encoders[client]}
        modules |= {f"maps.{n}.": world.maps[client, n] for n in world.neighbours(client)}
        for prefix, module in modules.items():
            for name, parameter in module.named_parameters():
                if f"{prefix}{name}" in weights:
                    parameter.data = weights[f"{prefix}{name}"].clone()
                    parameter.requires_grad = not world.settings.clients[client].freeze


def joint_objective(world: World, batch: Sequence[object]) -> Tensor:
    """Return the objective of the whole graph on one batch, all ends' reconstructions included."""
    total, settings = torch.zeros((), dtype=world.dtype), world.settings
    for i, j in world.edges:
        if events := world.common(batch, i, j):
            h_i, h_j = world.h(i, events), world.h(j, events)
            (P_ij, Q_ij), (P_ji, Q_ji) = world.matrices(i, j), world.matrices(j, i)
            z_i, z_j = h_i @ P_ij.T, h_j @ P_ji.T
            total = total + aligned(settings, z_i, z_j, world.tau(i, j), world.same(events))
            total = (
                total
                + rebuilt(settings, P_ij, Q_ij, h_i, z_j)
                + rebuilt(settings, P_ji, Q_ji, h_j, z_i)
            )
    if settings.objective.contrast != "pairs" and (events := world.common(batch, *world.clients)):
        together = [
            world.h(client, events) @ world.matrices(client, world.neighbours(client)[0])[0].T
            for client in world.clients
        ]
        total = total + settings.objective.contrastive * group_loss(settings, together)
    return total


# ---- the protocol --------------------------------------------------------------------------------

Mail = dict[tuple[str, str], list[dict[object, Tensor]]]
"""(source, destination) -> batch -> event -> z as it arrives."""


class Post:
    """What travels: z of every edge's events, through a codec, with what it lost of one before."""

    def __init__(self, world: World, code: Code) -> None:
        self._world, self._code = world, code
        self.lost: dict[tuple[str, str, object], Tensor] = {}
        self.sent: list[Mail] = []

    @torch.no_grad()
    def carry(self, exchange: int) -> Mail:
        """Return all frames of `exchange`, made with the weights as they are now."""
        mail: Mail = {}
        for i, j in [*self._world.edges, *((j, i) for i, j in self._world.edges)]:
            lost: dict[tuple[str, str, object], Tensor] = {}
            mail[i, j] = []
            for batch in self._world.batches(exchange):
                frame = mail[i, j]
                frame.append(
                    {e: self._arrives((i, j, e), lost) for e in self._world.common(batch, i, j)}
                )
            self.lost |= lost
        self.sent.append(mail)
        return mail

    def _arrives(
        self, key: tuple[str, str, object], lost: dict[tuple[str, str, object], Tensor]
    ) -> Tensor:
        """Return what j gets of i's embedding of an event; `lost` gathers what to add next time."""
        i, j, event = key
        z = (self._world.h(i, [event]) @ self._world.matrices(i, j)[0].T)[0]
        if not self._world.settings.training.error_feedback:
            return self._code(z)
        nothing = torch.zeros_like(z)
        wanted = z + self.lost.pop(key, nothing)
        arrives = self._code(wanted)
        lost[key] = lost.get(key, nothing) + (wanted - arrives)
        return arrives


def simulated_protocol(
    settings: Settings,
    code: Code = lambda z: z,
    failing: Mapping[str, Set[int]] | None = None,
) -> tuple[Weights, Post]:
    """Return the weights after a federation in plain torch, and everything that was sent in it.

    `failing` says in which exchanges a client neither steps nor sends the next embeddings.
    """
    world, training, failing = World(settings), settings.training, failing or {}
    post = Post(world, code)
    learners = {client: world.learner(list(_own(world, client))) for client in world.clients}
    kept: dict[str, Kept] = {client: {} for client in world.clients}
    following, there = post.carry(0), set(world.clients)
    for exchange in range(training.exchanges):
        arrived, more = following, exchange + 1 < training.exchanges
        if training.stale and more:
            following = post.carry(exchange + 1)  # before anybody steps
        at_work = {c for c in world.clients if exchange not in failing.get(c, set())}
        for client, learner in learners.items():
            theirs = [_theirs(world, client, arrived, there, k) for k in range(training.batches)]
            if client in at_work and any(theirs):
                _steps_of(world, client, learner, exchange, theirs, kept[client])
            learner.end_of_exchange()
        there = at_work
        if not training.stale and more:
            following = post.carry(exchange + 1)
    return world.weights(), post


Kept = dict[int, dict[str, Tensor]]
"""Number of a batch -> neighbour -> what it sent of it."""


def _steps_of(
    world: World,
    client: str,
    learner: Learner,
    exchange: int,
    theirs: Sequence[dict[str, Tensor]],
    kept: Kept,
) -> None:
    """Take one client's steps of an exchange: on its batches, then on past ones."""
    training = world.settings.training
    for _ in range(training.local_steps):
        for batch, constants in zip(world.batches(exchange), theirs, strict=True):
            learner.step(_own_objective(world, client, batch, constants))
    for number in replayed(world.settings, world.exchanges, exchange):
        constants = kept.get(number, {})
        learner.step(_own_objective(world, client, world.batch(number), constants))
    for k, constants in enumerate(theirs):
        kept[exchange * training.batches + k] = constants


def _theirs(
    world: World, client: str, arrived: Mail, there: Set[str], number: int
) -> dict[str, Tensor]:
    """Return neighbour -> what `client` got of one batch: both ends of the edge have sent."""
    return {
        n: torch.stack(list(arrived[n, client][number].values())).to(world.dtype)
        for n in world.neighbours(client)
        if arrived[n, client][number] and {n, client} <= there
    }


def _own(world: World, client: str) -> Iterator[torch.nn.Parameter]:
    own = list(world.encoders[client].parameters())
    for neighbour in world.neighbours(client):
        own += world.maps[client, neighbour].parameters()
    yield from dict.fromkeys(own)


def _own_objective(
    world: World, client: str, batch: Sequence[object], theirs: Mapping[str, Tensor]
) -> Tensor:
    """Return the part of the objective in which `client` has parameters.

    Its neighbours' values are constants.
    """
    total, settings = torch.zeros((), dtype=world.dtype), world.settings
    for neighbour, z_other in theirs.items():
        h = world.h(client, world.common(batch, client, neighbour))
        P, Q = world.matrices(client, neighbour)
        same = world.same(world.common(batch, client, neighbour))
        total = total + aligned(settings, h @ P.T, z_other, world.tau(client, neighbour), same)
        total = total + rebuilt(settings, P, Q, h, z_other)
    if settings.objective.contrast != "pairs" and (events := world.common(batch, *world.clients)):
        together = []
        for other in world.clients:
            if other == client:
                P = world.matrices(client, next(iter(theirs)))[0]  # to all the same
                together.append(world.h(client, events) @ P.T)
            else:
                both = world.common(batch, client, other)
                together.append(torch.stack([theirs[other][both.index(event)] for event in events]))
        total = total + settings.objective.contrastive * group_loss(settings, together)
    return total


def largest_difference(
    weights: Mapping[str, Mapping[str, Tensor]], others: Mapping[str, Mapping[str, Tensor]]
) -> float:
    """Return the largest absolute difference of any weight; the names must be the same."""
    assert {(c, n) for c in weights for n in weights[c]} == {
        (c, n) for c in others for n in others[c]
    }
    return max(
        float((weights[c][n] - others[c][n]).abs().max()) for c in weights for n in weights[c]
    )


def _state(prefix: str, module: torch.nn.Module) -> list[tuple[str, Tensor]]:
    return [(prefix + name, value.detach().clone()) for name, value in module.state_dict().items()]
