"""`sheafalign run` with --init-from, --resume --set, --track: what it does, and its last lines."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import sheafalign_fl as sf
from sheafalign_fl.cli.commands import app
from sheafalign_fl.errors import UserError
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toy.yaml"
    content = toy_settings(clients={"m0": {"dim": 8}, "m1": {"dim": 8}}).model_dump(mode="json")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["run", "-q", *map(str, words)])


def refused(*words: object) -> str:
    """Return what a command that is refused says; its errors are one line."""
    done = run(*words)
    assert isinstance(done.exception, UserError), done.output
    assert len(str(done.exception).splitlines()) == 1
    return str(done.exception)


def test_one_run_after_the_other(config: Path) -> None:
    assert run(config, "--out", "one").exit_code == 0
    one = RunFolder(Path("one")).load_summary()
    checked = CliRunner().invoke(app, ["check", str(config), "--set", "init_from=./one"])
    assert "note: m1 starts from one, 6 exchanges" in checked.output
    begun = run(config, "--init-from", "one", "--set", "clients.m0.freeze=true", "--out", "two")
    assert begun.exit_code == 0, begun.output
    two = RunFolder(Path("two")).load_summary()
    assert [client.start for client in two.clients] == ["one, 6 exchanges"] * 2
    assert two.weights_digest["m0"] == one.weights_digest["m0"]
    assert two.weights_digest["m1"] != one.weights_digest["m1"]
    assert Path(str(RunFolder(Path("two")).settings().init_from)) == Path("one").resolve()


def test_a_run_goes_on_longer_and_a_tracker_hears_of_it(config: Path) -> None:
    pytest.importorskip("tensorboard")
    assert run(config, "--out", "whole", "--set", "training.exchanges=9").exit_code == 0
    assert run(config, "--out", "one").exit_code == 0
    more = ("--resume", "one", "--set", "training.exchanges=9", "--track", "tensorboard")
    done = run(*more)
    assert done.exit_code == 0, done.output
    whole, longer = (RunFolder(Path(name)).load_summary() for name in ("whole", "one"))
    assert (whole.weights_digest, whole.exchanges) == (longer.weights_digest, longer.exchanges)
    assert list(Path("one/tensorboard").glob("events.out.*"))
    assert "report:" in done.stdout


def test_an_epoch_s_length_follows_the_training_events(config: Path) -> None:
    # 200 training events make 6 whole batches of 32.
    done = run(config, "--set", "training.epochs=1.5", "--set", "training.batches=2", "--out", "a")
    assert done.exit_code == 0, done.output
    training = RunFolder(Path("a")).settings().training
    assert (training.exchanges, training.epochs) == (5, None)
    assert RunFolder(Path("a")).load_summary().exchanges == 5


def test_what_cannot_be_is_one_line_and_nothing_is_written(config: Path) -> None:
    assert run(config, "--out", "one").exit_code == 0
    before = sorted(Path().rglob("*"))
    assert "there is no such run folder" in refused(config, "--init-from", "nowhere")
    assert "is no run folder" in refused(config, "--init-from", "one/checkpoints")
    assert "only training.exchanges and" in refused("--resume", "one", "--set", "seed=3")
    assert "4 is less" in refused("--resume", "one", "--set", "training.exchanges=4")
    assert "leave out --data" in refused("--resume", "one", "--init-from", "one")
    assert "must be one of tensorboard" in refused(config, "--track", "paper")
    told = refused(config, "--init-from", "one", "--set", "clients.m1.dim=9")
    assert "init_from: the encoder of client 'm1' had" in told
    assert [path for path in sorted(Path().rglob("*")) if path.name != ".lock"] == [
        path for path in before if path.name != ".lock"
    ]


def test_a_run_without_validation_events_says_so_at_its_end(config: Path) -> None:
    options = "data={source: 'tests.toy:masked', options: {noise: 1, split: 1, drop: true}}"
    done = run(config, "--set", options, "--out", "one")
    assert done.exit_code == 0, done.output
    told = [line for line in done.output.splitlines() if line.startswith("careful: ")]
    assert len(told) == 1
    assert "there are no validation events" in told[0]


def test_the_python_api_goes_on_likewise(config: Path) -> None:
    one = sf.run(config, out="one")
    two = sf.run(config, out="two", init_from=Path("one"), training={"exchanges": 0})
    assert one.summary is not None
    assert two.summary is not None
    assert one.summary.weights_digest == two.summary.weights_digest
    longer = sf.resume("one", exchanges=8)
    whole = sf.run(config, out="whole", training={"exchanges": 8})
    assert longer.summary is not None
    assert whole.summary is not None
    assert longer.summary.weights_digest == whole.summary.weights_digest
