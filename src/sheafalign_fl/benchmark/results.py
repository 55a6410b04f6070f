"""What a benchmark leaves behind, ``benchmark.json``: a `Cell` for each data set, method and seed.

Fractions are between 0 and 1, bytes are integers and counted (never derived), times are seconds.
Means are over all directions of all edges (retrieval, transfer), over clients (probe), or over
subsets of missing clients (missing).
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sheafalign_fl.errors import UserError

SCHEMA_VERSION: Literal[1] = 1
Kind = Literal["sheaf", "single-space", "reference"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CurvePoint(_Row):
    """Retrieval on VALIDATION events after `exchange` exchanges."""

    exchange: int
    payload_bytes: int
    """Training payload until then."""
    recall_at_1: float
    recall_at_10: float


class MissingPoint(_Row):
    """Accuracy of the fused probe with `missing` clients absent (DESIGN section 5.4)."""

    missing: int
    imputed: float
    mean_fill: float
    zero_fill: float


class PairFigures(_Row):
    """Retrieval and transfer of one direction; fractions, None where it was not measured."""

    source: str
    target: str
    trained: bool
    """An edge of the graph; else a pair that only a space which all share can compare."""
    recall_at_1: float
    recall_at_10: float
    transfer_prototype: float | None = None
    transfer_probe: float | None = None


class Trial(_Row):
    """One setting tried in tuning, on the validation split and with the seed of its `Tuning`."""

    settings: dict[str, float | int | str | bool]
    """Dotted key -> value."""
    score: float
    """What tuning maximises: see `Benchmark.criterion`."""


class Cell(_Row):
    """One finished run: a method on a data set with a seed, measured on TEST events."""

    data: str
    method: str
    kind: Kind
    """sheaf: comparison spaces; single-space: constant sheaf (identity maps); reference: untrained,
    or pooled data."""
    variant: str = ""
    """Empty for a method's main entry; else what is special, such as "equal bytes" or "lean"."""
    base: str = ""
    """The method that this is a variant of by the file's `variants`; empty for one of its own."""
    seed: int
    folder: str
    """Run folder, relative to the benchmark's."""
    settings: dict[str, float | int | str | bool]
    """Dotted key -> value of what makes the method: chosen by tuning or fixed."""
    exchanges: int
    clients: int
    directions: int
    """Directed edges of the graph; in a space that all share more pairs are measured than train."""
    codec: str
    edge_dim: int
    payload_bytes: int
    """Training, all edges and directions."""
    message_bytes: int
    relay_bytes: int
    evaluation_payload_bytes: int | None = None
    """All evaluations together, those on the way too; None in results of before."""
    evaluation_message_bytes: int | None = None
    evaluation_relay_bytes: int | None = None
    events: dict[str, int] = Field(default_factory=dict)
    """Split -> events that both ends of the poorest edge have."""
    gallery: int
    """Events in the smallest retrieval gallery."""
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    worst_recall_at_10: float
    """Of the worst direction: single-space methods may fail on one pair alone."""
    median_rank: float
    mean_average_precision: float | None
    transfer_prototype: float | None = None
    transfer_probe: float | None = None
    probe: float | None = None
    majority: float | None = None
    """Accuracy of always answering the most frequent class."""
    missing: tuple[MissingPoint, ...] = ()
    """From 0 missing clients on; empty where it was not measured."""
    consistency: float | None = None
    unconverged: int | None = None
    """Classifiers of transfer and probe that had not converged; None in results of before."""
    pairs: tuple[PairFigures, ...] = ()
    """Every direction that was measured; empty in results of before."""
    own: dict[str, float] = Field(default_factory=dict)
    """Scores of metrics that are not built in, by name."""
    seconds: float
    curve: tuple[CurvePoint, ...]


class Tuning(_Row):
    """How the settings of one method were chosen on one data set."""

    data: str
    method: str
    seed: int | None = None
    """Whose cells the choice is for; None: those of all seeds, chosen with seed 0."""
    trials: tuple[Trial, ...]


class Benchmark(_Row):
    """``benchmark.json``: all that the report, the CSV and the tables of docs are made from."""

    schema_version: Literal[1] = SCHEMA_VERSION
    commit: str | None
    versions: dict[str, str]
    criterion: str
    """What tuning maximised, in words."""
    seconds: float
    """Wall time of all sessions together."""
    looks: int = 1
    """How often verdicts may have been looked at to choose the next cells."""
    cells: tuple[Cell, ...]
    tuning: tuple[Tuning, ...]


def load_benchmark(path: Path) -> Benchmark:
    """Return the benchmark in the file `path`; raise `UserError` if it holds none."""
    try:
        return Benchmark.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise UserError(
            f"{path} is no benchmark of this version: {error.errors()[0]['msg']}"
        ) from None
