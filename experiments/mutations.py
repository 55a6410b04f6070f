"""Mutated frames, records and federations: ``python -m experiments.mutations``.

Prints how many of each were refused or accepted, how many exceptions nobody foresaw, how many runs
one client ended, and the most memory that was taken for one of them.
"""

import argparse
import itertools
import logging
import math
import resource
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients import evaluation as client_evaluation
from clients import frames as client_frames
from clients.client_app import app as client_app
from experiments.mutants import CODECS, Rng, mutated_fields, mutated_frame, mutated_reply
from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import DataError, ProtocolError, SheafAlignError
from sheafalign_fl.flower.records import unpack
from sheafalign_fl.metrics.registry import measured_metrics
from sheafalign_fl.protocol import verbs
from sheafalign_fl.protocol.acceptance import accept
from sheafalign_fl.protocol.agreement import ClientAgreement
from sheafalign_fl.protocol.frame import Frame
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.measuring import Measuring
from sheafalign_fl.protocol.messages import (
    AgreementOrder,
    Dismissal,
    ExchangeOrder,
    ExchangeReply,
    FinishOrder,
    FinishReply,
    ManifestReply,
    Nothing,
    Presence,
    Refusal,
    ScoresReply,
)
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.runs.folder import RunFolder
from strategies import server_app

CLIENTS = ("m0", "m1", "m2")
HANDSHAKE = (verbs.DESCRIBE, verbs.AGREE)
Fields = Mapping[str, Any]


def federation(seed: int = 0) -> Settings:
    """Return the settings of a small federation that measures everything and spares a client."""
    return parse_settings(
        {
            "name": "mutated",
            "seed": seed,
            "engine": "inprocess",
            "data": {"source": "experiments.mutants:views"},
            "clients": {name: {"dim": 6, "encoder_options": {"hidden": 8}} for name in CLIENTS},
            "graph": {"topology": "complete", "dim": 4},
            "training": {
                "exchanges": 6,
                "batch_size": 16,
                "min_clients": 2,
                "setup_deadline": 60.0,
            },
            "evaluation": {"every": 2},
            "checkpoint": {"every": 2},
        }
    )


class Tally:
    """Counts what became of mutants, and the most memory that one of them took."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.counts: Counter[str] = Counter()
        self.foreign: Counter[str] = Counter()
        self.peak = 0

    def judge(self, read: Callable[[], bool], what: str = "") -> None:
        """Read one mutant of a kind; `read` returns whether it is as it was sent."""
        before = _traced(reset=True)[0]
        try:
            became = "as sent" if read() else "accepted, changed"
        except (ProtocolError, DataError):
            became = "refused"
        except Exception as error:  # what is counted here
            became = "foreign"
            self.foreign[f"{type(error).__name__}: {str(error)[:120]}"] += 1
        self.counts[f"{what}{became}"] += 1
        self.peak = max(self.peak, _traced()[1] - before)


def _until(seconds: float, count: int) -> Iterator[int]:
    """Yield 0, 1, ... below `count`, as long as there is time."""
    limit = time.monotonic() + seconds
    yield from itertools.takewhile(lambda _: time.monotonic() < limit, range(count))


def _traced(*, reset: bool = False) -> tuple[int, int]:
    """Return how much memory is taken now and was at most; 0 if that is not traced."""
    if reset and tracemalloc.is_tracing():
        tracemalloc.reset_peak()
    return tracemalloc.get_traced_memory()


# ---- frames --------------------------------------------------------------------------------------


def _edge(seal: bool) -> tuple[SealedEdges | None, SealedEdges | None]:
    """Return both ends' seals, or none."""
    if not seal:
        return None, None
    keys = {name: X25519PrivateKey.generate() for name in ("m0", "m1")}
    nonces = {name: bytes(16) for name in keys}
    first, second = (
        SealedEdges(own, keys[own], {peer: keys[peer].public_key()}, nonces, "0" * 32)
        for own, peer in (("m0", "m1"), ("m1", "m0"))
    )
    return first, second


