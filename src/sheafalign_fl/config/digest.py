"""The digest by which the clients of a federation know that they have the same settings."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

LATER = frozenset(
    {
        "objective.false_negatives",
        "objective.variance",
        "objective.covariance",
        "objective.procrustes",
        "objective.label_smoothing",
        "objective.terms",
        "training.replay",
        "training.replay_from",
        "training.replay_batches",
        "training.warmup",
        "training.clip",
        "training.min_clients",
        "training.epochs",
        "training.patience",
        "evaluation.refine",
        "clients.freeze",
        "init_from",
    }
)
"""The settings that the first digests did not know; see docs/compatibility.md."""


def digest_of(settings: BaseModel, also: Mapping[str, Any] | None = None) -> str:
    """Return the SHA-256 (64 hex digits) of all of `Settings` on which the clients have to agree.

    Left out is what only concerns a machine: engine, resources, checkpoints, devices, data paths,
    and the names of the experiment and of the method, whose settings are all there. A setting that
    was added later (`LATER`) counts where it is not at its default, so that a configuration of
    before keeps its digest. What `also` says counts too.
    """
    shared = settings.model_dump(
        mode="json", exclude={"name", "engine", "method", "resources", "checkpoint"}
    )
    for client in shared["clients"].values():
        del client["device"]
        if client.pop("features") is not None:  # where the file lies is the machine's affair
            client["features"] = True
    del shared["data"]["path"]
    shared |= also or {}
    _leave_out_later(shared, settings)
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _leave_out_later(shared: dict[str, Any], settings: BaseModel, within: str = "") -> None:
    """Delete from `shared`, the settings as they are dumped, those of `LATER` at their default."""
    for name, field in type(settings).model_fields.items():
        value, place = getattr(settings, name), f"{within}{name}"
        if name not in shared:
            continue
        if place in LATER and value == field.get_default(call_default_factory=True):
            del shared[name]
        elif isinstance(value, BaseModel):
            _leave_out_later(shared[name], value, f"{place}.")
        elif isinstance(value, dict):
            for key, one in value.items():
                if isinstance(one, BaseModel):
                    _leave_out_later(shared[name][key], one, f"{place}.")
