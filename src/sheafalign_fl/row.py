"""A row: what results are written down as."""

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """A frozen row that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