def mutate_frames(count: int, seed: int = 0, seconds: float = math.inf) -> Tally:
    """Read `count` mutated frames of all codecs, every second sealed, as a client reads them."""
    rng, tally = np.random.default_rng([seed, 1]), Tally()
    edges = {sealed: _edge(sealed) for sealed in (False, True)}
    for number in _until(seconds, count):
        codec, sealed = CODECS[number % len(CODECS)], bool(number % 2)
        values = rng.normal(size=(8, 20)).astype(np.float32)
        sender, _ = edges[sealed]
        frame = Frame.of("train", number, "m0", "m1", codec, values)
        honest = client_frames.write(frame, sender)
        due = client_frames.Due("train", number, "m0", "m1", codec, 8, 20)
        mutant = mutated_frame(rng, honest)

        def read(mutant: bytes = mutant, honest: bytes = honest, sealed: bool = sealed) -> bool:
            got = client_frames.read(mutant, due, edges[sealed][1])  # noqa: B023  # called at once
            if got.shape != (8, 20) or not np.isfinite(got).all():
                raise AssertionError(f"accepted: {got.shape}, finite {np.isfinite(got).all()}")
            return mutant == honest

        tally.judge(read, "sealed, " if sealed else "")
    return tally


# ---- records -------------------------------------------------------------------------------------


