"""Ray's sockets under long temporary folders, and errors of Ray that must reach the user."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sheafalign_fl.engines import simulation
from sheafalign_fl.errors import SheafAlignError, UserError
from sheafalign_fl.flower import sockets
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings
from tests.system.command import environment, sheafalign

LONG = "a-folder-for-temporary-files-as-they-are-on-a-mac-or-in-a-job-of-a-cluster-0123456789"


@pytest.fixture
def long_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a long folder the one for temporary files."""
    folder = tmp_path / LONG
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return folder


def test_the_folder_takes_a_socket_as_long_as_rays(long_folder: Path) -> None:
    with sockets.socket_folder() as folder:
        assert not folder.is_relative_to(long_folder)
        assert folder.stat().st_mode & 0o077 == 0
        deep = folder / "ray" / "session_2026-11-25_12-49-50_123456_4194304" / "sockets"
        deep.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(str(deep / "plasma_store"))
    assert not folder.exists()
    assert not list(long_folder.iterdir())


def test_a_short_folder_for_temporary_files_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        with sockets.socket_folder() as folder:
            assert folder.parent == Path(short)
        assert not list(Path(short).iterdir())


def test_a_folder_that_the_user_names_for_ray_comes_first(
    long_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as own:
        monkeypatch.setenv("RAY_TMPDIR", own)
        with sockets.socket_folder() as folder:
            assert folder.parent == Path(own)


def test_it_is_said_where_no_folder_will_do(
    long_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = long_folder / "missing"
    monkeypatch.setattr(sockets, "_parents", lambda: [long_folder, missing])
    with pytest.raises(UserError) as caught:
        sockets.check_simulation()
    line = str(caught.value)
    assert f"{long_folder} (AF_UNIX path too long)" in line
    assert f"{missing} (No such file or directory)" in line
    assert "RAY_TMPDIR" in line
    assert "engine: inprocess" in line
    assert not list(long_folder.iterdir())


def configuration(folder: Path) -> str:
    path = folder / "toy.yaml"
    path.write_text(
        "data: {source: tests.toy:source}\nclients: {m0: {dim: 8}, m1: {dim: 8}}\n"
        "graph: {dim: 8}\ntraining: {exchanges: 2, batch_size: 32}\n"
        "evaluation: {every: 0, metrics: [retrieval]}\n",
        encoding="utf-8",
    )
    return str(path)


@pytest.mark.slow
def test_the_default_engine_runs_under_a_long_folder(
    tmp_path: Path, long_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(long_folder))
    assert environment()["TMPDIR"] == str(long_folder)
    done = sheafalign("run", configuration(tmp_path), "--out", str(tmp_path / "run"), "--quiet")
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / "run").status()["state"] == "completed"
    assert not [
        path for path in long_folder.iterdir() if path.name.startswith(("sheafalign", "sf"))
    ]


@pytest.mark.slow
def test_what_ray_says_reaches_the_user_and_flowers_log(
    long_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_reports: None
) -> None:
    """The same fault as before, made by hand: a folder that is too long for Ray's sockets."""

    @contextmanager
    def too_long() -> Iterator[Path]:
        yield long_folder

    monkeypatch.setattr(simulation, "socket_folder", too_long)
    folder = RunFolder(tmp_path / "run")
    settings: Any = toy_settings(engine="flower")
    folder.create(settings)
    with pytest.raises(SheafAlignError) as caught:
        simulation.run_simulation(settings, folder)
    assert "AF_UNIX path length cannot exceed" in str(caught.value)
    assert "\n" not in str(caught.value)
    log = (folder.path / "flower.log").read_text(encoding="utf-8")
    assert "AF_UNIX path length cannot exceed" in log
    assert "Traceback" in log
