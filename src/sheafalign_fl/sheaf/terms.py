"""The objective's terms, one descriptor each, and the objective of an edge as one end sees it.

Whatever names, weighs, computes, stores or draws a term iterates over descriptors, so a further
term is one entry here, or a callable of a user's own named in ``objective.terms``.

Every term needs of the neighbour only the VALUES z_ji. Its gradient with respect to a client's own
parameters is therefore that of the joint objective (arXiv 2510.20540, section III), which is why
decentralised training equals joint training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sheafalign_fl.config.registry import Registry
from sheafalign_fl.config.schema import ObjectiveSettings
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.sheaf.maps import EdgeMaps
from sheafalign_fl.sheaf.objective import (
    contrastive_loss,
    covariance_loss,
    cross_reconstruction_loss,
    laplacian_loss,
    procrustes_loss,
    reconstruction_loss,
    variance_loss,
)

TOTAL = "total"
"""The name under which the weighted sum of all terms stands beside them."""
_TAKEN = {"source", "target", "events", TOTAL}


@dataclass(frozen=True)
class EdgeBatch:
    """What client i knows of its edge to j in one batch of B events: all that a term may use."""

    objective: ObjectiveSettings
    maps: EdgeMaps
    """P_ij and Q_ij."""
    h: Tensor
    """h_i, shape (B, d_i)."""
    z: Tensor
    """z_ij = P_ij h_i, shape (B, d_e)."""
    received: Tensor
    """z_ji, shape (B, d_e), as it arrived; a constant."""
    group: Tensor | None = None
    """The edge's share of a contrast of all clients at once (`sheafalign_fl.sheaf.group`), which
    then stands for the edge's own."""
    same: Tensor | None = None
    """Pairs of events that are no negatives of each other, (B, B), see `contrastive_loss`."""


Compute = Callable[[EdgeBatch], Tensor]
"""A term's value on one batch, a scalar: the mean over its events."""


@dataclass(frozen=True)
class LossTerm:
    """One term of the objective."""

    name: str
    """In rows, and of the setting ``objective.NAME`` that weighs it, if it is a built-in one."""
    title: str
    """In plots and reports."""
    formula: str
    """What it computes, as text."""
    compute: Compute
    of_edge: bool = False
    """Whether both ends compute the same value out of z_ij and z_ji, so that the edge has it once;
    otherwise it is one end's own, to which the neighbour's z_ji is a constant."""
    shown: bool = False
    """Whether rows hold it also where its weight is 0."""
    qualifier: str | None = None
    """A setting ``objective.QUALIFIER_NAME`` that adds this word to the title where it is true."""
    random: bool = False
    """Whether it may draw random numbers."""

    def words(self, objective: ObjectiveSettings) -> str:
        """Return the term's title as `objective` has it."""
        if self.qualifier and getattr(objective, f"{self.qualifier}_{self.name}"):
            return f"{self.qualifier} {self.title}"
        return self.title


@dataclass(frozen=True)
class WeightedTerm:
    """A term and its weight in one objective."""

    term: LossTerm
    weight: float


@dataclass(frozen=True)
class EdgeTerms:
    """The terms of one edge as one end sees it."""

    values: Mapping[str, Tensor]
    """Name -> unweighted value, a scalar."""
    total: Tensor
    """The weighted sum."""

    def numbers(self) -> dict[str, float]:
        """Return name -> value, the total last."""
        together = torch.stack([*self.values.values(), self.total])
        return dict(zip([*self.values, TOTAL], together.tolist(), strict=True))


def _contrastive(edge: EdgeBatch) -> Tensor:
    if edge.group is not None:
        return edge.group
    tau = edge.maps.temperature(edge.objective.temperature)
    smoothing = edge.objective.label_smoothing
    return contrastive_loss(edge.z, edge.received, tau, edge.same, smoothing)


_BUILT_IN = (
    LossTerm(
        "laplacian",
        "Laplacian",
        "mean_b ||z_ij - z_ji||^2 (arXiv 2510.20540, section III: h^T L h of one edge)",
        lambda edge: laplacian_loss(
            edge.z, edge.received, normalised=edge.objective.normalised_laplacian
        ),
        of_edge=True,
        shown=True,
        qualifier="normalised",
    ),
    LossTerm(
        "contrastive",
        "contrastive",
        "symmetric InfoNCE over cos(z_ij, z_ji) / tau (arXiv 2510.20540, section III)",
        _contrastive,
        of_edge=True,
        shown=True,
    ),
    LossTerm(
        "reconstruction",
        "reconstruction",
        "MSE(Q_ij z_ij, h_i) (arXiv 2510.20540, section III)",
        lambda edge: reconstruction_loss(
            edge.maps, edge.z, edge.h, stop_gradient=edge.objective.stop_gradient
        ),
        shown=True,
    ),
    LossTerm(
        "cross_reconstruction",
        "cross reconstruction",
        "MSE(Q_ij z_ji, h_i), gradient to Q_ij alone",
        lambda edge: cross_reconstruction_loss(edge.maps, edge.received, edge.h),
        shown=True,
    ),
    LossTerm(
        "variance",
        "variance",
        "mean_k max(0, 1 - deviation of z_ij,k) (arXiv 2105.04906, equation 1)",
        lambda edge: variance_loss(edge.z),
    ),
    LossTerm(
        "covariance",
        "covariance",
        "sum_{k != l} cov(z_ij,k, z_ij,l)^2 / d_e (arXiv 2105.04906, equation 4)",
        lambda edge: covariance_loss(edge.z),
    ),
    LossTerm(
        "procrustes",
        "Procrustes",
        "min over orthogonal R of mean_b ||z_ij - R z_ji||^2 (Sheaf-FRL)",
        lambda edge: procrustes_loss(edge.z, edge.received),
        of_edge=True,
    ),
)
"""In the order in which they are added up, which decides the last bits."""