def spoken(settings: Settings) -> list[tuple[str, bool, Message]]:
    """Return (verb, whether it is a reply, message) for all that is said in an honest run."""
    said: list[tuple[str, bool, Message]] = []

    def listening(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if context.node_config["client"] == CLIENTS[0]:
            said.extend([(message.metadata.message_type, False, message)])
            said.extend([(message.metadata.message_type, True, reply)])
        return reply

    run(settings, listening)
    return said


def run(settings: Settings, call: Callable[[Message, Context], Message]) -> RunFolder:
    """Run a federation whose clients answer with `call`; return its folder, which is gone soon."""
    app = ClientApp()
    app._call = call
    with (
        tempfile.TemporaryDirectory() as place,
        patch.object(server_app, "draw_report", lambda _: None),
        patch.object(client_evaluation, "draw_sample", lambda *_: None),
    ):
        folder = RunFolder(Path(place) / "run")
        folder.create(settings)
        run_inprocess(settings, folder, client_app=app)
        summary = folder.load_summary()
        blamed = {row.client for row in summary.absences if row.event == "failed"}
        if strangers := blamed - {CLIENTS[0]}:
            raise AssertionError(f"{sorted(strangers)} were blamed for what '{CLIENTS[0]}' sent")
        if not summary.quality.retrieval:
            raise AssertionError("nothing was measured")
    return folder


def readers() -> dict[tuple[str, bool], Callable[[Fields], object]]:
    """Return (verb, whether it is a reply) -> what reads its fields on receipt."""
    peers, ours = CLIENTS[1:], federation()
    checked = check(ours)
    topology = checked.topology
    others = [checked.manifests[client] for client in peers]

    def exchange(fields: Fields) -> None:
        told = ExchangeReply.read(fields)
        told.told_losses(CLIENTS[0], peers)
        told.told_verdicts(CLIENTS[0], peers)
        told.times()

    def manifest(fields: Fields) -> None:
        if (told := ManifestReply.read(fields).manifest) is not None:
            agree([Manifest.from_bytes(told), *others], ours, topology)

    def agreement(fields: Fields) -> None:
        told, data = AgreementOrder.read(fields).agreement, checked.data[CLIENTS[0]]
        own: dict[str, Any] = {split: data.ids_of(split) for split in SPLITS}
        accept(ClientAgreement.from_bytes(told), CLIENTS[0], ours, own, set(data.labels))

    wanted = measured_metrics(ours, final=True)
    kinds = {name: metric.row for name, metric in wanted.items()}

    def scores(fields: Fields) -> None:
        told = ScoresReply.read(fields)
        told.told_scores(CLIENTS[0], peers, kinds)
        told.told_verdicts(CLIENTS[0], peers)

    return {
        (verbs.DESCRIBE, False): Nothing.read,
        (verbs.DESCRIBE, True): manifest,
        (verbs.AGREE, False): agreement,
        (verbs.AGREE, True): Nothing.read,
        (verbs.EXCHANGE, False): lambda f: ExchangeOrder.read(f).check(CLIENTS[0], 6, 0),
        (verbs.EXCHANGE, True): exchange,
        (verbs.EVALUATE_EMBED, False): Measuring.read,
        (verbs.EVALUATE_EMBED, True): Nothing.read,
        (verbs.EVALUATE_SCORE, False): Measuring.read,
        (verbs.EVALUATE_SCORE, True): scores,
        (verbs.FINISH, False): FinishOrder.read,
        (verbs.FINISH, True): FinishReply.read,
    }


Said = list[tuple[Callable[[Fields], object], dict[str, Any]]]


def honest_records() -> Said:
    """Return every question and answer of an honest run, with what reads it."""
    known = readers()
    return [
        (known[verb, answer], dict(unpack(message)[0]))
        for verb, answer, message in spoken(federation())
    ]


def mutate_records(
    count: int, seed: int = 0, seconds: float = math.inf, said: Said | None = None
) -> Tally:
    """Read `count` mutants of what was `said`, by default of all records of a run."""
    rng, tally = np.random.default_rng([seed, 2]), Tally()
    said = [
        *(honest_records() if said is None else said),
        (Refusal.read, {"failed": "its disk is full", "exit_code": 1}),
        (Presence.read, {"boot": "0123456789abcdef"}),
        (Dismissal.read, {"reason": "the graph is not connected"}),
    ]
    for number in _until(seconds, count):
        reader, honest = said[number % len(said)]
        mutant = mutated_fields(rng, honest)

        def read(
            reader: Callable[[Fields], object] = reader,
            mutant: Fields = mutant,
            honest: Fields = honest,
        ) -> bool:
            reader(mutant)
            return mutant == honest

        tally.judge(read)
    return tally


# ---- federations ---------------------------------------------------------------------------------


def lying(rng: Rng, share: float, *, at_once: bool) -> Callable[[Message, Context], Message]:
    """Return what answers for all clients, and for the first with mutants in a `share` of cases.

    It lies in the handshake only if `at_once`: one that is left out there says no more.
    """

    def call(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        honest = message.metadata.message_type in HANDSHAKE and not at_once
        if honest or context.node_config["client"] != CLIENTS[0] or rng.random() > share:
            return reply
        return mutated_reply(rng, reply, message)

    return call


def mutate_federations(count: int, seed: int = 0, seconds: float = math.inf) -> Tally:
    """Run federations in which one client's replies are mutants, until `count` or `seconds`."""
    tally = Tally()
    for number in _until(seconds, count):
        rng = np.random.default_rng([seed, 3, number])
        settings = federation(number % 7)
        tally.judge(lambda s=settings, r=rng: _survived(s, r))  # type: ignore[misc]
    return tally


def _survived(settings: Settings, rng: Rng) -> bool:
    """Run one federation; raise what is foreign to a run that goes on without one client."""
    try:
        share, at_once = float(rng.choice([0.1, 0.3, 1.0])), bool(rng.random() < 0.4)
        run(settings, lying(rng, share, at_once=at_once))
    except SheafAlignError as error:
        raise AssertionError(f"one client ended the run: {error}") from error
    return True


# ---- the program ---------------------------------------------------------------------------------


def tallies(arguments: argparse.Namespace) -> Iterator[tuple[str, Tally]]:
    """Yield what was mutated and what became of it."""
    said = honest_records()
    tracemalloc.start()  # not before, nor for longer: it makes training many times slower
    yield "frames", mutate_frames(arguments.frames, arguments.seed, arguments.seconds)
    yield "records", mutate_records(arguments.records, arguments.seed, arguments.seconds, said)
    tracemalloc.stop()
    federations = mutate_federations(arguments.federations, arguments.seed, arguments.seconds)
    yield "federations", federations


def _memory(tally: Tally) -> str:
    if tally.peak:
        return f"; at most {tally.peak / 2**20:.1f} MiB for one of them"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return f"; the whole process never held more than {most:.0f} MiB"


def main() -> None:
    """Mutate as many as the arguments say, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--federations", type=int, default=1000)
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="at most for each of the three"
    )
    parser.add_argument("--seed", type=int, default=0)
    logging.disable(logging.CRITICAL)
    for what, tally in tallies(parser.parse_args()):
        counts = ", ".join(f"{count} {name}" for name, count in sorted(tally.counts.items()))
        print(f"{what}: {counts or 'none'}{_memory(tally)}")
        for error, count in tally.foreign.most_common():
            print(f"  {count} x {error}")


if __name__ == "__main__":
    main()
