"""Waiting for a run on a relay that is silent now and then: what is said in the run's folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from sheafalign_fl.engines import deployed, launch
from sheafalign_fl.engines.deployed import SUBMISSION, BusyError, Deployment, LostError
from sheafalign_fl.errors import RunError, UserError
from sheafalign_fl.flower.control import RunState, SuperLinkGoneError
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

WHERE = Deployment("relay.lan:9092", None)


class FakeControl:
    """Says of the run what the test lets it say, one thing after the other."""

    def __init__(self, *says: str, status: dict[str, Any] | None = None) -> None:
        self.says, self.status, self.stopped = list(says), status, False

    def run(self, run_id: str) -> RunState:
        said = self.says.pop(0)
        if said == "gone":
            raise SuperLinkGoneError("no answer")
        return RunState(run_id, said, "", "", {"run-dir": "run"})

    def runs(self) -> list[RunState]:
        return [RunState("17", said, "", "", {"run-dir": "run"}) for said in self.says]

    def get(self, path: str, most: int) -> bytes:
        if self.status is None:
            return b"{}"
        content = json.dumps(self.status).encode()
        return (
            content if "status.json" in path else json.dumps({"status.json": len(content)}).encode()
        )

    def stop(self, run_id: str) -> None:
        self.stopped = True

    def close(self) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(deployed, "_ASK_SECONDS", 0.0)
    made = RunFolder(tmp_path / "run")
    made.create(toy_settings())
    (made.path / SUBMISSION).write_text('{"run": "17", "relay": "relay.lan:9092"}')
    made.set_status("running")
    return made


def given(monkeypatch: pytest.MonkeyPatch, control: FakeControl) -> None:
    monkeypatch.setattr(Deployment, "connect", lambda _: control)


def test_a_silence_is_sat_out(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"state": "failed", "reason": "the client m1 is wrong", "exit_code": 2}
    control = FakeControl("running", *["gone"] * 5, "running", "finished:failed", status=status)
    given(monkeypatch, control)
    with pytest.raises(Exception, match="the client m1 is wrong") as caught:
        launch.attach(folder.path, WHERE)
    assert getattr(caught.value, "exit_code", None) == 2
    assert control.says == []


def test_a_run_of_which_nothing_is_known_has_not_failed(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed, "_PATIENCE_SECONDS", 0.0)
    given(monkeypatch, FakeControl("running", *["gone"] * 9))
    with pytest.raises(LostError, match="run --attach"):
        launch.attach(folder.path, WHERE)
    assert folder.status()["state"] == "running"


def test_a_run_is_not_resumed_while_it_goes_on(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, FakeControl("running"))
    with pytest.raises(BusyError, match="run 17 on this relay is at work"):
        launch.resume(folder.path, None, WHERE)
    assert folder.status()["state"] == "running"


def test_a_run_that_was_stopped_is_said_to_be(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(
        monkeypatch, FakeControl("finished:stopped", status={"state": "interrupted", "reason": ""})
    )
    with pytest.raises(RunError, match="finished:stopped"):
        launch.attach(folder.path, WHERE)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run": "../x"}', None])
def test_a_folder_that_nothing_was_submitted_from(
    content: str | None, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, FakeControl())
    path = folder.path / SUBMISSION
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match="no run on a relay was submitted"):
        launch.attach(folder.path, WHERE)
