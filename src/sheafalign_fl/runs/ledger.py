"""The ledger: one row per message, and the only place where bytes are summed (DESIGN section 4)."""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from io import StringIO
from pathlib import Path
from typing import TextIO

from sheafalign_fl.errors import DataError
from sheafalign_fl.protocol.rows import EdgeBytes
from sheafalign_fl.protocol.verbs import PURPOSES, Purpose


@dataclass(frozen=True)
class LedgerRow:
    """One message source -> destination.

    For an embedding: `payload_bytes` is the encoded embedding alone, `message_bytes` the payload
    with all its framing as serialised for the wire, `relay_bytes` what crosses the network for it
    (up to the relay and down again). Rows whose source or destination is the relay hold what is
    left of a Flower message once its frames are taken out; their payload and message bytes are 0.
    Embeddings that the evaluator reads have it as destination and go up only.
    """

    exchange: int
    source: str
    destination: str
    purpose: Purpose
    codec: str
    events: int
    dim: int
    payload_bytes: int
    message_bytes: int
    relay_bytes: int

    def __post_init__(self) -> None:
        for name in ("exchange", "events", "dim", "payload_bytes", "message_bytes", "relay_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} of a ledger row is negative: {getattr(self, name)}")
        if not self.payload_bytes <= self.message_bytes <= self.relay_bytes:
            raise ValueError(f"payload <= message <= relay bytes does not hold in {self}")


COLUMNS = tuple(field.name for field in fields(LedgerRow))


@dataclass(frozen=True)
class Totals:
    """Bytes of one purpose."""

    payload_bytes: int = 0
    message_bytes: int = 0
    relay_bytes: int = 0

    def __add__(self, row: "Totals | LedgerRow") -> "Totals":
        """Return the totals with `row` added."""
        return Totals(
            self.payload_bytes + row.payload_bytes,
            self.message_bytes + row.message_bytes,
            self.relay_bytes + row.relay_bytes,
        )


class Ledger:
    """Keeps running totals and, given a path, appends every row to a CSV file."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the ledger; rows already in the file are counted, a last one cut short is dropped.

        Raises
        ------
        DataError
            The file is there but is no ledger.
        """
        self._totals: dict[tuple[str, str, Purpose], EdgeBytes] = {}
        self._by_purpose: dict[Purpose, Totals] = {
            "setup": Totals(),
            "train": Totals(),
            "evaluate": Totals(),
        }
        self._file: TextIO | None = None
        if path is not None:
            new = not path.exists()
            for row in [] if new else read_ledger(path):
                self._count(row)
            if not new:
                _drop_cut_line(path)
            self._file = path.open("a", encoding="utf-8", newline="")
            if new:
                self._file.write(",".join(COLUMNS) + "\n")
                self._file.flush()

    def record(self, rows: Iterable[LedgerRow]) -> None:
        """Count `rows` and write them, all of them in one write."""
        buffer = StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        for row in rows:
            self._count(row)
            writer.writerow(astuple(row))
        if self._file is not None:
            self._file.write(buffer.getvalue())
            self._file.flush()

    def totals(self, purpose: Purpose) -> Totals:
        """Return the bytes of `purpose` so far."""
        return self._by_purpose[purpose]

    def edges(self) -> tuple[EdgeBytes, ...]:
        """Return the totals of every directed edge and purpose so far, in order of first use."""
        return tuple(self._totals.values())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _count(self, row: LedgerRow) -> None:
        key = (row.source, row.destination, row.purpose)
        old = self._totals.get(key)
        self._totals[key] = EdgeBytes(
            source=row.source,
            target=row.destination,
            purpose=row.purpose,
            messages=(old.messages if old else 0) + 1,
            events=(old.events if old else 0) + row.events,
            payload_bytes=(old.payload_bytes if old else 0) + row.payload_bytes,
            message_bytes=(old.message_bytes if old else 0) + row.message_bytes,
            relay_bytes=(old.relay_bytes if old else 0) + row.relay_bytes,
        )
        self._by_purpose[row.purpose] += row


def read_ledger(path: Path) -> Iterator[LedgerRow]:
    """Yield the rows of the ledger at `path`; a last row that was cut short is left out.

    Raises
    ------
    DataError
        The file has other columns, or a row is malformed.
    """
    with path.open("rb") as file:
        # A row whose line does not end may end in the first digits of a number: it is never read.
        reader = csv.reader(line.decode() for line in file if line.endswith(b"\n"))
        try:
            if tuple(next(reader, ())) != COLUMNS:
                raise DataError(
                    f"{path}: this is no ledger; its columns must be {', '.join(COLUMNS)}"
                )
            for values in reader:
                yield _row(values, path, reader.line_num)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"{path}, after line {reader.line_num}: not a ledger ({error})"
            ) from None


def rows_in(lines: Iterable[bytes], path: Path) -> Iterator[LedgerRow]:
    """Yield the rows of some whole lines of the ledger at `path`; the header is passed over.

    Raises
    ------
    DataError
        A row is malformed.
    """
    reader = csv.reader(line.decode() for line in lines)
    for values in reader:
        if tuple(values) != COLUMNS:
            yield _row(values, path, reader.line_num)


def _row(values: list[str], path: Path, line: int) -> LedgerRow:
    try:
        exchange, source, destination, purpose, codec, *numbers = values
        if purpose not in PURPOSES:
            raise ValueError(f"unknown purpose '{purpose}'")
        events, dim, payload, message, relay = (int(number) for number in numbers)
        return LedgerRow(
            int(exchange), source, destination, purpose, codec, events, dim, payload, message, relay
        )
    except ValueError as error:
        raise DataError(f"{path}, line {line}: not a ledger row ({error})") from None


def _drop_cut_line(path: Path) -> None:
    """Cut off a last line that does not end, so that the next row does not go on in it."""
    with path.open("rb") as file:
        complete = sum(len(line) for line in file if line.endswith(b"\n"))
    os.truncate(path, complete)


def truncate_ledger(path: Path, size: int) -> None:
    """Cut the ledger back to its first `size` bytes, dropping rows written after a checkpoint."""
    if not path.exists() or path.stat().st_size < size:
        raise DataError(
            f"{path}: the ledger is shorter than the checkpoint says; it has been changed since"
        )
    with path.open("r+b") as file:
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
