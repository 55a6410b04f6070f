"""What a live deployment survives: ``python -m tests.system.live_faults [--only WORDS]``.

Every fault strikes a relay, a node, a submitter or a line as real processes, in the middle of a run
of three clients. Then the final weights are compared to the bit, with those of the same federation
undisturbed in one process, or, where a client was away, with those of a federation in one process
in which it was away in the same exchanges.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.client_app import app as client_app
from sheafalign_fl.config import parse_settings
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.flower.records import pack
from sheafalign_fl.protocol.messages import Refusal
from sheafalign_fl.protocol.rows import AbsenceRow
from sheafalign_fl.protocol.verbs import EXCHANGE
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.summary import Summary
from tests.system.deployment import SECONDS, Deployment, deployment, last_exchange
from tests.system.namespaces import mounts_permitted
from tests.system.poor_link import PoorLink

CLIENTS = ["m0", "m1", "m2"]
BAD = "m1"
"""Whom a fault strikes."""
EXCHANGES = 16
STRUCK = 3
"""Exchange after which a fault strikes."""
SPELL = 8.0
"""Seconds for which something is stopped: longer than a relay waits before it asks who is there."""
DEADLINE = 4.0
CONTENT: dict[str, Any] = {
    "name": "live",
    "data": {"source": "tests.toy:source"},
    "clients": {client: {"dim": 8} for client in CLIENTS},
    "graph": {"dim": 4},
    "training": {"exchanges": EXCHANGES, "batch_size": 32, "setup_deadline": 60},
    "evaluation": {"every": 0, "metrics": ["retrieval"]},
    "checkpoint": {"every": 1},
    "security": {"sealed": True},
}
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_FULL = 'mount -t tmpfs -o size={size} none "$0" && exec "$@"'


# ---- what the weights have to be -----------------------------------------------------------------


@dataclass(frozen=True)
class Absence:
    """Exchanges in which a client did not answer, or not in time."""

    client: str
    first: int
    until: int
    """The exchange in which it answered again."""
    stepped: bool
    """Whether it took the step of the first one, and only its answer was lost."""


def absences_of(rows: Sequence[AbsenceRow], served: Callable[[str, int], bool]) -> list[Absence]:
    """Return when each client was away; `served` says if it worked on the question of an exchange.

    Rows of one exchange in which the client dropped out and came back are no absence.
    """
    found, since = [], dict[str, int]()
    for row in rows:
        if row.event == "returned":
            first = since.pop(row.client, row.exchange)
            if row.exchange > first:
                stepped = served(row.client, first)
                found.append(Absence(row.client, first, row.exchange, stepped))
        elif row.exchange < EXCHANGES:
            since.setdefault(row.client, row.exchange)
    return [
        *found,
        *(Absence(c, first, EXCHANGES, served(c, first)) for c, first in since.items()),
    ]


def expected(content: dict[str, Any], absences: Sequence[Absence], folder: Path) -> dict[str, str]:
    """Return the digests of the final weights of the federation in one process."""
    training = {**content["training"], "deadline": None}
    own = {"engine": "inprocess", "security": {"sealed": False}, "training": training}
    settings = parse_settings({**content, **own, "checkpoint": {"every": 0}})
    run = RunFolder(folder)
    run.create(settings)
    run_inprocess(settings, run, client_app=_away(absences))
    return run.load_summary().weights_digest


def _away(absences: Sequence[Absence]) -> ClientApp:
    """Return the ClientApp with clients that do not answer when they were away."""
    app = ClientApp()

    def call(message: Message, context: Context) -> Message:
        if message.metadata.message_type == EXCHANGE:
            client, exchange = context.node_config["client"], int(message.metadata.group_id)
            for each in absences:
                if each.client == client and each.first <= exchange < each.until:
                    if each.stepped and exchange == each.first:
                        client_app(message, context)
                    return Message(
                        pack(Refusal(failed="away", exit_code=1).fields()), reply_to=message
                    )
        return client_app(message, context)

    app._call = call
    return app


# ---- the stage -----------------------------------------------------------------------------------


@dataclass
class Stage:
    """A deployment, and the run that a fault strikes."""

    made: Deployment
    name: str
    content: dict[str, Any]
    later: ExitStack = field(default_factory=ExitStack)
    """What puts the deployment right again."""

    @property
    def folder(self) -> RunFolder:
        """The run's folder on the relay."""
        return RunFolder(self.made.folder / self.made.runs / self.name)

    def state(self, client: str = BAD) -> Path:
        """Return a node's folder of state."""
        return self.made.folder / "state" / client

    def run(self, *more: str) -> None:
        """Submit the run and wait until it is time to strike."""
        self.made.run(self.content, self.name, *more)
        self.reach(STRUCK)

    def reach(self, exchange: int) -> None:
        """Wait until the run has recorded an exchange."""
        self.made.until_exchange(self.folder, exchange, self.name)

    def go_on(self, exchanges: int = 3) -> None:
        """Wait until the run has gone on for a few exchanges."""
        self.reach(min(last_exchange(self.folder) + exchanges, EXCHANGES - 2))

    def node(self, client: str = BAD, *more: str) -> None:
        """Start a node as all are here."""
        self.made.node(client, "--log-format", "json", *more)

    def again(self, client: str = BAD) -> None:
        """End a node, if it is there, and start it as it was at first."""
        if client in self.made.processes:
            if self.made.processes[client].poll() is None:
                self.made.kill(client, signal.SIGTERM)
            else:
                del self.made.processes[client]
        self.made.prefixes.pop(client, None)
        self.node(client)

    def root(self, process: str) -> Path:
        """Return the root of the file systems as a process sees them."""
        return Path(f"/proc/{self.made.processes[process].pid}/root")

    def served(self, client: str, exchange: int) -> bool:
        """Return whether a node worked on the question of an exchange of the run."""
        for line in self._said(client):
            if line.get("message") == EXCHANGE and str(line.get("exchange")) == str(exchange):
                return True
        return False

    def _said(self, client: str) -> Iterator[dict[str, Any]]:
        submission = json.loads((self._submitted() / "submission.json").read_text())
        for line in self.made.printed(client).splitlines():
            if line.startswith("{"):
                content = json.loads(line)
                if str(content.get("run")) == str(submission["run"]):
                    yield content

    def _submitted(self) -> Path:
        near = self.made.folder / self.name
        return near if near.is_dir() else self.made.folder / "far" / self.name


