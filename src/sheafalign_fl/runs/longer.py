"""Going on longer with a run than it was asked to, to the weights of one that was longer at once.

That is possible where the past would have been the same: nothing that was done may depend on how
long the run was to be.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.config.methods import merge
from sheafalign_fl.config.schema import TrainingSettings
from sheafalign_fl.errors import UserError

CHANGEABLE = ("exchanges", "patience")
"""Settings of training that a run may be resumed with other values of."""


def lengthened(before: Settings, changes: Mapping[str, Any], done: int) -> Settings:
    """Return the settings with which a run goes on.

    Parameters
    ----------
    before
        With which it ran until now.
    changes
        A mapping of settings, such as ``{"training": {"exchanges": 900}}``.
    done
        Exchanges that its last checkpoint was saved after.

    Raises
    ------
    UserError
        Something else is to be changed, the run is to become shorter, or its past would have been
        another one had it been that long from the start.
    """
    asked = changes.get("training")
    if set(changes) != {"training"} or not isinstance(asked, Mapping) or set(asked) - {*CHANGEABLE}:
        names = " and ".join(f"training.{name}" for name in CHANGEABLE)
        raise UserError(
            f"a run is resumed as it was configured; only {names} may be changed. For anything "
            "else start a new run with --init-from"
        )
    after = parse_settings(merge(before.model_dump(mode="json"), changes))
    for problem in _problems(before, after, done):
        raise UserError(f"{problem}; start a new run with --init-from instead")
    return after


def check_same_but_longer(before: Settings, after: Settings, done: int) -> None:
    """Refuse to go on with settings that differ in more than `lengthened` allows."""
    changes = {
        name: getattr(after.training, name)
        for name in CHANGEABLE
        if getattr(after.training, name) != getattr(before.training, name)
    }
    expected = lengthened(before, {"training": changes}, done) if changes else before
    if expected.digest() != after.digest():
        raise UserError(
            "the run was configured otherwise; resume it with the configuration in its folder"
        )


def _problems(before: Settings, after: Settings, done: int) -> Iterator[str]:
    old, new = before.training, after.training
    if new.exchanges < old.exchanges:
        yield f"training.exchanges: {new.exchanges} is less than the run's {old.exchanges}"
    if new.exchanges == old.exchanges:
        return
    longer = f"training.exchanges: {new.exchanges} instead of {old.exchanges}"
    if before.engine == "pooled":
        yield f"{longer}: engine pooled has trained in one go and cannot go on"
    if old.decay != "none" and done:
        yield (
            f"{longer}: the learning rate has fallen along a {old.decay} over {old.exchanges} "
            "exchanges, so a longer run would have had other rates from the start"
        )
    if done > min(_rising(old), _rising(new)) and _rising(old) != _rising(new):
        yield f"{longer}: training.warmup is a fraction of all exchanges, and is over"
    if old.replay and _quiet(old) != _quiet(new) and done > min(_quiet(old), _quiet(new)):
        yield f"{longer}: training.replay_from is a fraction of all exchanges, and has begun"
    if old.stale and done >= old.exchanges:
        yield (
            f"{longer}: with training.stale the next batch would have been embedded before the "
            "last step, which was not done at the end"
        )


def _rising(training: TrainingSettings) -> int:
    """Return the exchanges of the warm-up."""
    return round(training.warmup * training.exchanges)


def _quiet(training: TrainingSettings) -> int:
    """Return the exchanges before replay begins."""
    return math.ceil(training.replay_from * training.exchanges)
