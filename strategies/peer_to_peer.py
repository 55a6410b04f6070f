"""The peer-to-peer strategy: the only round loop (DESIGN section 3).

It holds no model and averages nothing. In exchange t it hands every client the comparison
embeddings z_ji(t) that its neighbours made for it, and gets back z_ij(t+1). A frame goes to the
client that it names and to nobody else.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid

from sheafalign_fl.codecs import codec
from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ProtocolError, RunError
from sheafalign_fl.learner.schedule import BatchSchedule
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.messages import (
    ExchangeOrder,
    ExchangeReply,
    FinishOrder,
    FinishReply,
    plain,
)
from sheafalign_fl.protocol.rows import AbsenceRow, Loss, Timing
from sheafalign_fl.protocol.topology import Topology, build_topology
from sheafalign_fl.protocol.verbs import EXCHANGE, FINISH
from sheafalign_fl.protocol.verdict import Verdict, WatchRow
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.summary import summarise
from strategies import handshake
from strategies.attendance import remaining
from strategies.evaluation import Evaluation
from strategies.messenger import Messenger, Order, Outcome, Read, Reply
from strategies.on_the_way import OnTheWay
from strategies.recorder import Recorder, RoutedFrame

_log = logging.getLogger("sheafalign.relay")
_IDLE_EXCHANGES = 3
"""After so many exchanges in a row in which no edge could be trained, the run is given up."""

RoutedFrames = dict[tuple[str, str], RoutedFrame]
"""(source, destination) -> what is on its way."""


@dataclass(frozen=True)
class Heard:
    """What one client said in an exchange, read and checked."""

    losses: tuple[Loss, ...]
    verdicts: tuple[Verdict, ...]
    times: Mapping[str, float] | None
    routed: RoutedFrames


class PeerToPeer:
    """Runs one federation over a Grid."""

    def __init__(
        self,
        settings: Settings,
        grid: Grid,
        folder: RunFolder,
        registered: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Check what can be checked without the clients.

        `registered` says which node has the key of which client now, where the relay knows that.

        Raises
        ------
        ConfigError
            The graph or the codec is impossible.
        """
        self.settings, self.grid, self.folder = settings, grid, folder
        self._registered = registered
        self.topology: Topology = build_topology(settings)
        codec(settings.codec)  # known, or refused now
        self._way = OnTheWay(settings, folder)
        self._gone: dict[str, str] = {}
        """Client -> why it did not take part in the last exchange."""
        self._idle = 0
        self._verdicts: list[WatchRow] = []
        """What was said of the last exchange."""

    def run(self, *, resume: bool = False) -> None:
        """Handshake, all exchanges, evaluation and summary.

        Parameters
        ----------
        resume
            Go on from the run folder's last complete checkpoint.
        """
        checkpoint = self.folder.last_checkpoint() if resume else None
        status = self.folder.status()
        # Pooled training leaves a checkpoint in a folder that no run has begun in: going on from it
        # is no resumption.
        resumed = int(status["resumed"]) + 1 if resume and "resumed" in status else 0
        self.folder.rewind(checkpoint)
        self.folder.set_status("running", resumed=resumed)
        recorder = Recorder(self.folder)
        try:
            if checkpoint is not None:
                recorder.continue_after(checkpoint.seconds)
                self._way.restore(checkpoint.exchange)
            self._run(recorder, checkpoint.exchange if checkpoint else 0, resumed)
        finally:
            recorder.close()

    def _run(self, recorder: Recorder, start: int, resumed: int) -> None:
        # What an earlier session had no weights of, this one cannot go on from.
        earlier = dict(self.folder.status().get("left_out", {})) if start else {}
        federation = handshake.gather(
            self.grid, self.settings, self.topology, recorder, self._registered(), earlier
        )
        nodes, manifests = federation.nodes, federation.manifests
        self.topology, agreement = federation.topology, federation.agreement
        _log.info("%d of %d clients are here", len(nodes), len(self.settings.clients))
        self._recorder, self._agreement = recorder, agreement
        self._messenger = Messenger(
            self.grid,
            nodes,
            {client: manifests[client].boot for client in nodes},
            self._registered,
        )
        unable = handshake.tell(self._messenger, self.settings, federation, self.folder, recorder)
        for client, reason in federation.left_out.items():
            if client not in earlier:
                self._note(start, client, "failed", f"left out from the start: {reason}")
        self.folder.set_status("running", left_out=dict(federation.left_out))
        self._go_on_without(unable, start)
        self._schedule = BatchSchedule.of(
            self.settings.training, len(agreement.lists["train"]), self.settings.seed
        )
        self._evaluation = Evaluation(
            self._messenger, self.settings, self.topology, agreement, recorder, self._note_absences
        )
        self._tell_starts(manifests)
        total = start if self._way.stopped else self.settings.training.exchanges
        routed = self._begin(start, total)
        if start == 0 < total and self._way.is_watched:
            self._measure(0, counts=False)
        done = self._train(start, total, routed) if start < total else total
        quality = self._evaluation.run(done, final=True)
        recorder.evaluation(done, quality)
        self._finish(manifests, agreement, quality, resumed, done)

    # ---- the round loop --------------------------------------------------------------------------

    def _train(self, start: int, total: int, routed: RoutedFrames) -> int:
        """Go through the exchanges from `start` on; return how many are done at the end."""
        checkpoint_due = False
        for exchange in range(start, total):
            begun = time.monotonic()
            done = exchange + 1
            checkpoint_due = checkpoint_due or self._way.saves(done, total)
            orders = {
                client: self._order(client, exchange, routed, done if checkpoint_due else None)
                for client in self._messenger.available()
            }
            outcome = self._ask(orders, exchange)
            delivered = {
                (source, client) for client, order in orders.items() for source in order.frames
            }
            self._recorder.question("train", exchange, orders, outcome, routed)
            self._recorder.undelivered(
                (routed_frame for key, routed_frame in routed.items() if key not in delivered),
                "train",
            )
            losses = self._losses(outcome)
            self._take_verdicts(outcome, exchange)
            taking_part = {client for key in delivered for client in key}
            absent = [client for client in self.topology.clients if client not in taking_part]
            self._recorder.exchange(
                exchange, losses, absent, time.monotonic() - begun, self._timing(outcome)
            )
            self._give_up_if_idle(bool(losses))
            routed = _routed(outcome)
            checkpoint_due = self._after_exchange(done, total, checkpoint_due, outcome)
            if self._way.stopped:
                self._recorder.undelivered(routed.values(), "train")
                return done
        return total

    def _begin(self, start: int, total: int) -> RoutedFrames:
        """Ask for z(start), if there is an exchange to come.

        After a checkpoint clients restore their state first.
        """
        order = ExchangeOrder(restore=start or None, embed=start if start < total else None)
        if not order.fields():
            return {}
        orders = {client: Order(order.fields()) for client in self._messenger.available()}
        # Nobody has worked yet, and a client may still have to load its data: this is setup, with
        # setup's patience.
        patience = self.settings.training.setup_deadline
        outcome = self._messenger.ask(
            EXCHANGE, orders, str(start), patience, self._reader(None, order.embed)
        )
        if start:
            self._check_restored(outcome, start)
        self._note_absences(outcome, start, patience)
        self._recorder.question("setup", start, orders, outcome, {})
        return _routed(outcome)

    def _check_restored(self, outcome: Outcome[Heard], start: int) -> None:
        """Leave out who has not its state of the checkpoint, or end a run that needs all."""
        for client, reason in outcome.failed.items():
            told = f"client '{client}' cannot go on from the checkpoint: {reason}"
            if self.settings.training.min_clients is None:
                raise RunError(told)
            self._go_on_without({client: told}, start)

    def _order(
        self, client: str, exchange: int, routed: RoutedFrames, checkpoint: int | None
    ) -> Order:
        """Return what `client` is asked in `exchange`: of edges alone whose both ends have sent."""
        frames = {
            neighbour: routed[neighbour, client].packed
            for neighbour in self.topology.neighbours(client)
            if (neighbour, client) in routed and (client, neighbour) in routed
        }
        order = ExchangeOrder(
            step=exchange if frames else None,
            embed=self._following(exchange),
            checkpoint=checkpoint,
            best=None if checkpoint is None else self._way.best_exchange,
        )
        return Order(order.fields(), frames)

    def _following(self, exchange: int) -> int | None:
        return exchange + 1 if exchange + 1 < self.settings.training.exchanges else None

    def _ask(self, orders: Mapping[str, Order], exchange: int) -> Outcome[Heard]:
        deadline = self.settings.training.deadline
        read = self._reader(exchange, self._following(exchange))
        outcome = self._messenger.ask(
            EXCHANGE, orders, str(exchange), deadline, read, patient=deadline is None
        )
        self._note_absences(outcome, exchange, deadline)
        return outcome

    def _reader(self, stepped: int | None, embedded: int | None) -> Read[Heard]:
        """Return what reads an answer to the exchange `stepped`, with frames of `embedded`."""

        def read(client: str, reply: Reply) -> Heard:
            told = ExchangeReply.read(reply.fields)
            neighbours = self.topology.neighbours(client)
            losses = told.told_losses(client, neighbours)
            verdicts = told.told_verdicts(client, neighbours)
            if stepped is None and (losses or verdicts):
                raise ProtocolError("losses or verdicts of a step that was not asked for")
            if embedded is None and reply.frames:
                raise ProtocolError("frames of an exchange that is not to come")
            due = None if embedded is None else self._check_reply(client, reply, embedded)
            return Heard(tuple(losses), verdicts, told.times(), due or {})

        return read

    def _check_reply(self, client: str, reply: Reply, exchange: int) -> RoutedFrames:
        expected = {
            edge.other(client): (int(shared.sum()), edge.dim)
            for edge in self.topology.edges_of(client)
            if (
                shared := self._schedule.shared(self._agreement.shared(edge, "train"), exchange)
            ).any()
        }
        if set(reply.frames) != set(expected):
            raise ProtocolError(
                f"frames for {plain(sorted(reply.frames))} where {sorted(expected)} were due"
            )
        shares, routed = reply.shares(), {}
        for neighbour, packed in reply.frames.items():
            frame = Frame.unpack(packed)
            got = (
                frame.purpose,
                frame.exchange,
                frame.source,
                frame.destination,
                frame.codec,
                frame.events,
                frame.dim,
            )
            due = ("train", exchange, client, neighbour, self.settings.codec, *expected[neighbour])
            if got != due:
                raise ProtocolError(f"a frame that is {got} where {due} was due")
            if bool(frame.seal) != self.settings.security.sealed:
                raise ProtocolError(f"a frame that is {'' if frame.seal else 'not '}sealed")
            routed[client, neighbour] = RoutedFrame(frame, packed, shares[neighbour])
        return routed

    def _losses(self, outcome: Outcome[Heard]) -> list[Loss]:
        """Return the losses that the clients told, in the order of the graph."""
        order = {client: index for index, client in enumerate(self.topology.clients)}
        losses = [loss for heard in outcome.answers.values() for loss in heard.losses]
        return sorted(losses, key=lambda loss: (order[loss.source], order[loss.target]))

    def _take_verdicts(self, outcome: Outcome[Heard], exchange: int) -> None:
        """Record what clients said of what they got."""
        self._verdicts = []
        for client, heard in outcome.answers.items():
            for verdict in heard.verdicts:
                self._verdicts.append(self._recorder.verdict(exchange, client, verdict))

    @staticmethod
    def _timing(outcome: Outcome[Heard]) -> list[Timing]:
        """Return where the time of each deployed client went; the others do not say."""
        slowest = max(outcome.seconds.values(), default=0.0)
        rows = []
        for client, heard in outcome.answers.items():
            if heard.times is not None:
                times = dict(heard.times)
                whole, seconds = times.pop("whole"), outcome.seconds[client]
                rows.append(
                    Timing(
                        client=client,
                        **times,
                        wire=max(0.0, seconds - whole),
                        wait=slowest - seconds,
                    )
                )
        return rows

    def _after_exchange(
        self, done: int, total: int, checkpoint_due: bool, outcome: Outcome[Heard]
    ) -> bool:
        """Evaluate and complete the checkpoint where due; return whether one is still owed."""
        everybody = len(outcome.replies) == len(self._messenger.clients)
        if self._agreement.has_validation() and self._way.measures(done, total):
            self._measure(done, counts=everybody)
        if checkpoint_due and everybody:
            self._recorder.checkpoint(done, self.settings.checkpoint.keep)
            return False
        return checkpoint_due

    def _measure(self, done: int, *, counts: bool) -> None:
        """Measure validation events after `done` exchanges, and write it down."""
        quality = self._way.measure(
            done, lambda: self._evaluation.run(done, final=False), counts=counts
        )
        self._recorder.evaluation(done, quality)

    def _tell_starts(self, manifests: Mapping[str, Manifest]) -> None:
        """Say which clients start anew where others start from another run's weights."""
        if self.settings.init_from is not None:
            anew = [client for client, manifest in manifests.items() if not manifest.start]
            _log.info("start anew: %s", ", ".join(anew) or "none")

    def _go_on_without(self, clients: Mapping[str, str], exchange: int) -> None:
        """Ask some clients nothing any more (client -> why), if the others are enough."""
        gone = {c: "left out" for c in self.topology.clients if c not in self._messenger.clients}
        remaining(self.topology, gone | dict(clients), self.settings)
        for client, reason in clients.items():
            self._messenger.leave_out(client)
            self._note(exchange, client, "failed", f"left out: {reason}")

    # ---- absences --------------------------------------------------------------------------------

    def _note_absences(self, outcome: Outcome[Any], exchange: int, deadline: float | None) -> None:
        for client in outcome.stale:
            self._note(exchange, client, "stale", "its late answer came and was thrown away")
        for client in outcome.late:
            self._note(exchange, client, "late", f"no answer within {deadline:g} s")
        for client, reason in outcome.failed.items():
            if client in self._messenger.clients:  # else it has been left out, and noted
                self._note(exchange, client, "failed", reason)
        for client in outcome.restarted:
            self._note(exchange, client, "failed", "its process was restarted")
        for client in [client for client in self._gone if client in outcome.replies]:
            del self._gone[client]
            row = AbsenceRow(
                exchange=exchange, client=client, event="returned", reason="it answers again"
            )
            self._recorder.absence(row)

    def _note(self, exchange: int, client: str, event: str, reason: str) -> None:
        self._gone[client] = reason
        self._recorder.absence(
            AbsenceRow.model_validate(
                {"exchange": exchange, "client": client, "event": event, "reason": reason}
            )
        )

    def _give_up_if_idle(self, trained: bool) -> None:
        self._idle = 0 if trained else self._idle + 1
        reasons = "; ".join(
            [f"{client}: {reason}" for client, reason in self._gone.items()]
            + [f"{row.receiver}: {row.told()}" for row in self._verdicts if row.event != "changed"]
        )
        if self._idle >= _IDLE_EXCHANGES and reasons:
            raise RunError(
                f"no edge could be trained in {_IDLE_EXCHANGES} exchanges in a row ({reasons})"
            )

    # ---- the end ---------------------------------------------------------------------------------

    def _finish(
        self,
        manifests: Mapping[str, Manifest],
        agreement: Agreement,
        quality: Quality,
        resumed: int,
        done: int,
    ) -> None:
        order = Order(FinishOrder(sample=True, best=self._way.best_exchange).fields())
        orders = dict.fromkeys(self._messenger.available(), order)
        patience = self.settings.training.setup_deadline
        outcome = self._messenger.ask(FINISH, orders, "finish", patience, _digest)
        self._note_absences(outcome, done, patience)
        self._recorder.question("setup", done, orders, outcome, {})
        digests = outcome.answers
        stopped = self._way.stopped if done < self.settings.training.exchanges else ""
        summary = summarise(
            self.settings,
            self.topology,
            manifests,
            agreement,
            quality=quality,
            edges=self._recorder.ledger.edges(),
            absences=self._recorder.absences,
            watched=self._recorder.watched,
            digests={
                client: digests[client] for client in self.topology.clients if client in digests
            },
            seconds=self._recorder.seconds,
            resumed=resumed,
            exchanges=done,
            best=self._way.best,
            stopped=stopped,
        )
        self.folder.save_summary(summary)
        for gone in summary.departures:
            _log.warning("the run is complete without client %s", gone.told())
        without = "; ".join(gone.told() for gone in summary.departures)
        reasons = [stopped, without and f"without {without}"]
        self.folder.set_status("completed", "; ".join(filter(None, reasons)))


def _routed(outcome: Outcome[Heard]) -> RoutedFrames:
    """Return what the clients sent for each other; a client with a bad frame has sent nothing."""
    return {
        key: routed_frame
        for heard in outcome.answers.values()
        for key, routed_frame in heard.routed.items()
    }


def _digest(client: str, reply: Reply) -> str:
    """Read the digest of a client's final weights."""
    del client
    if reply.frames:
        raise ProtocolError(f"{len(reply.frames)} frames where none was due")
    return FinishReply.read(reply.fields).digest