# ---- the faults ----------------------------------------------------------------------------------


def killed_node(stage: Stage) -> None:
    """kill -9 of a node, started again with its state."""
    stage.run()
    stage.made.kill(BAD)
    stage.node()


def killed_three_times(stage: Stage) -> None:
    """kill -9 of a node, three times."""
    killed_node(stage)
    for client in ("m0", BAD):
        stage.go_on()
        stage.made.kill(client)
        stage.node(client)


def all_nodes_killed(stage: Stage) -> None:
    """kill -9 of all nodes at once."""
    stage.run()
    for client in CLIENTS:
        stage.made.kill(client)
    for client in CLIENTS:
        stage.node(client)


def restarted_service(stage: Stage) -> None:
    """A node's service is restarted: SIGTERM, and started again."""
    stage.run()
    stage.again()


def stopped(*names: str) -> Callable[[Stage], None]:
    """SIGSTOP for a while, and SIGCONT."""

    def happens(stage: Stage) -> None:
        stage.run()
        processes = [name or stage.name for name in names]
        for name in processes:
            stage.made.kill(name, signal.SIGSTOP)
        time.sleep(SPELL)
        for name in processes:
            stage.made.kill(name, signal.SIGCONT)

    return happens


def stopped_past_the_deadline(stage: Stage) -> None:
    """A node is stopped until the others have gone on without it."""
    stage.run()
    stage.made.kill(BAD, signal.SIGSTOP)
    stage.go_on()
    stage.made.kill(BAD, signal.SIGCONT)


def relay_ended(number: int) -> Callable[[Stage], None]:
    """The relay is ended and started again, and the run resumed."""

    def happens(stage: Stage) -> None:
        stage.run()
        stage.made.kill("relay", number)
        code = stage.made.wait(stage.name)
        assert code == 1, (code, stage.made.printed(stage.name))
        stage.made.relay()
        stage.made.resume(stage.name)

    return happens


