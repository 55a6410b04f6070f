"""What goes wrong on a machine that goes on: said once, tried again ever later, said when over.

Disks are full as far as the process can tell: the system's call by which a file reaches the disk
fails.
"""

import errno
import itertools
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from clients.client_app import app as client_app
from sheafalign_fl.config import Settings
from sheafalign_fl.config.policy import STRICT
from sheafalign_fl.deploy import resident
from sheafalign_fl.deploy.resident import NodeSettings, ResidentNode
from sheafalign_fl.deploy.troubles import Troubles
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.flower.fleet import FleetConnection
from sheafalign_fl.flower.records import unpack
from sheafalign_fl.protocol.verbs import EXCHANGE
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
_log = logging.getLogger("sheafalign.test")


@given(st.integers(1, 60))
def test_pauses_double_and_never_grow_beyond_half_a_minute(count: int) -> None:
    quiet = logging.getLogger("sheafalign.quiet")
    quiet.disabled = True
    troubles = Troubles(quiet)
    pauses = [troubles.note("x", FULL) for _ in range(count)]
    assert pauses[0] == 0.5
    assert all(b == min(2 * a, 30.0) for a, b in itertools.pairwise(pauses))
    troubles.over("x")
    assert troubles.note("x", FULL) == 0.5


def test_a_trouble_is_said_once_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles(_log)
    with caplog.at_level(logging.INFO, "sheafalign.test"):
        for _ in range(3):
            with troubles.outlived("writing", OSError):
                raise FULL
        for _ in range(2):
            with troubles.outlived("writing", OSError):
                pass
    assert [record.getMessage() for record in caplog.records] == [
        "writing: OSError: [Errno 28] No space left on device; trying again",
        "writing: it works again, after 3 failures",
    ]


def test_each_trouble_has_a_count_of_its_own_and_threads_share_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    troubles = Troubles(_log)

    def fail() -> None:
        for _ in range(200):
            troubles.note("shared", FULL)

    threads = [threading.Thread(target=fail) for _ in range(8)]
    with caplog.at_level(logging.INFO, "sheafalign.test"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        troubles.note("other", FULL)
        troubles.over("shared")
    told = [record.getMessage() for record in caplog.records]
    assert sum("shared: OSError" in line for line in told) == 1
    assert "shared: it works again, after 1600 failures" in told
    assert not any(line.startswith("other: it works") for line in told)


def test_what_nobody_foresaw_is_said_with_its_place_in_the_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    troubles = Troubles(_log)
    with troubles.outlived("asking", Exception):
        raise KeyError("nobody foresaw this")
    assert caplog.records[0].exc_info is not None
    with pytest.raises(KeyError), troubles.outlived("writing", OSError):
        raise KeyError("not this block's affair")


def test_a_node_whose_disk_is_full_answers_on_and_writes_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its signs of life go on, what it cannot write is said once, and later it is written."""
    full = threading.Event()
    fsync = os.fsync

    def sync(descriptor: int) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(resident, "HEARTBEAT_SECONDS", 0.02)
    beats = threading.Semaphore(0)
    monkeypatch.setattr(FleetConnection, "heartbeat", lambda _: beats.release())
    state = tmp_path / "state"
    state.mkdir()
    node = ResidentNode(NodeSettings("m0", "127.0.0.1:1", None, state, policy=STRICT))
    full.set()
    thread = threading.Thread(target=node._beat)
    with caplog.at_level(logging.INFO, "sheafalign.node"):
        thread.start()
        for _ in range(6):
            assert beats.acquire(timeout=60)
        assert not (state / "traffic.json").exists()
        full.clear()
        for _ in range(6):
            assert beats.acquire(timeout=60)
        node.stop()
        thread.join()
    assert (state / "traffic.json").is_file()
    told = [line.getMessage() for line in caplog.records if "traffic.json" in line.getMessage()]
    assert told[0].startswith("writing traffic.json: OSError: [Errno 28] No space left on device")
    assert told[1].startswith("writing traffic.json: it works again, after ")
    assert len(told) == 2
    assert [path.name for path in state.iterdir()] == ["traffic.json"]  # nothing half-written


@pytest.mark.slow
def test_a_client_whose_disk_is_full_is_left_out_with_the_reason_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_folder: Callable[[Settings], RunFolder]
) -> None:
    """`tests/system/live_faults.py` has the same with a disk that is full indeed."""
    full, fsync = threading.Event(), os.fsync
    thread_of_m1 = "client-3"

    def sync(descriptor: int) -> None:
        if full.is_set() and threading.current_thread().name.startswith(thread_of_m1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    app = ClientApp()

    def call(message: Message, context: Context) -> Message:
        if context.node_config["client"] == "m1":
            context.node_config["state-dir"] = str(tmp_path / "state")
            fields, _ = unpack(message)
            if message.metadata.message_type == EXCHANGE:
                (full.set if fields.get("embed") in (3, 4) else full.clear)()
        return client_app(message, context)

    app._call = call
    monkeypatch.setattr(os, "fsync", sync)
    settings = toy_settings(training={"exchanges": 8}, checkpoint={"every": 1})
    run_inprocess(settings, folder := run_folder(settings), client_app=app)
    summary = folder.load_summary()
    assert [(row.exchange, row.event) for row in summary.absences] == [
        (2, "failed"), (3, "failed"), (4, "returned"),
    ]  # fmt: skip
    assert "No space left on device" in summary.absences[0].reason
    assert summary.departures == ()
    assert (folder.path / "checkpoints" / "000008" / "relay.json").exists()
    saved = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [name for name in saved if name.startswith(".")]  # nothing half-written
