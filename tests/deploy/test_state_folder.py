"""A node's state folder: a copy is noticed, another's refused, old runs go; logs are rotated."""

import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sheafalign_fl.deploy.logs import JsonLines, log_to, print_log, rotate
from sheafalign_fl.deploy.state_folder import MARK, Mark, copied_from, prune_runs, sign
from sheafalign_fl.errors import UserError
from sheafalign_fl.files import keep_private, private_folder

KEY = ec.generate_private_key(ec.SECP384R1()).public_key()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "original"
    private_folder(made, "it")
    sign(made, Mark.here(made, "camera", KEY))
    return made


def test_a_copy_is_noticed_and_the_original_is_not_taken_for_one(folder: Path) -> None:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    assert copied_from(folder, Mark.here(folder, "camera", KEY)) is None
    assert copied_from(copy, Mark.here(copy, "camera", KEY)) == os.uname().nodename
    moved = folder.rename(folder.with_name("moved"))
    assert copied_from(moved, Mark.here(moved, "camera", KEY)) is None
    sign(copy, Mark.here(copy, "camera", KEY))
    assert copied_from(copy, Mark.here(copy, "camera", KEY)) is None


def test_a_folder_of_another_machine_is_a_copy(folder: Path) -> None:
    content = json.loads((folder / MARK).read_text()) | {"machine": "0" * 32, "host": "attic"}
    (folder / MARK).write_text(json.dumps(content))
    assert copied_from(folder, Mark.here(folder, "camera", KEY)) == "attic"


def test_the_folder_of_another_client_or_key_is_refused(folder: Path) -> None:
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(UserError, match="state folder of client 'camera', not of 'lidar'"):
        copied_from(folder, Mark.here(folder, "lidar", KEY))
    with pytest.raises(UserError, match="with another key"):
        copied_from(folder, Mark.here(folder, "camera", other))
    (folder / MARK).write_text("[1")
    with pytest.raises(UserError, match="is damaged"):
        copied_from(folder, Mark.here(folder, "camera", KEY))


def test_the_newest_runs_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    for number in range(5):
        run = tmp_path / f"{number:032x}" / "checkpoints"
        run.mkdir(parents=True)
        for path in (run, run.parent):
            os.utime(path, (1000 + number, 1000 + number))
    (tmp_path / "sessions").mkdir()
    (tmp_path / "peers.json").write_text("{}")
    os.utime(tmp_path / f"{0:032x}" / "checkpoints", (9000, 9000))  # written to lately
    assert prune_runs(tmp_path, keep=2) == 3
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{0:032x}", f"{4:032x}", "sessions", "peers.json"}
    assert prune_runs(tmp_path, keep=2) == 0


def test_what_is_made_afterwards_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        keep_private()
        (tmp_path / "file").write_text("x")
        (tmp_path / "folder").mkdir()
    finally:
        os.umask(before)
    open_folder = tmp_path / "open"
    open_folder.mkdir(mode=0o755)
    private_folder(open_folder, "it")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"file": 0o600, "folder": 0o700, "open": 0o700}


def test_a_folder_that_cannot_be_written_to_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"the state folder .* cannot be written to: Not a dir"):
        private_folder(tmp_path / "file" / "state", "the state folder")
    with pytest.raises(UserError, match=r"node\.log cannot be written: "):
        log_to(tmp_path / "file" / "node.log")


@pytest.fixture
def _logger_as_before() -> Iterator[None]:
    logger = logging.getLogger("sheafalign")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.mark.usefixtures("_logger_as_before")
def test_the_terminal_shows_json_with_facts_if_it_is_asked_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_log("json")
    logging.getLogger("sheafalign.node").info("train", extra={"facts": {"exchange": "4"}})
    line = json.loads(capsys.readouterr().err)
    assert (line["message"], line["exchange"], line["level"]) == ("train", "4", "info")
    assert JsonLines({"run": 3}).format(logging.makeLogRecord({"msg": "a\nb"})).count("\n") == 0


def test_the_log_of_another_process_is_put_aside_and_goes_on_at_its_start(tmp_path: Path) -> None:
    path = tmp_path / "superlink.log"
    with path.open("ab", buffering=0) as writer:
        for number in range(4):
            writer.write(b"%d" % number * 10)
            assert rotate(path, most=10, kept=2)
        writer.write(b"new")
        assert not rotate(path, most=10, kept=2)
    found = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert found == {
        "superlink.log": b"new",
        "superlink.log.1": b"3" * 10,
        "superlink.log.2": b"2" * 10,
    }
