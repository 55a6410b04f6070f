"""What the relay writes down: metrics, ledger, absences.

It is the one place where messages become ledger rows.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.rows import AbsenceRow, EvaluationRow, ExchangeRow, Loss, Timing
from sheafalign_fl.protocol.verbs import RELAY, Purpose
from sheafalign_fl.protocol.verdict import Verdict, WatchRow
from sheafalign_fl.runs.folder import Checkpoint, MetricsLog, RunFolder, read_rows
from sheafalign_fl.runs.ledger import Ledger, LedgerRow
from strategies.messenger import Order, Outcome, Reply

_log = logging.getLogger("sheafalign.relay")


@dataclass(frozen=True)
class RoutedFrame:
    """A frame on its way: what it is, its bytes, and what its way up to the relay cost."""

    frame: Frame
    packed: bytes
    up: int


class Recorder:
    """Writes metrics.jsonl and ledger.csv of one run."""

    def __init__(self, folder: RunFolder) -> None:
        """Open both files for appending; what they hold already counts."""
        self._folder = folder
        self.ledger = Ledger(folder.ledger)
        earlier = list(read_rows(folder.metrics)) if folder.metrics.exists() else []
        self.absences = [
            AbsenceRow.model_validate(row) for row in earlier if row.get("kind") == "absence"
        ]
        self.watched = [
            WatchRow.model_validate(row) for row in earlier if row.get("kind") == "watch"
        ]
        self._said: dict[tuple[str, str, str], int] = {}
        """(sender, receiver, check) -> exchange in which it was said last."""
        self._metrics = MetricsLog(folder.metrics)
        self._started = time.monotonic()
        self._earlier = 0.0

    def continue_after(self, seconds: float) -> None:
        """Count the time from here on top of `seconds` that earlier sessions took."""
        self._earlier, self._started = seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of all sessions of the run so far."""
        return self._earlier + time.monotonic() - self._started

    # ---- messages --------------------------------------------------------------------------------

    def question(
        self,
        purpose: Purpose,
        exchange: int,
        orders: Mapping[str, Order],
        outcome: Outcome[Any],
        routed: Mapping[tuple[str, str], RoutedFrame],
    ) -> None:
        """Record a round of messages: the frames that went down, and every message without one.

        Frames that came up with the replies are recorded when they go down again, by the next call,
        or by `undelivered`.
        """
        rows: list[LedgerRow] = []
        for client, order in orders.items():
            down = self._shares_down(outcome.sent[client], order)
            rows += [
                self._row(routed[source, client], purpose, down[source]) for source in order.frames
            ]
            if not order.frames:
                rows.append(_control(exchange, RELAY, client, purpose, outcome.sent[client]))
        rows += [
            _control(exchange, client, RELAY, purpose, reply.size)
            for client, reply in outcome.replies.items()
            if not reply.frames
        ]
        for sizes in (outcome.failed_bytes, outcome.stale, outcome.extra_up):
            rows += [
                _control(exchange, client, RELAY, purpose, size)
                for client, size in sizes.items()
                if size
            ]
        rows += [
            _control(exchange, RELAY, client, purpose, size)
            for client, size in outcome.extra_down.items()
        ]
        self.ledger.record(rows)

    def undelivered(self, routed: Iterable[RoutedFrame], purpose: Purpose) -> None:
        """Record frames that only came up: the peer was absent, or the evaluator kept them."""
        self.ledger.record([self._row(routed_frame, purpose, 0) for routed_frame in routed])

    @staticmethod
    def _shares_down(sent: int, order: Order) -> dict[str, int]:
        return Reply({}, order.frames, sent).shares()

    @staticmethod
    def _row(routed_frame: RoutedFrame, purpose: Purpose, down: int) -> LedgerRow:
        frame = routed_frame.frame
        return LedgerRow(
            exchange=frame.exchange,
            source=frame.source,
            destination=frame.destination,
            purpose=purpose,
            codec=frame.codec,
            events=frame.events,
            dim=frame.dim,
            payload_bytes=len(frame.payload),
            message_bytes=routed_frame.up,
            relay_bytes=routed_frame.up + down,
        )

    # ---- metrics ---------------------------------------------------------------------------------

    def exchange(
        self,
        exchange: int,
        losses: Iterable[Loss],
        absent: Iterable[str],
        seconds: float,
        timing: Iterable[Timing] = (),
    ) -> None:
        """Record one finished exchange."""
        totals = self.ledger.totals("train")
        self._metrics.write(
            ExchangeRow(
                exchange=exchange,
                losses=tuple(losses),
                absent=tuple(absent),
                payload_bytes=totals.payload_bytes,
                message_bytes=totals.message_bytes,
                relay_bytes=totals.relay_bytes,
                seconds=seconds,
                timing=tuple(timing),
            )
        )

    def evaluation(self, exchange: int, quality: Quality) -> None:
        """Record what was measured after `exchange` exchanges."""
        payload = self.ledger.totals("train").payload_bytes
        self._metrics.write(
            EvaluationRow(exchange=exchange, payload_bytes=payload, quality=quality)
        )

    def absence(self, row: AbsenceRow) -> None:
        """Record and log that a client dropped out or came back."""
        told = f"exchange {row.exchange}: client '{row.client}' {row.event}: {row.reason}"
        _log.warning(
            told,
            extra={"facts": {"client": row.client, "exchange": row.exchange, "event": row.event}},
        )
        self.absences.append(row)
        self._metrics.write(row)

    def verdict(self, exchange: int, receiver: str, verdict: Verdict) -> WatchRow:
        """Record what `receiver` said of an edge; log it unless it said so an exchange ago."""
        row = WatchRow(exchange=exchange, receiver=receiver, **verdict.model_dump())
        key = (row.sender, row.receiver, row.check)
        if self._said.get(key, -2) < row.exchange - 1:
            facts = {"client": row.receiver, "exchange": row.exchange, "event": row.event}
            told = f"exchange {row.exchange}: client '{row.receiver}': {row.told()}"
            _log.warning(told, extra={"facts": facts})
        self._said[key] = row.exchange
        self.watched.append(row)
        self._metrics.write(row)
        return row

    def checkpoint(self, exchange: int, keep: int) -> None:
        """Complete the checkpoint after `exchange` exchanges."""
        self._folder.complete_checkpoint(
            Checkpoint(
                exchange,
                self._folder.metrics.stat().st_size,
                self._folder.ledger.stat().st_size,
                self.seconds,
            ),
            keep,
        )

    def close(self) -> None:
        """Close both files."""
        self._metrics.close()
        self.ledger.close()


def _control(
    exchange: int, source: str, destination: str, purpose: Purpose, size: int
) -> LedgerRow:
    return LedgerRow(exchange, source, destination, purpose, "", 0, 0, 0, size, size)
