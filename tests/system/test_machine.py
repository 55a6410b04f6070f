"""Terminals, folders and limits of the machine: one clear line, or a run like any other."""

import errno
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sheafalign_fl.cli import machine
from tests.system.command import environment, sheafalign

COMMAND = str(Path(sys.executable).parent / "sheafalign")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp932"])
def test_what_a_terminal_cannot_write_is_a_question_mark(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    machine.fit_the_terminal()
    print("thermal \u2013 sonar \U0001f321")
    sys.stdout.flush()
    assert raw.getvalue().decode(encoding).startswith("thermal ")


def test_a_whole_command_speaks_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    done = sheafalign("data", "describe", "watch")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_a_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    line = f"cd gone && rmdir ../gone && {shlex.quote(COMMAND)} check mine.yaml"
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: the current folder does not exist any more; cd to one that does\n"


@pytest.mark.slow
def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("clients: [camera, lidar]\n")
    done = sheafalign("run", "mine.yaml", "--out", "a" * 300, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: file name too long: aaa")
    assert "give a shorter name" in done.stderr
    assert done.stderr.count("\n") == 1


def test_limits_are_told_with_a_mend_and_mistakes_of_ours_are_not() -> None:
    full = machine.explained(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/ledger.csv"))
    assert "no space left on device: runs/a/ledger.csv" in str(full)
    assert "--resume" in str(full)
    assert "ulimit -n" in str(machine.explained(OSError(errno.EMFILE, "")))
    for number in machine._CURES:
        told = machine.explained(OSError(number, "", "x" * 200))
        assert told is not None
        assert str(told).startswith(os.strerror(number).lower() + ": x")
    assert machine.explained(FileNotFoundError(errno.ENOENT, "", "x")) is None
    assert machine.explained(BrokenPipeError(errno.EPIPE, "")) is None
