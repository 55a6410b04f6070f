"""Experiment trackers: what each is told of a run; a missing package is one line with its extra."""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from sheafalign_fl.errors import UserError
from sheafalign_fl.extras import EXTRAS, MissingExtraError
from sheafalign_fl.runs import trackers
from sheafalign_fl.runs.callbacks import Callback, follow
from sheafalign_fl.runs.reading import Run, read_run
from tests.report.run_folders import write_run


def told_of(tracker: Callback, run: Run) -> None:
    """Tell a tracker all of a run, as `follow` does."""
    with follow(run.path, run.settings, [tracker]):
        pass


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = write_run(tmp_path / "street").path
    (folder / "report.html").write_text("<html>", encoding="utf-8")
    return read_run(folder)


def expected_numbers(run: Run) -> dict[str, dict[int, float]]:
    """Return name -> exchange -> number, straight from what the run folder says."""
    numbers: dict[str, dict[int, float]] = {}
    for point in run.exchanges:
        numbers.setdefault("loss/total", {})[point.exchange + 1] = point.losses["total"]
        numbers.setdefault("bytes/payload", {})[point.exchange + 1] = point.payload_bytes
    for row in run.evaluations:
        recalls = [found.recall_at_10 for found in row.quality.retrieval]
        name = f"{row.quality.split}/R_at_10"
        numbers.setdefault(name, {})[row.exchange] = sum(recalls) / len(recalls)
    for purpose in {edge.purpose for edge in run.bytes}:
        total = sum(edge.relay_bytes for edge in run.bytes if edge.purpose == purpose)
        numbers[f"bytes/{purpose}_relay"] = {run.done: total}
    return numbers


def check_numbers(found: dict[str, dict[int, float]], run: Run) -> None:
    for name, values in expected_numbers(run).items():
        assert found[name] == pytest.approx(values, rel=1e-6), name


def test_tensorboard_gets_every_number(run: Run) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told_of(trackers.TensorBoardTracker(), run)
    events = reading.EventAccumulator(
        str(run.path / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}
    )
    events.Reload()
    found = {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }
    check_numbers(found, run)
    texts = {
        tag: events.Tensors(tag)[0].tensor_proto.string_val[0] for tag in events.Tags()["tensors"]
    }
    assert b"exchanges:" in texts["settings/text_summary"]
    assert str(run.path / "report.html").encode() in texts["report/text_summary"]


# ---- recorded stand-ins with the documented signatures -------------------------------------------


@dataclass
class Recorded:
    """What a stand-in was told."""

    numbers: dict[str, dict[int, float]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    ends: list[Any] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def note(self, name: str, value: float, step: int) -> None:
        assert isinstance(value, float)
        self.numbers.setdefault(name, {})[step] = value
        self.steps.append(step)


class _MlflowEntities(types.ModuleType):
    """mlflow.entities of MLflow 2 and 3."""

    @dataclass
    class Metric:
        key: str
        value: float
        timestamp: int
        step: int

    @dataclass
    class Param:
        key: str
        value: str


class _MlflowClient:
    """mlflow.MlflowClient: create_run, log_batch, log_text, log_artifact, set_terminated."""

    recorded = Recorded()

    def get_experiment_by_name(self, name: str) -> None:
        assert name == "sheafalign-fl"

    def create_experiment(self, name: str) -> str:
        return "7"

    def create_run(self, experiment_id: str, run_name: str | None = None) -> Any:
        assert (experiment_id, run_name) == ("7", "street")
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        assert run_id == "r1"
        assert len(params) <= 100
        for param in params:
            assert isinstance(param.value, str)
            self.recorded.settings[param.key] = param.value
        for metric in metrics:
            assert metric.timestamp > 1e12
            self.recorded.note(metric.key, metric.value, metric.step)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        self.recorded.files.append(artifact_file)

    def log_artifact(self, run_id: str, local_path: str) -> None:
        self.recorded.files.append(Path(local_path).name)

    def set_tag(self, run_id: str, key: str, value: Any) -> None:
        self.recorded.ends.append(value)

    def set_terminated(self, run_id: str, status: str | None = None) -> None:
        self.recorded.ends.append(status)


def fake_mlflow(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package in the place of mlflow that records what it is told."""
    monkeypatch.setattr(_MlflowClient, "recorded", recorded)
    module = types.ModuleType("mlflow")
    module.__dict__["MlflowClient"] = _MlflowClient
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", _MlflowEntities("mlflow.entities"))


def fake_wandb(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb.init -> run with log, log_artifact and finish; wandb.Artifact with add_file."""

    class Artifact:
        def __init__(self, name: str, type: str) -> None:  # noqa: A002 - wandb's own name
            assert name.replace("-", "").isalnum()
            self.files: list[str] = []

        def add_file(self, local_path: str) -> None:
            self.files.append(Path(local_path).name)

    class FakeRun:
        id = "abc"

        def log(self, data: dict[str, Any], step: int | None = None) -> None:
            assert step is not None
            assert not recorded.steps or step >= recorded.steps[-1]  # wandb drops an earlier one
            for name, value in data.items():
                recorded.note(name, value, step)

        def log_artifact(self, artifact: Artifact) -> None:
            recorded.files += artifact.files

        def finish(self, exit_code: int | None = None) -> None:
            recorded.ends.append(exit_code)

    def init(project: str, name: str, config: dict[str, Any]) -> FakeRun:
        assert (project, name) == ("sheafalign-fl", "street")
        recorded.settings.update(config)
        return FakeRun()

    module = types.ModuleType("wandb")
    module.__dict__.update(init=init, Artifact=Artifact)
    monkeypatch.setitem(sys.modules, "wandb", module)


class Stand(Protocol):
    def __call__(self, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None: ...


STANDS: dict[str, tuple[Stand, Callable[[], trackers.Tracker], Any, Any]] = {
    "mlflow": (fake_mlflow, trackers.MlflowTracker, "FINISHED", "FAILED"),
    "wandb": (fake_wandb, trackers.WandbTracker, 0, 1),
}


@pytest.mark.parametrize("name", STANDS)
def test_settings_numbers_and_report_arrive(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand, tracker, ended, _ = STANDS[name]
    stand(recorded := Recorded(), monkeypatch)
    monkeypatch.setattr(trackers, "require", lambda module, what: None)
    told_of(tracker(), run)
    check_numbers(recorded.numbers, run)
    assert str(recorded.settings["training.exchanges"]) == str(run.settings.training.exchanges)
    assert str(recorded.settings["training.patience"]) == "None"
    assert "report.html" in recorded.files
    assert recorded.ends == [ended]


@pytest.mark.parametrize("name", STANDS)
def test_a_run_that_fails_ends_as_failed(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand, tracker, _, failed = STANDS[name]
    stand(recorded := Recorded(), monkeypatch)
    monkeypatch.setattr(trackers, "require", lambda module, what: None)
    with (
        pytest.raises(UserError, match="no disk"),
        follow(run.path, run.settings, [tracker()]),
    ):
        raise UserError("no disk")
    assert recorded.ends[-1] == failed
    assert "report.html" not in recorded.files


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_package_that_is_missing_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sheafalign_fl.extras.has", lambda module: False)
    with pytest.raises(MissingExtraError, match=rf"--track {name} needs {name}") as caught:
        trackers.trackers([name])
    assert f"pip install 'sheafalign-fl[{EXTRAS[name][1]}]'" in str(caught.value)


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UserError, match="--track excel: it must be one of tensorboard, mlflow"):
        trackers.trackers(["excel"])