def killed_submitter(stage: Stage) -> None:
    """kill -9 of the submitter; another one attends."""
    stage.run()
    stage.made.kill(stage.name)
    trust = ["--relay", stage.made.address, *stage.made.trust]
    stage.made.start(stage.name, "run", "--attach", stage.name, *trust)


def interrupted(stage: Stage) -> None:
    """Ctrl-C at the submitter, and --resume."""
    stage.run()
    stage.made.processes[stage.name].send_signal(signal.SIGINT)
    assert stage.made.wait(stage.name) == 130
    stage.made.resume(stage.name)


def late_node(stage: Stage) -> None:
    """A node that is started after the run was submitted."""
    stage.made.kill(BAD, signal.SIGTERM)
    stage.made.run(stage.content, stage.name)
    time.sleep(SPELL)
    stage.node()


@contextmanager
def _through(stage: Stage, link: PoorLink) -> Iterator[None]:
    """Let the bad node reach the relay through `link` alone."""
    straight = stage.made.address
    with link:
        stage.made.address = f"127.0.0.1:{link.port}"
        if BAD in stage.made.processes:
            stage.made.kill(BAD, signal.SIGTERM)
        stage.node()
        stage.made.address = straight
        yield
        stage.again()


def poor_line(stage: Stage) -> None:
    """A line of 20 ms and 1 MB/s that breaks off every 400 kB."""
    link = PoorLink(stage.made.port, delay=0.01, rate=1e6, cut_after=400_000)
    stage.later.enter_context(_through(stage, link))
    stage.run()


def broken_line(stage: Stage) -> None:
    """A line that breaks off for a while."""
    fast = {"delay": 0.0, "rate": 1e9, "cut_after": 2**40}
    link = PoorLink(stage.made.port, **fast)  # type: ignore[arg-type]
    stage.later.enter_context(_through(stage, link))
    stage.run()
    link.__exit__(None, None, None)
    time.sleep(SPELL)
    again = PoorLink(stage.made.port, **fast, port=link.port)  # type: ignore[arg-type]
    stage.later.enter_context(again)


def full_disk(stage: Stage) -> None:
    """A node's disk fills up, and there is room again."""
    _own_state(stage, "16m")
    stage.run()
    ballast = _fill(stage.root(BAD) / stage.state().relative_to("/"))
    stage.go_on()
    ballast.unlink()


def full_disk_without_room(stage: Stage) -> None:
    """A node's disk fills up for good."""
    _own_state(stage, "16m")
    stage.run()
    _fill(stage.root(BAD) / stage.state().relative_to("/"))


def _own_state(stage: Stage, size: str) -> None:
    """Start the bad node with a small disk of its own for its state."""
    stage.made.kill(BAD, signal.SIGTERM)
    shutil.rmtree(stage.state())
    stage.state().mkdir(mode=0o700)
    words = ["unshare", "-m", "sh", "-c", _FULL.format(size=size), str(stage.state())]
    stage.made.prefixes[BAD] = words
    stage.node()
    stage.later.callback(stage.again)


def _fill(folder: Path) -> Path:
    """Write until nothing more can be."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return ballast


def full_disk_of_the_relay(stage: Stage) -> None:
    """The relay's disk fills up; there is room again, and the run is resumed."""
    made = stage.made
    made.kill("relay", signal.SIGTERM)
    made.runs = "runs-on-a-small-disk"
    (made.folder / made.runs).mkdir()
    disk = str(made.folder / made.runs)
    made.prefixes["relay"] = ["unshare", "-m", "sh", "-c", _FULL.format(size="16m"), disk]
    made.relay()
    stage.later.callback(partial(_plain_relay, made))
    inside = stage.root("relay") / (made.folder / made.runs).relative_to("/")
    far = RunFolder(made.folder / "far" / stage.name)
    made.run(stage.content, stage.name, "--out", f"far/{stage.name}")
    made.until_exchange(far, STRUCK, stage.name)
    ballast = _fill(inside)
    assert made.wait(stage.name) == 1, made.printed(stage.name)
    assert "No space left on device" in made.printed(stage.name)
    ballast.unlink()
    trust = ["--relay", made.address, *made.trust]
    made.start(stage.name, "run", "--resume", f"far/{stage.name}", *trust)


