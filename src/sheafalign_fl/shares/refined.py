"""The refinement of an edge (`sheaf.refinement`) in a share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sheafalign_fl.learner import state
from sheafalign_fl.shares.facts import ShareFacts
from sheafalign_fl.sheaf.refinement import Centred, Refinement


def refinement_tensors(found: Refinement) -> dict[str, Tensor]:
    """Return a refinement as tensors, which `refinements_of` reads."""
    ends = {"own": found.own, "received": found.received}
    arrays: dict[str, Any] = {
        f"{end}.{name}": getattr(centred, name)
        for end, centred in ends.items()
        for name in ("mean", "weights")
    }
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}


def refinements_of(facts: ShareFacts, tensors: Mapping[str, Tensor]) -> dict[str, Refinement]:
    """Return neighbour -> its refinement, of a share.

    Raises
    ------
    KeyError, ValueError
        The tensors are not those that the facts tell of.
    """
    found = {}
    for neighbour in facts.refined:
        parts = state.below(f"refined.{neighbour}.", tensors)
        dim = facts.neighbours[neighbour]
        found[neighbour] = Refinement(_centred("own", parts, dim), _centred("received", parts, dim))
    return found


def _centred(end: str, parts: Mapping[str, Tensor], dim: int) -> Centred:
    mean, weights = parts[f"{end}.mean"].numpy(), parts[f"{end}.weights"].numpy()
    if mean.shape != (dim,) or weights.shape != (dim, dim):
        raise ValueError(f"a refined map is not of {dim} values")
    if not (np.isfinite(mean).all() and np.isfinite(weights).all()):
        raise ValueError("a refined map is not finite")
    return Centred(mean, weights)
