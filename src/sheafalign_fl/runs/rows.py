"""One line of metrics.jsonl to its row."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from sheafalign_fl.protocol.rows import AbsenceRow, EvaluationRow, ExchangeRow
from sheafalign_fl.protocol.verdict import WatchRow

MetricsRow = ExchangeRow | EvaluationRow | AbsenceRow | WatchRow
_ROW: TypeAdapter[MetricsRow] = TypeAdapter(Annotated[MetricsRow, Field(discriminator="kind")])


def parse_row(line: str | bytes) -> MetricsRow:
    """Return the row that a line of metrics.jsonl holds.

    Raises
    ------
    pydantic.ValidationError
        It holds none.
    """
    return _ROW.validate_json(line)
