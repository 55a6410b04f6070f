"""The run folder: nothing is half there, checkpoints come and go whole, cut ends are left out."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import DataError, RunError, SheafAlignError, UserError
from sheafalign_fl.files import write_atomically
from sheafalign_fl.protocol.rows import AbsenceRow
from sheafalign_fl.runs.folder import Checkpoint, MetricsLog, RunFolder, read_rows
from sheafalign_fl.runs.ledger import Ledger, LedgerRow, read_ledger
from sheafalign_fl.runs.versions import versions
from tests.conftest import toy_settings

MakeFolder = Callable[[Settings], RunFolder]


class Interrupted(BaseException):
    """Stands for whatever ends a process in the middle of a write."""


@pytest.fixture
def folder(run_folder: MakeFolder) -> RunFolder:
    return run_folder(toy_settings())


# ---- atomic writes -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 500])
@pytest.mark.parametrize(("public", "mode"), [(False, 0o600), (True, 0o644)])
def test_a_write_is_whole_private_unless_public_and_alone(
    content: bytes, public: bool, mode: int, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "er" / "file.bin"
    for written in (b"old", content):
        write_atomically(path, written, public=public)
        assert path.read_bytes() == written
    assert [found.name for found in path.parent.iterdir()] == ["file.bin"]
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(
    "stage", ["os.fsync", "pathlib.Path.chmod", "pathlib.Path.replace", "os.fdopen"]
)
@pytest.mark.parametrize("old", [b"old", None])
def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(
    stage: str, old: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def interrupt(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(stage, interrupt)
        with pytest.raises(Interrupted):
            write_atomically(path, b"new and longer", public=True)
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == (
        {"file": old} if old else {}
    )


def test_the_content_is_on_disk_before_the_name_points_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, events = tmp_path / "file", list[str]()
    write_atomically(path, b"old")
    fsync, replace = os.fsync, Path.replace

    def synchronise(handle: int) -> None:
        fsync(handle)
        events.append(f"synchronised {os.fstat(handle).st_size}")

    def rename(self: Path, target: Path) -> Path:
        events.append(f"old is {path.read_bytes().decode()}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synchronise)
    monkeypatch.setattr(Path, "replace", rename)
    write_atomically(path, b"newer")
    assert events == ["synchronised 5", "old is old"]
    assert path.read_bytes() == b"newer"


# ---- the folder ----------------------------------------------------------------------------------


def test_a_new_folder_holds_its_settings_and_versions(tmp_path: Path) -> None:
    made = RunFolder(tmp_path / "deep" / "run")
    assert not made.path.exists()  # naming it writes nothing
    chosen = toy_settings(seed=4)
    made.create(chosen)
    assert made.settings() == chosen
    found = json.loads((made.path / "versions.json").read_text(encoding="utf-8"))
    assert found == versions()
    assert {"sheafalign-fl", "python", "platform", "commit", "flwr", "torch", "numpy"} <= set(found)
    assert made.status() == {"state": "new", "reason": ""}


def test_a_folder_that_is_there_is_taken_only_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty").create(toy_settings())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file", "empty"):
        with pytest.raises(UserError, match=f"{name} exists already"):
            RunFolder(tmp_path / name).create(toy_settings())
    with pytest.raises(UserError, match="cannot be made"):
        RunFolder(tmp_path / "file" / "run").create(toy_settings())
    assert [found.name for found in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_what_is_no_run_folder_or_has_no_result_says_so(tmp_path: Path, folder: RunFolder) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        RunFolder(tmp_path / "absent").settings()
    with pytest.raises(RunError, match="the run has not ended"):
        folder.load_summary()


def test_a_status_keeps_the_facts_that_were_said_before(folder: RunFolder) -> None:
    folder.set_status("running", started="now", resumed=0)
    folder.set_status("interrupted", "by the user", resumed=1)
    assert folder.status() == {
        "state": "interrupted",
        "reason": "by the user",
        "started": "now",
        "resumed": 1,
    }
    folder.set_status("completed")
    assert folder.status() == {"state": "completed", "reason": "", "started": "now", "resumed": 1}


# ---- checkpoints ---------------------------------------------------------------------------------


def save(folder: RunFolder, exchange: int, keep: int = 100) -> None:
    for client in ("m0", "m1"):
        folder.save_client(exchange, client, f"{client} after {exchange}".encode())
    folder.complete_checkpoint(
        Checkpoint(exchange, 10 * exchange, 20 * exchange, 0.5 * exchange), keep
    )


@given(
    exchanges=st.lists(st.integers(1, 2_000_000), min_size=1, max_size=7, unique=True),
    keep=st.integers(1, 4),
)
@settings(deadline=None, max_examples=25)
def test_the_newest_checkpoints_are_kept_whole(
    exchanges: list[int], keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = RunFolder(tmp_path_factory.mktemp("run"))
    for count, exchange in enumerate(sorted(exchanges), 1):
        save(made, exchange, keep)
        kept = sorted(exchanges)[:count][-keep:]
        assert sorted(int(found.name) for found in made.checkpoints.iterdir()) == kept
        last = made.last_checkpoint()
        assert last == Checkpoint(exchange, 10 * exchange, 20 * exchange, 0.5 * exchange)
        for present in kept:
            assert made.load_client(present, "m1") == f"m1 after {present}".encode()


def test_a_checkpoint_counts_only_once_the_relay_s_part_is_there(folder: RunFolder) -> None:
    assert folder.last_checkpoint() is None
    folder.save_client(5, "m0", b"state")
    assert folder.last_checkpoint() is None
    save(folder, 5)
    folder.save_client(9, "m0", b"state")
    last = folder.last_checkpoint()
    assert last is not None
    assert last.exchange == 5
    with pytest.raises(RunError, match=r"000009.*m1.safetensors cannot be read"):
        folder.load_client(9, "m1")


@pytest.mark.parametrize("survives", [0, 1, 2])
def test_an_interrupted_removal_leaves_no_checkpoint_that_looks_whole(
    survives: int, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(folder, 1)
    unlink, left = Path.unlink, [survives]

    def interrupted(self: Path, missing_ok: bool = False) -> None:
        if left[0] == 0 and "000001" in self.parts:
            raise Interrupted
        left[0] -= 1
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", interrupted)
        with pytest.raises(Interrupted):
            save(folder, 2, keep=1)
    for client in ("m0", "m1"):
        assert folder.load_client(2, client) == f"{client} after 2".encode()
    complete = [found.parent for found in folder.checkpoints.glob("*/relay.json")]
    for found in complete:
        assert (found / "m0.safetensors").is_file()
        assert (found / "m1.safetensors").is_file()
    assert (folder.checkpoint_dir(1) in complete) == (survives == 0)
    save(folder, 3, keep=1)
    last = folder.last_checkpoint()
    assert last is not None
    assert last.exchange == 3


# ---- going back ----------------------------------------------------------------------------------


def absence(exchange: int) -> AbsenceRow:
    return AbsenceRow(exchange=exchange, client="ü", event="late", reason="x" * (exchange % 5))


def record(folder: RunFolder, exchanges: range) -> list[Checkpoint]:
    """Write a metrics line and a ledger row for each exchange; return the checkpoint after each."""
    ledger, metrics = Ledger(folder.ledger), MetricsLog(folder.metrics)
    found = []
    for exchange in exchanges:
        metrics.write(absence(exchange))
        ledger.record([LedgerRow(exchange, "ü", "b", "train", "float32", 1, 1, 4, 5, 6 + exchange)])
        sizes = folder.metrics.stat().st_size, folder.ledger.stat().st_size
        found.append(Checkpoint(exchange + 1, *sizes, 1.0))
    ledger.close()
    metrics.close()
    return found


@pytest.mark.parametrize("kept", [1, 3, 6])
def test_rewinding_drops_what_came_after_and_recording_again_gives_the_same_files(
    kept: int, folder: RunFolder
) -> None:
    checkpoints = record(folder, range(6))
    whole = folder.metrics.read_bytes(), folder.ledger.read_bytes()
    folder.rewind(checkpoints[kept - 1])
    assert [row["exchange"] for row in read_rows(folder.metrics)] == list(range(kept))
    assert [row.exchange for row in read_ledger(folder.ledger)] == list(range(kept))
    record(folder, range(kept, 6))
    assert (folder.metrics.read_bytes(), folder.ledger.read_bytes()) == whole


def test_rewinding_drops_a_line_and_a_row_that_were_cut_short(folder: RunFolder) -> None:
    checkpoints = record(folder, range(3))
    for path in (folder.metrics, folder.ledger):
        os.truncate(path, path.stat().st_size - 3)
    folder.rewind(checkpoints[1])
    assert [row["exchange"] for row in read_rows(folder.metrics)] == [0, 1]
    assert [row.exchange for row in read_ledger(folder.ledger)] == [0, 1]


def test_rewinding_to_the_beginning_drops_everything(folder: RunFolder) -> None:
    folder.rewind(None)
    record(folder, range(2))
    folder.rewind(None)
    assert not folder.metrics.exists()
    assert not folder.ledger.exists()
    assert folder.settings() == toy_settings()


def test_files_that_are_shorter_than_the_checkpoint_are_refused(folder: RunFolder) -> None:
    last = record(folder, range(3))[-1]
    os.truncate(folder.metrics, last.metrics_bytes - 1)
    with pytest.raises(RunError, match=r"metrics\.jsonl is shorter than the checkpoint says"):
        folder.rewind(last)
    os.truncate(folder.ledger, last.ledger_bytes - 1)
    with pytest.raises(DataError, match="shorter than the checkpoint says"):
        folder.rewind(last)


@pytest.mark.parametrize("name", ["metrics", "ledger"])
def test_a_file_that_has_gone_is_refused(name: str, folder: RunFolder) -> None:
    last = record(folder, range(2))[-1]
    getattr(folder, name).unlink()
    with pytest.raises(SheafAlignError, match="shorter than the checkpoint says"):
        folder.rewind(last)


# ---- metrics -------------------------------------------------------------------------------------


def test_metrics_are_one_line_a_row_written_at_once(folder: RunFolder) -> None:
    log = MetricsLog(folder.metrics)
    for exchange in range(3):
        log.write(absence(exchange))
        assert [row["exchange"] for row in read_rows(folder.metrics)] == list(range(exchange + 1))
    log.close()
    again = MetricsLog(folder.metrics)
    again.write(absence(3))
    again.close()
    rows: list[Any] = list(read_rows(folder.metrics))
    assert [AbsenceRow.model_validate(row) for row in rows] == [
        absence(exchange) for exchange in range(4)
    ]


def cut(folder: RunFolder) -> tuple[bytes, int]:
    """Return three lines of metrics and where the last one starts."""
    record(folder, range(3))
    content = folder.metrics.read_bytes()
    return content, content.rstrip(b"\n").rfind(b"\n") + 1


def test_a_last_line_that_was_cut_short_is_left_out(folder: RunFolder) -> None:
    content, start = cut(folder)
    inside = content.index("ü".encode(), start) + 1  # between the two bytes of a character
    for size in range(start, len(content)):
        if size != inside:
            folder.metrics.write_bytes(content[:size])
            assert [row["exchange"] for row in read_rows(folder.metrics)] == [0, 1]


def test_a_last_line_that_was_cut_inside_a_character_is_left_out(folder: RunFolder) -> None:
    content, start = cut(folder)
    folder.metrics.write_bytes(content[: content.index("ü".encode(), start) + 1])
    assert [row["exchange"] for row in read_rows(folder.metrics)] == [0, 1]
