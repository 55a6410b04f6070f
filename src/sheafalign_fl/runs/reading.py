"""Reading a run folder, whether the run has ended or not."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.listing import listed
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.protocol.agreement import LEAST_OPEN
from sheafalign_fl.protocol.rows import AbsenceRow, EdgeBytes, EvaluationRow, ExchangeRow, Loss
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.protocol.verdict import WatchRow
from sheafalign_fl.runs.faults import FaultFacts, find_faults
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import COLUMNS
from sheafalign_fl.runs.rows import parse_row
from sheafalign_fl.runs.summary import Summary, first_problem, read_summary
from sheafalign_fl.runs.tables import ledger_table, loss_table, quality_table, shown
from sheafalign_fl.runs.warnings import fit_warnings
from sheafalign_fl.runs.warnings import warnings as course_warnings

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class ExchangePoint:
    """One exchange: its losses as means over directed edges, and what it took."""

    exchange: int
    losses: Mapping[str, float]
    """Name of a term, and total -> mean; empty where no edge took part."""
    absent: tuple[str, ...]
    payload_bytes: int
    seconds: float


@dataclass(frozen=True)
class Projection:
    """Comparison embeddings of both ends of one edge; row k of both is the same event."""

    source: str
    target: str
    z_i: NDArray[np.float64]
    z_j: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """All that is in a run folder: what the report draws, and tables for a notebook."""

    path: Path
    settings: Settings
    config_text: str
    exchanges: Sequence[ExchangePoint]
    evaluations: Sequence[EvaluationRow]
    absences: Sequence[AbsenceRow]
    traffic: Sequence[EdgeBytes]
    """Totals added up from the rows of ledger.csv."""
    ledger_rows: int
    summary: Summary | None
    watched: Sequence[WatchRow]
    """What clients said of their edges (`protocol.verdict`)."""
    status: Mapping[str, Any]
    versions: Mapping[str, str | None]
    samples: Mapping[str, bytes] = field(default_factory=dict)
    """Client -> PNG."""
    projection: Projection | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.settings.name

    @property
    def state(self) -> str:
        """How the run ended, in words."""
        if self.summary is None:
            return f"interrupted at exchange {self.done}"
        gone = ", ".join(departure.client for departure in self.summary.departures)
        return f"completed without {gone}" if gone else "completed"

    @property
    def done(self) -> int:
        """Exchanges that are complete."""
        last = self.exchanges[-1].exchange + 1 if self.exchanges else 0
        return self.summary.exchanges if self.summary is not None else last

    @property
    def quality(self) -> Quality | None:
        """The result on test events, or the last measurement before the run was interrupted."""
        if self.summary is not None:
            return self.summary.quality
        return self.evaluations[-1].quality if self.evaluations else None

    @property
    def faults(self) -> Sequence[FaultFacts]:
        """Which sensors or edges were at fault, as far as the clients' watches can tell."""
        if self.summary is not None:
            return self.summary.faults
        graph = build_topology(self.settings).edges if self.watched else ()
        return find_faults(self.watched, [(edge.source, edge.target) for edge in graph])

    @property
    def warnings(self) -> Sequence[str]:
        """What the run's course on validation events and its probes should make people think of."""
        if self.summary is None:
            return []
        shared = (edge.shared_events["validation"] for edge in self.summary.edges)
        course = course_warnings(
            self.settings,
            self.evaluations,
            validation=max(shared, default=0) >= LEAST_OPEN,
            kept=self.summary.best is not None,
        )
        return [*course, *fit_warnings(self.summary.quality)]

    @property
    def bytes(self) -> Sequence[EdgeBytes]:
        """Bytes by directed edge and purpose."""
        return self.summary.bytes if self.summary is not None else self.traffic

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def metrics(self) -> Any:
        """Everything measured, one number a row: a `pandas.DataFrame` if installed, else a `Table`.

        Validation events by exchange, and at the end the result on test events.
        """
        return shown(quality_table(self.evaluations))

    @property
    def losses(self) -> Any:
        """Every term of the objective by exchange and directed edge, as `metrics` are given."""
        lines = (parse_row(line) for _, line in _complete_lines(self.path / "metrics.jsonl"))
        return shown(loss_table(row for row in lines if isinstance(row, ExchangeRow)))

    @property
    def ledger(self) -> Any:
        """Every message with its bytes (DESIGN section 4), as `metrics` are given."""
        return shown(ledger_table(self.path / "ledger.csv"))

    @property
    def seconds(self) -> float:
        """Wall time: of the whole run, or of its exchanges alone where it was interrupted."""
        return (
            self.summary.seconds
            if self.summary is not None
            else sum(point.seconds for point in self.exchanges)
        )