def _plain_relay(made: Deployment) -> None:
    made.kill("relay", signal.SIGTERM)
    made.prefixes.pop("relay")
    made.runs = "."
    made.relay()


def read_only(stage: Stage) -> None:
    """A node's checkpoints cannot be written for a while: a read-only file system."""
    stage.made.kill(BAD, signal.SIGTERM)
    stage.made.prefixes[BAD] = ["unshare", "-m"]
    stage.node()
    stage.later.callback(stage.again)
    stage.run()
    pid = str(stage.made.processes[BAD].pid)
    (run,) = (
        path
        for path in stage.state().glob("*/checkpoints")
        if path.parent.name == stage.folder.identity
    )
    inside = ["nsenter", "-t", pid, "-m"]
    _run([*inside, "mount", "-t", "tmpfs", "-o", "ro", "none", str(run)])
    stage.go_on()
    _run([*inside, "umount", str(run)])


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, capture_output=True)


def lost_state(stage: Stage) -> None:
    """A node comes back with an empty folder of state."""
    stage.run()
    stage.made.kill(BAD)
    shutil.rmtree(stage.state())
    stage.node()


def old_state(stage: Stage) -> None:
    """A node comes back with its state of some exchanges ago, as out of a backup."""
    stage.run()
    backup = stage.made.folder / f"backup-{stage.name}"
    stage.made.kill(BAD)
    shutil.copytree(stage.state(), backup)
    stage.node()
    stage.go_on(4)
    stage.made.kill(BAD)
    shutil.rmtree(stage.state())
    backup.rename(stage.state())
    stage.node()


def copied_state(stage: Stage) -> None:
    """A second node is started from a copy of the first one's folder of state."""
    stage.run()
    made = stage.made
    shutil.copytree(stage.state(), made.folder / "state" / "copy")
    stage.later.callback(partial(shutil.rmtree, made.folder / "state" / "copy"))
    words = ["node", BAD, "--relay", made.address, *made.trust, "--state", "state/copy"]
    done = made.command(*words)
    assert done.returncode == 2, done.stderr
    assert "is a copy of the state folder of a node" in " ".join(done.stderr.split())


