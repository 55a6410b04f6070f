"""Bytes on the wire, counted against Flower's own object tree; shares that add up; run folders."""

import json
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.errors import ProtocolError, RunError, UserError
from sheafalign_fl.flower.records import pack, share, unpack, wire_bytes
from sheafalign_fl.run.folder import Checkpoint, RunFolder, read_rows, write_atomically
from tests.conftest import toy_settings

names = st.text("abc.-ü", min_size=1, max_size=8)
scalars = st.one_of(st.integers(-(2**60), 2**60), st.text(max_size=9), st.binary(max_size=30), st.booleans())


@given(st.dictionaries(names, scalars, max_size=4), st.dictionaries(names, st.binary(max_size=4000), max_size=4))
@settings(deadline=None, max_examples=40)
def test_messages_come_out_as_they_went_in_and_every_byte_is_counted(
    fields: dict[str, int | str | bytes | bool], frames: dict[str, bytes]
) -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    message = Message(pack(fields, frames), 7, "train.exchange")
    assert unpack(message) == (fields, frames)
    tree = get_all_nested_objects(message)
    assert wire_bytes(message) == sum(len(part.deflate()) for part in tree.values())


@given(st.dictionaries(names, st.integers(0, 10**6), min_size=1, max_size=9), st.integers(0, 5000))
@settings(deadline=None)
def test_shares_add_up_and_hold_at_least_the_frame(parts: dict[str, int], envelope: int) -> None:
    shares = share(sum(parts.values()) + envelope, parts)
    assert sum(shares.values()) == sum(parts.values()) + envelope
    assert all(shares[name] >= own for name, own in parts.items())
    overheads = [shares[name] - own for name, own in parts.items()]
    assert max(overheads) - min(overheads) <= 1


def test_foreign_messages_are_refused() -> None:
    from flwr.app import ConfigRecord, MetricRecord, RecordDict

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    for content in (
        RecordDict(),
        RecordDict({"s": MetricRecord({"a": 1.0})}),
        RecordDict({"s": ConfigRecord({">a": "text"})}),
        RecordDict({"s": ConfigRecord({"a": [1, 2]})}),
    ):
        with pytest.raises(ProtocolError):
            unpack(Message(content, 7, "train.exchange"))


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", fail)
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_only_complete_checkpoints_count_and_old_ones_go(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(toy_settings())
    for exchange in (10, 20, 30):
        folder.save_client(exchange, "m0", b"state")
        folder.complete_checkpoint(Checkpoint(exchange, 0, 0, 1.0), keep=2)
    folder.save_client(40, "m0", b"half")
    last = folder.last_checkpoint()
    assert last is not None
    assert last.exchange == 30
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["000020", "000030", "000040"]
    assert folder.load_client(30, "m0") == b"state"
    with pytest.raises(RunError, match="cannot be read"):
        folder.load_client(30, "m1")


def test_rows_and_status_of_a_run_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(toy_settings())
    assert folder.settings() == toy_settings()
    assert folder.status()["state"] == "new"
    folder.set_status("running", resumed=2)
    folder.set_status("failed", "because")
    assert folder.status() == {"state": "failed", "reason": "because", "resumed": 2}
    folder.metrics.write_text(json.dumps({"a": 1}) + '\n{"a": 2', encoding="utf-8")
    assert list(read_rows(folder.metrics)) == [{"a": 1}]
    with pytest.raises(UserError, match="exists already"):
        folder.create(toy_settings())
    with pytest.raises(UserError, match="is no run folder"):
        RunFolder(tmp_path).settings()
