"""A row: what results are written down as."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

Bounds = Mapping[str, tuple[float, float]]


class Row(BaseModel):
    """A frozen row that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bounds: ClassVar[Bounds] = {}
    """Number -> what it lies between, where that is not what all scores do."""
    key: ClassVar[tuple[str, ...]] = ()
    """Numbers that tell the rows of one client, or of one edge, apart; none: it has one row."""