def _own_term(path: str, made: Any) -> LossTerm:
    """Return the term that a class or function of the user's own is."""
    try:
        compute = made() if isinstance(made, type) else made
    except Exception as error:  # whatever the user's own code raises
        raise TypeError(f"it cannot be made: {error}") from None
    if not callable(compute):
        raise TypeError("an object of the class cannot be called with an EdgeBatch")
    name = str(getattr(compute, "name", path.rpartition(":")[2]))
    if name in _TAKEN or any(name == term.name for term in _BUILT_IN):
        raise TypeError(f"its name '{name}' is taken; give it another `name`")
    about = " ".join((getattr(made, "__doc__", None) or "").split())
    return LossTerm(name, name.replace("_", " "), about, _checked(compute, path), random=True)


LOSS_TERMS: Registry[LossTerm] = Registry(
    "objective term", {term.name: term for term in _BUILT_IN}, _own_term
)
"""The terms of the objective by name; others are found by their dotted path."""


def title_of(name: str) -> str:
    """Return the title of the term `name` of a row, which may be a term of somebody else's own."""
    term = LOSS_TERMS.get(name)
    return name.replace("_", " ") if term is None else term.title


def weights_in_words(objective: ObjectiveSettings) -> list[tuple[str, float]]:
    """Return (term in words, weight) of all that `objective` weighs; own terms are not imported."""
    built_in = [
        (term.words(objective), getattr(objective, term.name, 0.0)) for term in LOSS_TERMS.values()
    ]
    return [(words, weight) for words, weight in [*built_in, *objective.terms.items()] if weight]


def weighted_terms(objective: ObjectiveSettings) -> tuple[WeightedTerm, ...]:
    """Return the terms that `objective` weighs, and those that rows show anyway.

    Raises
    ------
    ConfigError
        ``objective.terms`` names no term, one that has a setting of its own, or one name twice.
    """
    found = [
        WeightedTerm(term, weight)
        for term in LOSS_TERMS.values()
        if (weight := getattr(objective, term.name, 0.0)) > 0 or term.shown
    ]
    for key, weight in objective.terms.items():
        term = _further_term(key)
        if term.name in {other.term.name for other in found}:
            raise ConfigError(f"objective.terms: two terms are named '{term.name}'")
        found.append(WeightedTerm(term, weight))
    return tuple(found)


def _further_term(key: str) -> LossTerm:
    """Return the term that ``objective.terms`` names: an entry of `LOSS_TERMS`, or a path."""
    where = f"objective.terms: '{key}'"
    if key in ObjectiveSettings.model_fields:
        raise ConfigError(f"{where} has a setting of its own: set objective.{key}")
    if ":" not in key and key not in LOSS_TERMS:
        raise ConfigError(
            f"{where} is no term; give package.module:TERM, a class or function that takes an "
            "EdgeBatch and returns a scalar"
        )
    return LOSS_TERMS.resolve(key, "objective.terms")


def _checked(compute: Compute, where: str) -> Compute:
    """Return `compute`, but for a clear refusal of what is no scalar."""

    def checked(edge: EdgeBatch) -> Tensor:
        value = compute(edge)
        if not isinstance(value, Tensor) or value.ndim:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"{where} must return a scalar tensor, but returned {shape}")
        return value

    return checked


def edge_terms(terms: Sequence[WeightedTerm], edge: EdgeBatch) -> EdgeTerms:
    """Return all `terms` of one edge and their weighted sum; what was received is a constant.

    Notes
    -----
    A term of weight 0 is computed without gradient: it is shown, and a gradient of 0 would still
    let Adam move weights and decay them.
    """
    edge = replace(edge, received=edge.received.detach())
    values: dict[str, Tensor] = {}
    total = edge.h.new_zeros(())
    for term, weight in ((weighted.term, weighted.weight) for weighted in terms):
        with torch.set_grad_enabled(weight > 0 and torch.is_grad_enabled()):
            values[term.name] = term.compute(edge)
        if weight > 0:
            total = total + weight * values[term.name]
    return EdgeTerms(values, total)


def joint_edge_terms(terms: Sequence[WeightedTerm], one: EdgeBatch, other: EdgeBatch) -> Tensor:
    """Return the weighted sum of both ends' terms of an edge, with gradients to both of them.

    `one` and `other` are the edge from its two ends: what one received is what the other made.
    """
    weighted = [pair for pair in terms if pair.weight > 0]
    values = [pair.weight * pair.term.compute(one) for pair in weighted if pair.term.of_edge]
    for end in (one, other):
        constant = replace(end, received=end.received.detach())
        values += [
            pair.weight * pair.term.compute(constant) for pair in weighted if not pair.term.of_edge
        ]
    return sum(values, one.h.new_zeros(()))
