"""Runs that train nothing, and runs that are measured on validation events."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.engines.launch import resume, start
from sheafalign_fl.errors import DataError
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.node import Node
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.protocol.verbs import EXCHANGE
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.ledger import read_ledger
from strategies.messenger import Messenger, Outcome
from tests.conftest import toy_settings
from tests.federation.runs import SMALL, PowerCut, cut_before_the_final_evaluation

METRICS = ["retrieval", "transfer", "probe", "missing", "consistency"]


def random_method(**sections: Any) -> Settings:
    """Return settings of `method: random`; the toy settings' exchanges would override its own."""
    content = toy_settings(clients=dict.fromkeys(("m0", "m1", "m2"), SMALL), **sections).model_dump(
        mode="json"
    )
    del content["training"]["exchanges"]
    return Settings.model_validate({**content, "method": "random"})


@pytest.mark.draws_report
def test_an_untrained_run_measures_its_initial_weights_and_trains_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = random_method(evaluation={"metrics": METRICS, "every": 2}, checkpoint={"every": 2})
    assert settings.training.exchanges == 0
    ask, asked = Messenger.ask, set()

    def listening(self: Messenger, verb: str, *arguments: Any, **options: Any) -> Outcome[Any]:
        asked.add(verb)
        return ask(self, verb, *arguments, **options)

    monkeypatch.setattr(Messenger, "ask", listening)
    summary = start(settings, tmp_path / "random")
    folder = RunFolder(tmp_path / "random")
    assert folder.status()["state"] == "completed"
    checked = check(settings)
    for client in settings.clients:
        agreed = checked.agreement.for_client(client, checked.topology)
        initial = Node(client, settings, client_data(client, settings), agreed)
        assert summary.weights_digest[client] == initial.weights_digest()
    assert EXCHANGE not in asked
    rows = list(read_ledger(folder.ledger))
    assert {row.purpose for row in rows} == {"setup", "evaluate"}
    assert [row["kind"] for row in read_rows(folder.metrics)] == ["evaluation"]
    assert summary.exchanges == 0
    assert all(getattr(summary.quality, metric) for metric in METRICS)
    assert "</html>" in folder.report.read_text(encoding="utf-8")


def test_it_can_be_cut_off_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = random_method()
    whole = start(settings, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_before_the_final_evaluation(patch)
        start(settings, tmp_path / "broken")
    again = resume(tmp_path / "broken")
    assert (again.weights_digest, again.quality) == (whole.weights_digest, whole.quality)


# ---- validation ----------------------------------------------------------------------------------


def held_out(split: str, hidden: int, noise: int, **options: Any) -> Settings:
    return toy_settings(
        data={
            "source": "tests.toy:masked",
            "options": {"split": hidden, "noise": noise, **options},
        },
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        training={"exchanges": 4},
        evaluation={"metrics": METRICS, "split": split, "every": 0, "events": 60},
    )


def measured(
    settings: Settings, run_folder: Callable[[Settings], RunFolder]
) -> tuple[Quality, RunFolder]:
    run_inprocess(settings, folder := run_folder(settings))
    return folder.load_summary().quality, folder


@pytest.mark.parametrize(("split", "seen", "unseen"), [("validation", 1, 2), ("test", 2, 1)])
def test_the_final_evaluation_sees_its_own_split_and_no_other(
    split: str, seen: int, unseen: int, run_folder: Callable[[Settings], RunFolder]
) -> None:
    one, folder = measured(held_out(split, unseen, 1), run_folder)
    other, _ = measured(held_out(split, unseen, 2), run_folder)
    assert one == other  # whatever the events of the other split are
    changed, _ = measured(held_out(split, seen, 1), run_folder)
    for metric in METRICS:
        assert getattr(one, metric)
        assert getattr(one, metric) != getattr(changed, metric)
    assert one.split == split
    events = {"validation": 30, "test": 60}[split]  # evaluation.events, and half of it
    assert {row.events for metric in METRICS for row in getattr(one, metric)} == {events}
    sent = [
        row
        for row in read_ledger(folder.ledger)
        if row.purpose == "evaluate" and row.destination == "m1"
    ]
    assert {row.events for row in sent if row.payload_bytes} == {events}


def test_a_split_without_events_is_refused_before_anything_runs() -> None:
    with pytest.raises(DataError, match="shares fewer than 2 validation events"):
        check(held_out("validation", 1, 0, drop=True))
    with pytest.raises(DataError, match="shares fewer than 2 test events"):
        check(held_out("test", 2, 0, drop=True))
    check(held_out("test", 1, 0, drop=True))


def test_validation_needs_no_test_events(run_folder: Callable[[Settings], RunFolder]) -> None:
    found, _ = measured(held_out("validation", 2, 0, drop=True), run_folder)
    assert all(getattr(found, metric) for metric in METRICS)
