"""`--data` on run, check and compare; engines that do not fit what is asked."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.own_data.make_recordings import make_recordings
from sheafalign_fl.cli import app
from sheafalign_fl.engines import launch
from sheafalign_fl.engines.deployed import Deployment
from sheafalign_fl.errors import UserError
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

CONFIG = """\
engine: inprocess
data: {source: folder, path: elsewhere}
clients: {microphone: {dim: 8}, thermal: {dim: 8}}
graph: {dim: 8}
training: {exchanges: 2, batch_size: 16}
evaluation: {every: 0, metrics: [retrieval]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make recordings that are not where the configuration says."""
    make_recordings(tmp_path / "here", events=300)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words: str) -> BaseException | None:
    return CliRunner().invoke(app, list(words)).exception


def test_the_data_lies_where_the_option_says(folder: Path) -> None:
    """It is taken from the current folder, not from the configuration's."""
    assert "there is no folder" in str(invoke("check", "sub/mine.yaml"))
    assert invoke("check", "sub/mine.yaml", "--data", "here") is None
    assert invoke("run", "sub/mine.yaml", "--data", "here", "--out", "run", "-q") is None
    assert RunFolder(folder / "run").settings().data.path == str((folder / "here").resolve())


def test_what_does_not_go_with_data_is_said(folder: Path) -> None:
    assert "no such folder or file" in str(invoke("run", "sub/mine.yaml", "--data", "nowhere"))
    assert "no such folder or file" in str(invoke("compare", "sub/mine.yaml", "--data", "nowhere"))
    words = ["--set", "data.source=scenes", "--set", "clients=[camera, lidar]"]
    line = str(invoke("run", "sub/mine.yaml", "--data", "here", *words))
    assert "the source 'scenes' reads no folder of yours" in line
    assert "leave out --data, --out and --init-from" in str(
        invoke("run", "--resume", "run", "--data", "here")
    )


@pytest.mark.parametrize("extra", [["--engine", "inprocess"], ["--data", "."]])
@pytest.mark.parametrize("what", [["sub/mine.yaml"], ["--resume", "run"]])
def test_a_run_on_a_relay_has_no_other_engine_and_no_data(
    extra: list[str], what: list[str], folder: Path
) -> None:
    words = ["run", *what, "--relay", "127.0.0.1:1", "--insecure", *extra]
    assert "--engine and --data are for runs on this machine" in str(invoke(*words))


def test_a_run_is_not_resumed_on_a_relay_with_another_engine(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(toy_settings())
    with pytest.raises(UserError, match="cannot go on with engine 'inprocess'"):
        launch.resume(folder.path, "inprocess", Deployment("127.0.0.1:1", None))


def test_the_help_names_every_engine() -> None:
    told = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    assert all(engine in told for engine in launch.ENGINES)
