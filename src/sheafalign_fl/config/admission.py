"""At the door: whether a configuration from elsewhere asks only what this machine's policy allows.

Nothing is imported, opened or made to find that out. What is checked is read off the settings'
schema, so a new setting that names code is checked without a line here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from sheafalign_fl.config.policy import Limits, Policy
from sheafalign_fl.config.registry import Extension
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.errors import ConfigError

_WEIGHTS = (
    *("laplacian", "contrastive", "reconstruction", "cross_reconstruction"),
    *("variance", "covariance", "procrustes"),
)


def admit(settings: Settings, policy: Policy, *, relay: bool = False) -> None:
    """Refuse settings that ask what `policy` does not allow.

    Parameters
    ----------
    relay
        For the relay, which runs neither encoders nor data sources and leaves these to the nodes.

    Raises
    ------
    ConfigError
        The first thing that is not allowed: code, a path that leaves its folder, or an amount.
    """
    if policy.own_machine:
        return
    for place, name, axis in named_code(settings):
        if ":" in name and (axis.on_relay or not relay):
            policy.check_code(name, place)
    if settings.init_from is not None:
        _check_plain(settings.init_from, "init_from")
    if settings.training.epochs is not None:
        raise ConfigError(
            "training.epochs needs the data where the run is started; state training.exchanges"
        )
    for client, own in settings.clients.items():
        _check_plain(own.modality or client, f"clients.{client}.modality")
    for place, asked, most in _amounts(settings, policy.limits):
        if asked > most:
            raise ConfigError(f"{place} asks {asked:g}, but this machine's policy allows {most:g}")
    if settings.objective.temperature < policy.limits.temperature:
        raise ConfigError(
            f"objective.temperature is {settings.objective.temperature:g}, but this machine's "
            f"policy allows {policy.limits.temperature:g} or more"
        )


def named_code(model: BaseModel, place: str = "") -> Iterator[tuple[str, str, Extension]]:
    """Yield (setting, name, axis) for every setting in `model` that can name code."""
    for field, info in type(model).model_fields.items():
        value, where = getattr(model, field), f"{place}{field}"
        axes = [item for item in info.metadata if isinstance(item, Extension)]
        if axes:
            yield where, value, axes[0]
        elif (axis := _axis_inside(info.annotation)) is not None:  # of the keys, or of the items
            yield from ((where, str(name), axis) for name in value)
        for name, inner in _models(value):
            yield from named_code(inner, f"{where}.{name}." if name else f"{where}.")


def _axis_inside(annotation: Any) -> Extension | None:
    """Return what the first part of a mapping's or tuple's type is marked with, if it is marked."""
    first = next(iter(get_args(annotation)), None)
    marks = getattr(first, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Extension)), None)


def _models(value: object) -> Iterator[tuple[str, BaseModel]]:
    if isinstance(value, BaseModel):
        yield "", value
    elif isinstance(value, Mapping):
        yield from ((str(name), item) for name, item in value.items() if _is_model(item))
    elif isinstance(value, tuple):
        yield from ((str(index), item) for index, item in enumerate(value) if _is_model(item))


def _is_model(value: object) -> bool:
    return isinstance(value, BaseModel)


def _check_plain(name: str, place: str) -> None:
    if not name.isprintable() or name in ("", ".", "..") or any(char in name for char in "/\\"):
        raise ConfigError(f"{place}: {name!a} is no plain name; it must not lead out of a folder")


def _amounts(settings: Settings, limits: Limits) -> Iterator[tuple[str, float, float]]:
    """Yield (setting, what is asked, the most that is allowed)."""
    training, objective = settings.training, settings.objective
    steps = training.exchanges * (training.batches * training.local_steps + training.replay)
    remembered = (training.replay_batches or 0) * training.batch_size
    yield "clients", len(settings.clients), limits.clients
    yield "training.exchanges", training.exchanges, limits.exchanges
    yield "training: exchanges x (batches x local_steps + replay)", steps, limits.steps
    yield (
        "training: batches x batch_size",
        training.batches * training.batch_size,
        (limits.batch_events),
    )
    yield "training: replay_batches x batch_size", remembered, limits.replay_events
    yield "training.learning_rate", training.learning_rate, limits.learning_rate
    yield "training.weight_decay", training.weight_decay, limits.weight
    for term in _WEIGHTS:
        yield f"objective.{term}", getattr(objective, term), limits.weight
    yield "objective.terms", _largest(objective.terms), limits.weight
    yield "graph.dim", settings.graph.dim, limits.dim
    for edge in settings.graph.edges:
        yield "graph.edges", edge.dim or 0, limits.dim
    for client, own in settings.clients.items():
        yield f"clients.{client}.dim", own.dim, limits.dim
        yield f"clients.{client}.encoder_options", _largest(own.encoder_options), limits.option
    yield "data.options", _largest(settings.data.options), limits.events
    for name in ("events", "train_events"):
        yield f"evaluation.{name}", getattr(settings.evaluation, name), limits.events
    yield "resources.threads", settings.resources.threads, limits.threads
    yield "checkpoint.keep", settings.checkpoint.keep, limits.checkpoints


def _largest(value: Any) -> float:
    """Return the largest magnitude of a number anywhere inside `value`."""
    if isinstance(value, Mapping):
        return max(map(_largest, value.values()), default=0.0)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return max(len(value), *map(_largest, value)) if value else 0.0
    if isinstance(value, int):  # of any size, and a float holds none above 2^1024
        return float(min(abs(value), 2**1000))
    return abs(value) if isinstance(value, float) else 0.0
