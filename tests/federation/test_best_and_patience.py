"""The best exchange on validation events is kept, and a patient run stops: by what was measured."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.engines.launch import resume
from sheafalign_fl.errors import ConfigError, DataError, UserError
from sheafalign_fl.protocol.rows import EvaluationRow
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.reading import read_run
from tests.conftest import toy_settings
from tests.federation.runs import SMALL, PowerCut, cut_at, cut_before_the_final_evaluation

pytestmark = pytest.mark.slow

MakeFolder = Callable[[Settings], RunFolder]
TOO_FAST = {"exchanges": 24, "learning_rate": 0.3}
"""So large that the best exchange is an early one."""


def watched(**sections: Any) -> Settings:
    content: dict[str, Any] = {
        "clients": dict.fromkeys(("m0", "m1", "m2"), SMALL),
        "training": {**TOO_FAST, **sections.pop("training", {})},
        "evaluation": {"every": 2},
        "checkpoint": {"every": 0, "keep": 1, **sections.pop("checkpoint", {"best": "R@10"})},
    }
    return toy_settings(**{**content, **sections})


def curve(folder: RunFolder) -> list[tuple[int, float]]:
    """Return (exchange, mean R@10) on validation events, from metrics.jsonl alone."""
    rows = [row for row in read_rows(folder.metrics) if row["kind"] == "evaluation"]
    found = []
    for row in rows:
        if row["quality"]["split"] == "validation":
            recalls = [r["recall_at_10"] for r in row["quality"]["retrieval"]]
            found.append((row["exchange"], sum(recalls) / len(recalls)))
    return found


def best_of(points: list[tuple[int, float]]) -> tuple[int, float]:
    highest = max(value for exchange, value in points if exchange)
    return next(point for point in points if point[0] and point[1] == highest)


def test_the_best_exchange_is_kept_beside_the_last(run_folder: MakeFolder) -> None:
    run_inprocess(settings := watched(), folder := run_folder(settings))
    points = curve(folder)
    assert [exchange for exchange, _ in points] == list(range(0, 25, 2))  # before training too
    exchange, value = best_of(points)
    assert exchange < 24  # else this shows nothing
    best = folder.load_summary().best
    assert best is not None
    assert (best.exchange, best.score) == (exchange, "R@10")
    assert best.value == pytest.approx(value)
    assert sorted(int(path.name) for path in folder.checkpoints.iterdir()) == [exchange, 24]
    # What is kept is what clients had then: a run that ends there ends in these weights.
    short = watched(training={"exchanges": exchange})
    run_inprocess(short, other := run_folder(short))
    for client in settings.clients:
        kept = folder.load_client(exchange, client)
        assert kept == other.load_client(exchange, client)


def test_being_watched_changes_no_weight(run_folder: MakeFolder) -> None:
    plain = watched(checkpoint={})
    run_inprocess(plain, one := run_folder(plain))
    run_inprocess(settings := watched(), two := run_folder(settings))
    assert one.load_summary().weights_digest == two.load_summary().weights_digest
    assert one.load_summary().quality == two.load_summary().quality
    assert curve(one) == [point for point in curve(two) if point[0]]
    assert one.load_summary().best is None


@pytest.mark.parametrize("patience", [1, 3])
def test_a_patient_run_stops_where_its_measurements_say(
    patience: int, run_folder: MakeFolder, no_reports: None
) -> None:
    run_inprocess(settings := watched(), whole := run_folder(settings))
    points, expected, best, since = curve(whole), 24, -1.0, 0
    for exchange, value in points[1:]:
        best, since = (value, 0) if value > best else (best, since + 1)
        if since == patience:
            expected = exchange
            break
    assert expected < 24
    patient = watched(training={"patience": patience})
    run_inprocess(patient, folder := run_folder(patient))
    summary = folder.load_summary()
    assert summary.exchanges == expected
    assert summary.stopped.startswith(f"stopped after {expected} exchanges: R@10 on validation")
    assert folder.status()["reason"] == summary.stopped
    assert curve(folder) == [point for point in points if point[0] <= expected]
    # It ends in the weights of a run that was to be so short, and its result is of those.
    run_inprocess(short := watched(training={"exchanges": expected}), other := run_folder(short))
    assert other.load_summary().weights_digest == summary.weights_digest
    assert other.load_summary().quality == summary.quality


@pytest.mark.parametrize("cut", ["in the middle", "before the end"])
def test_a_resumed_run_stops_at_the_same_exchange(
    cut: str, run_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = watched(training={"patience": 2})
    run_inprocess(settings, whole := run_folder(settings))
    one, broken = whole.load_summary(), run_folder(settings)
    assert 4 < one.exchanges < 24
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        if cut == "in the middle":
            cut_at(one.exchanges - 2, patch)
        else:
            cut_before_the_final_evaluation(patch)
        run_inprocess(settings, broken)
    run_inprocess(settings, broken, resume=True)
    other = broken.load_summary()
    assert (other.exchanges, other.best, other.stopped) == (one.exchanges, one.best, one.stopped)
    assert other.weights_digest == one.weights_digest
    assert curve(broken) == curve(whole)


def test_a_run_that_stopped_goes_on_with_more_patience(
    run_folder: MakeFolder, no_reports: None
) -> None:
    run_inprocess(settings := watched(), whole := run_folder(settings))
    patient = watched(training={"patience": 1})
    run_inprocess(patient, folder := run_folder(patient))
    with pytest.raises(UserError, match=r"give it more training\.patience, or null"):
        resume(folder.path, changes={"training": {"exchanges": 30}})
    resume(folder.path, changes={"training": {"patience": None}})
    one, other = whole.load_summary(), folder.load_summary()
    assert one.weights_digest == other.weights_digest
    assert (one.best, other.stopped, other.exchanges) == (other.best, "", 24)


def test_validation_events_are_needed_or_missed_aloud(run_folder: MakeFolder) -> None:
    data = {
        "source": "tests.toy:masked", "options": {"noise": 1, "split": 1, "drop": True},
    }  # fmt: skip
    with pytest.raises(DataError, match="watched by R@10 on validation events, and there are none"):
        check(watched(data=data))
    checked = check(plain := watched(data=data, checkpoint={}))
    assert any("there are no validation events" in line for line in checked.warnings)
    run_inprocess(plain, folder := run_folder(plain))
    (warning,) = read_run(folder.path).warnings
    assert "there are no validation events" in warning


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"checkpoint": {"best": "R@7"}}, "checkpoint.best: there is no score 'R@7' .* R@1, R@10"),
        ({"checkpoint": {"best": "R@10"}, "evaluation": {"metrics": ["probe"]}}, "there are: none"),
        ({"training": {"patience": 2}, "evaluation": {"every": 0}}, "evaluation.every above 0"),
        ({"training": {"patience": 2}, "engine": "pooled"}, "engine pooled trains in one go"),
    ],
)
def test_what_cannot_be_watched_is_refused(sections: dict[str, Any], reason: str) -> None:
    content = {"clients": ["m0", "m1"], "data": {"source": "tests.toy:source"}, **sections}
    with pytest.raises(ConfigError, match=reason):
        check(parse_settings({"training": {"batch_size": 32}, **content}))


def test_a_score_of_which_less_is_better(run_folder: MakeFolder) -> None:
    settings = watched(
        checkpoint={"best": "disagreement"},
        evaluation={"every": 2, "metrics": ["retrieval", "consistency"]},
    )
    run_inprocess(settings, folder := run_folder(settings))
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    measured = {
        row.exchange: sum(found.value for found in row.quality.consistency)
        for row in (EvaluationRow(**row) for row in rows if row["kind"] == "evaluation")
        if row.exchange and row.quality.split == "validation"
    }
    best = folder.load_summary().best
    assert best is not None
    assert best.exchange == min(measured, key=lambda exchange: (measured[exchange], exchange))