def read_run(path: Path) -> Run:
    """Read the run folder `path`; only config.yaml has to be there.

    Raises
    ------
    DataError
        It is no run folder, or a file in it is damaged. A last line of metrics.jsonl or ledger.csv
        that was cut short is not damage: that is what a killed process leaves.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise DataError(f"{path} is no run folder: it has no config.yaml")
    try:
        settings = folder.settings()
    except ConfigError as error:
        raise DataError(f"damaged run folder: {error}") from None
    exchanges, evaluations, absences, watched = _read_metrics(folder.metrics)
    traffic, count = _read_ledger(folder.ledger)
    return Run(
        path=path,
        settings=settings,
        config_text=_text(folder.config),
        exchanges=exchanges,
        evaluations=evaluations,
        absences=absences,
        traffic=traffic,
        ledger_rows=count,
        summary=read_summary(folder.summary) if folder.summary.exists() else None,
        watched=watched,
        status=_read_object(folder.status_file),
        versions=_read_object(path / "versions.json"),
        samples={file.stem: _read_png(file) for file in listed(path / "samples", "*.png")},
        projection=_read_projection(path / "projection.npz"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} is damaged: it is not UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _complete_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line that ends; a last one that was cut short is left out."""
    if not path.exists():
        return
    try:
        with path.open("rb") as file:  # it may have been cut inside a character
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield number, line.decode()
    except UnicodeDecodeError:
        raise DataError(f"{path} is damaged: it is not UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _read_metrics(
    path: Path,
) -> tuple[list[ExchangePoint], list[EvaluationRow], list[AbsenceRow], list[WatchRow]]:
    exchanges: list[ExchangePoint] = []
    evaluations: list[EvaluationRow] = []
    absences: list[AbsenceRow] = []
    watched: list[WatchRow] = []
    for number, line in _complete_lines(path):
        try:
            row = parse_row(line)
        except ValidationError as error:
            raise DataError(f"{path}, line {number}: damaged ({first_problem(error)})") from None
        match row:
            case ExchangeRow():
                # Losses are averaged at once: with 100 clients one row holds thousands of them.
                exchanges.append(
                    ExchangePoint(
                        row.exchange,
                        _mean_losses(row.losses),
                        row.absent,
                        row.payload_bytes,
                        row.seconds,
                    )
                )
            case EvaluationRow():
                evaluations.append(row)
            case AbsenceRow():
                absences.append(row)
            case WatchRow():
                watched.append(row)
    return exchanges, evaluations, absences, watched


def _mean_losses(losses: Sequence[Loss]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for loss in losses:
        for term, value in loss.terms.items():
            values.setdefault(term, []).append(value)
    return {term: sum(found) / len(found) for term, found in values.items()}


def _read_ledger(path: Path) -> tuple[list[EdgeBytes], int]:
    """Return the totals by (source, destination, purpose), and the number of rows."""
    totals: dict[tuple[str, str, str], tuple[int, ...]] = {}
    count = 0
    reader = csv.reader(line for _, line in _complete_lines(path))
    for number, values in enumerate(reader, start=1):
        if number == 1:
            if tuple(values) != COLUMNS:
                raise DataError(
                    f"{path}: this is no ledger; its columns must be {', '.join(COLUMNS)}"
                )
            continue
        try:
            _, source, destination, purpose, _, events, _, payload, message, relay = values
            row = (1, int(events), int(payload), int(message), int(relay))
        except ValueError:
            raise DataError(f"{path}, line {number}: damaged, not a ledger row") from None
        key = (source, destination, purpose)
        totals[key] = tuple(map(sum, zip(totals[key], row, strict=True))) if key in totals else row
        count += 1
    fields = ("messages", "events", "payload_bytes", "message_bytes", "relay_bytes")
    try:
        rows = [
            EdgeBytes.model_validate(
                {
                    "source": source,
                    "target": target,
                    "purpose": purpose,
                    **dict(zip(fields, sums, strict=True)),
                }
            )
            for (source, target, purpose), sums in totals.items()
        ]
    except ValidationError as error:
        raise DataError(f"{path}: damaged ({first_problem(error)})") from None
    return rows, count


def _read_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: damaged ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: damaged (it must hold an object)")
    return content


def _read_png(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(_PNG):
        raise DataError(f"{path}: damaged, not a PNG picture")
    return content


def _read_projection(path: Path) -> Projection | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Projection(
                source=str(arrays["source"]),
                target=str(arrays["target"]),
                z_i=arrays["z_i"].astype(np.float64),
                z_j=arrays["z_j"].astype(np.float64),
                labels=arrays["labels"].astype(np.int64),
                classes=tuple(map(str, np.atleast_1d(arrays["classes"]))),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: damaged ({error})") from None
    if (
        found.z_i.ndim != 2
        or found.z_i.shape != found.z_j.shape
        or found.labels.shape != found.z_i.shape[:1]
    ):
        raise DataError(f"{path}: damaged (z_i, z_j and labels do not fit together)")
    return found