def clock_off(stage: Stage) -> None:
    """A node's clock jumps by an hour; it is put right, and the node started again."""
    now = stage.made.folder / "clock"
    now.write_text("+0")
    stage.made.kill(BAD, signal.SIGTERM)
    stage.made.prefixes[BAD] = [
        "env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={now}", "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ]  # fmt: skip
    stage.node()
    stage.run()
    now.write_text("+3600")
    limit = time.monotonic() + SECONDS
    while stage.made.processes[BAD].poll() is None and time.monotonic() < limit:
        time.sleep(0.1)
    assert stage.made.wait(BAD) == 2
    assert "this machine's clock is off" in " ".join(stage.made.printed(BAD).split())
    stage.made.prefixes.pop(BAD)
    stage.node()


def revoked(stage: Stage) -> None:
    """A client's certificate is revoked in the middle of the run."""
    stage.later.callback(partial(_new_keys, stage))
    stage.run()
    done = stage.made.command("keys", "revoke", "keys", BAD)
    assert done.returncode == 0, done.stderr


def _new_keys(stage: Stage) -> None:
    """A key that was taken back stays so: the client gets another one."""
    done = stage.made.command("keys", "add-client", "keys", BAD)
    assert done.returncode == 0, done.stderr
    registered = stage.made.folder / "relay-state" / "registered.json"
    stage.made.until(lambda: BAD in json.loads(registered.read_text()), "relay")
    (stage.state() / "owner.json").unlink()  # the state is the new key's now
    stage.again()


def renewed(stage: Stage) -> None:
    """The relay's certificate is renewed in the middle of the run."""
    stage.run()
    done = stage.made.command("keys", "renew", "keys", "relay")
    assert done.returncode == 0, done.stderr


def two_runs(stage: Stage) -> None:
    """Another run of the same clients goes on at the same time."""
    other = f"{stage.name}-beside"
    stage.made.run({**stage.content, "seed": 1}, other)
    stage.run()
    assert stage.made.wait(other) == 0, stage.made.printed(other)


def plain_run(stage: Stage) -> None:
    """Nothing: what is wrong is in the configuration of the bad client's sensor."""
    stage.run()


def _encoder(name: str, **options: Any) -> dict[str, Any]:
    """Return the change of configuration by which the bad client has another encoder."""
    own = {"dim": 8, "encoder": f"tests.toy:{name}", "encoder_options": options}
    return {"clients": {**CONTENT["clients"], BAD: own}}


@dataclass(frozen=True)
class LiveFault:
    """One kind of fault."""

    name: str
    happens: Callable[[Stage], None]
    away: bool = False
    """Whether the run goes on without a client; otherwise the weights are those of undisturbed
    runs."""
    deadline: float | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    needs: Callable[[], str | None] = lambda: None
    """Says why it cannot happen here."""
    gone: bool = False
    """Whether the bad client does not come back, and the run says so."""


def _no_faketime() -> str | None:
    return None if FAKETIME.is_file() else "libfaketime is not installed here"


FAULTS: tuple[LiveFault, ...] = (
    LiveFault("nothing", plain_run),
    LiveFault("node: kill -9, started again", killed_node),
    LiveFault("nodes: kill -9 three times", killed_three_times),
    LiveFault("all nodes: kill -9 at once", all_nodes_killed),
    LiveFault("node: service restarted", restarted_service),
    LiveFault("node: started after the run", late_node),
    LiveFault("node: stopped 8 s", stopped(BAD)),
    LiveFault("relay: stopped 8 s", stopped("relay")),
    LiveFault("all machines: stopped 8 s", stopped("relay", "", *CLIENTS)),
    LiveFault("relay: kill -9, --resume", relay_ended(signal.SIGKILL)),
    LiveFault("relay: service restarted, --resume", relay_ended(signal.SIGTERM)),
    LiveFault("submitter: kill -9, --attach", killed_submitter),
    LiveFault("submitter: Ctrl-C, --resume", interrupted),
    LiveFault("line: slow, breaks off again and again", poor_line),
    LiveFault("line: gone for 8 s", broken_line),
    LiveFault("node: copy of its state started", copied_state),
    LiveFault("node: clock off by an hour", clock_off, needs=_no_faketime),
    LiveFault("relay: certificate renewed", renewed),
    LiveFault("relay: disk full, --resume", full_disk_of_the_relay, needs=mounts_permitted),
    LiveFault("another run at the same time", two_runs),
    LiveFault("node: sends NaN", plain_run, changes=_encoder("Spoiling", nth=6)),
    LiveFault("node: sends 1e18 times its embeddings", plain_run,
              changes=_encoder("Spoiling", nth=6, exponent=18)),
    LiveFault("node: stopped past the deadline", stopped_past_the_deadline, True, DEADLINE),
    LiveFault("node: disk full for a while", full_disk, True, needs=mounts_permitted),
    LiveFault("node: disk full for good", full_disk_without_room, True,
              needs=mounts_permitted, gone=True),
    LiveFault("node: read-only for a while", read_only, True, needs=mounts_permitted),
    LiveFault("node: state lost", lost_state, True, gone=True),
    LiveFault("node: state of a backup", old_state, True, gone=True),
    LiveFault("node: certificate revoked", revoked, True, DEADLINE, gone=True),
    LiveFault("node: slower than the deadline once", plain_run, True, DEADLINE,
              _encoder("Dawdling", count="{count}", nth=6, seconds=3 * DEADLINE)),
)  # fmt: skip


# ---- one fault -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survived:
    """What came of a run that a fault struck."""

    name: str
    """Of the run."""
    summary: Summary
    absences: tuple[Absence, ...]
    same: bool
    """Whether the weights are what they have to be, to the bit."""
    seconds: float

    def told(self) -> tuple[str, str]:
        """Return how it ended, and what its weights are."""
        gone = [departure.client for departure in self.summary.departures]
        ended = f"completed without {', '.join(gone)}" if gone else "completed"
        as_what = "with the same absences" if self.absences else "undisturbed"
        away = sum(each.until - each.first for each in self.absences)
        lost = f", {away} of {EXCHANGES} without {BAD}" if away else ""
        return ended + lost, f"{'' if self.same else 'NOT '}equal to the run {as_what}"


def strike(fault: LiveFault, made: Deployment, scratch: Path) -> Survived:
    """Let one fault happen; return what came of it. The deployment is as before then."""
    name = "-".join("".join(c if c.isalnum() else " " for c in fault.name.lower()).split())
    training = {**CONTENT["training"], "deadline": fault.deadline}
    content = {**CONTENT, **fault.changes, "training": training}
    stage = Stage(made, name, _counted(content, scratch / f"{name}-live"))
    begun = time.monotonic()
    with stage.later:
        fault.happens(stage)
        code = made.wait(name)
        assert code == 0, f"{fault.name}: exit code {code}\n{made.printed(name)[-3000:]}"
        seconds = time.monotonic() - begun
        summary = RunFolder(stage._submitted()).load_summary()
        absences = absences_of(summary.absences, stage.served)
    want = expected(_counted(content, scratch / f"{name}-alone"), absences, scratch / name)
    same = summary.weights_digest == {client: want[client] for client in summary.weights_digest}
    return Survived(name, summary, tuple(absences), same, seconds)


def _counted(content: dict[str, Any], count: Path) -> dict[str, Any]:
    """Let a sensor that is slow once count its passes in a file of its own."""
    text = json.dumps(content).replace("{count}", str(count))
    found: dict[str, Any] = json.loads(text)
    return found


def check(fault: LiveFault, survived: Survived) -> None:
    """Fail unless a fault was survived as is promised."""
    absent = {each.client for each in survived.absences}
    assert (BAD in absent) == fault.away, survived.absences
    # With a deadline a busy machine makes others late, too: then they were away as well.
    assert fault.deadline is not None or absent <= {BAD}, survived.absences
    gone = {departure.client for departure in survived.summary.departures}
    assert gone == ({BAD} if fault.gone else set()), survived.summary.departures
    assert survived.same, (survived.absences, survived.summary.absences)


@contextmanager
def theatre(folder: Path) -> Iterator[Deployment]:
    """Yield a relay with three nodes."""
    with deployment(folder, CLIENTS) as made:
        made.relay()
        made.nodes("--log-format", "json")
        yield made


# ---- the table -----------------------------------------------------------------------------------


def main() -> int:
    """Print the table; return how many faults were not survived as promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="faults whose names hold this")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--last", type=int, default=len(FAULTS), help="number of the last one")
    parser.add_argument("--markdown", action="store_true", help="as a table for the documentation")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    row = "| {} | {} | {} | {} |" if options.markdown else "{:42} {:42} {:48} {:>6}"
    print(row.format("fault", "the run", "final weights", "s"))
    if options.markdown:
        print("|---|---|---|---|")
    faults = [f for f in FAULTS[options.first : options.last + 1] if options.only in f.name]
    failed = 0
    while faults:
        survived = 0
        for cells in rows(faults):
            print(row.format(*cells), flush=True)
            survived += 1
        failed += survived < len(faults)
        faults = faults[survived + 1 :]
    return failed


def rows(faults: Sequence[LiveFault]) -> Iterator[tuple[str, str, str, str]]:
    """Yield what came of each fault, until one is not survived: that spoils the deployment."""
    with tempfile.TemporaryDirectory() as folder, theatre(Path(folder) / "here") as made:
        for fault in faults:
            if (why := fault.needs()) is not None:
                yield fault.name, f"not tried: {why}", "", ""
                continue
            try:
                survived = strike(fault, made, Path(folder))
                check(fault, survived)
            except Exception:
                print(fault.name, traceback.format_exc(), file=sys.stderr, flush=True)
                return
            yield fault.name, *survived.told(), f"{survived.seconds:.0f}"


if __name__ == "__main__":
    sys.exit(main())
