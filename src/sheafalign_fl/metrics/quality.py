"""Everything that was measured at one moment: the rows of every metric."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from sheafalign_fl.metrics.base import OwnRow
from sheafalign_fl.metrics.consistency import Consistency
from sheafalign_fl.metrics.missing import Missing
from sheafalign_fl.metrics.probe import Probe
from sheafalign_fl.metrics.retrieval import Retrieval
from sheafalign_fl.metrics.transfer import Transfer
from sheafalign_fl.row import Row


class Quality(Row):
    """Everything measured at one exchange on one split; empty for metrics not asked for."""

    split: Literal["validation", "test"]
    label: str | None
    retrieval: tuple[Retrieval, ...] = ()
    transfer: tuple[Transfer, ...] = ()
    probe: tuple[Probe, ...] = ()
    missing: tuple[Missing, ...] = ()
    consistency: tuple[Consistency, ...] = ()
    own: dict[str, tuple[OwnRow, ...]] = Field(default_factory=dict)
    """Metrics that are not built in: the dotted path that names one -> its rows."""

    @classmethod
    def of(
        cls,
        split: Literal["validation", "test"],
        label: str | None,
        rows: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> "Quality":
        """Return the quality with these rows, metric by metric, all of them checked."""
        built_in = {name: found for name, found in rows.items() if name in BUILT_IN}
        own = {name: found for name, found in rows.items() if name not in BUILT_IN}
        return cls.model_validate({"split": split, "label": label, **built_in, "own": own})

    def rows(self, name: str) -> tuple[Any, ...]:
        """Return the rows of the metric that settings call `name`."""
        return self.own.get(name, ()) if name not in BUILT_IN else tuple(getattr(self, name))

    def measured(self) -> list[str]:
        """Return the names of the metrics that have rows."""
        return [name for name in (*BUILT_IN, *self.own) if self.rows(name)]


BUILT_IN = tuple(name for name in Quality.model_fields if name not in ("split", "label", "own"))
"""In the order of reports."""
