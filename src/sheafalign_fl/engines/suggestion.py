"""A configuration for a folder of recordings, checked as `sheafalign check` would check it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sheafalign_fl.config import parse_settings
from sheafalign_fl.config.schema import TrainingSettings
from sheafalign_fl.data.inspection import Inspection
from sheafalign_fl.engines.check import check
from sheafalign_fl.errors import UserError

EPOCHS = 10
"""Passes over the training events that a new configuration asks for: about where retrieval on
validation events was best, with 1,000 events as with 10,000 (docs/go-on.md)."""


@dataclass(frozen=True)
class Suggestion:
    """A configuration to start from.

    Attributes
    ----------
    content
        Settings that differ from their defaults.
    notes
        Why some of them do, and what will not be measured.
    problems
        Why it cannot run, if it cannot.
    """

    content: Mapping[str, Any]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def yaml(self) -> str:
        """Return the configuration as a file's text."""
        return yaml.safe_dump(dict(self.content), sort_keys=False, allow_unicode=True)


def suggest(inspection: Inspection) -> Suggestion:
    """Return a configuration for what an inspection found; it runs if no problems come with it."""
    content: dict[str, Any] = {
        "data": {"source": inspection.source, "options": dict(inspection.options)},
        "clients": list(inspection.modalities),
    }
    if inspection.seed:
        content["seed"] = inspection.seed
    content["training"] = {"epochs": EPOCHS}
    notes = []
    if (batch := _batch(inspection)) is not None:
        content["training"]["batch_size"] = batch
        notes.append(f"batch_size: {batch}, as two sensors share few training events")
    problems: list[str] = []
    if inspection.usable:
        try:
            checked = check(parse_settings(content, "the configuration"))
        except UserError as error:
            problems.append(str(error))
        else:
            asked = checked.settings.evaluation.metrics
            if left_out := checked.agreement.why_not_measured(asked):
                notes.append(left_out)
    return Suggestion(content, tuple(notes), tuple(problems))


def _batch(inspection: Inspection) -> int | None:
    """Return the largest power of two that every pair can fill; None where the default will do."""
    fewest = min((pair.shared["train"] for pair in inspection.pairs), default=0)
    if fewest < 2 or fewest >= TrainingSettings().batch_size:
        return None
    return 1 << (fewest.bit_length() - 1)
