"""An interrupted run goes on to the same bits; nothing that was recorded is lost or doubled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.client_app import app as client_app
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import RunError
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.ledger import read_ledger
from tests.conftest import toy_settings
from tests.federation.runs import SMALL, PowerCut, cut_at, cut_before_the_final_evaluation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize(("cut", "kept"), [(1, 0), (5, 4), (8, 8), (9, 8)])
def test_a_resumed_run_ends_in_the_same_bits(
    optimiser: str,
    cut: int,
    kept: int,
    run_folder: Callable[[Settings], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = toy_settings(
        training={"exchanges": 10, "optimiser": optimiser, "learning_rate": 0.01},
        evaluation={"every": 4},
        checkpoint={"every": 4},
        clients={"m0": {"encoder": "tests.toy:dropout_encoder", "dim": 9}, "m1": {}, "m2": {}},
    )
    run_inprocess(settings, whole := run_folder(settings))
    broken = run_folder(settings)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_at(cut, patch)
        run_inprocess(settings, broken)
    recorded = [row["exchange"] for row in read_rows(broken.metrics) if row["kind"] == "exchange"]
    assert recorded == list(range(cut))  # all up to the last exchange is kept
    assert (checkpoint.exchange if (checkpoint := broken.last_checkpoint()) else 0) == kept
    run_inprocess(settings, broken, resume=True)
    one, other = whole.load_summary(), broken.load_summary()
    assert one.weights_digest == other.weights_digest
    assert one.quality == other.quality
    assert other.resumed == 1
    assert [
        row["exchange"] for row in read_rows(broken.metrics) if row["kind"] == "exchange"
    ] == list(range(10))
    assert _training(whole) == _training(broken)


EVERYTHING: dict[str, Any] = {
    "clients": {name: {**SMALL, "missing": 0.2} for name in ("m0", "m1", "m2")},
    "objective": {"learnable_temperature": True},
    "training": {
        "exchanges": 7,
        "batch_size": 16,
        "batches": 2,
        "local_steps": 2,
        "stale": True,
        "error_feedback": True,
        "replay": 2,
        "warmup": 0.2,
        "clip": 0.5,
        "optimiser": "adamw",
        "weight_decay": 0.1,
        "learning_rate": 0.01,
        "decay": "cosine",
    },
    "codec": "float16",
    "checkpoint": {"every": 3},
}
"""All that a client has to remember between messages. Seven exchanges are more than one epoch."""


@pytest.mark.parametrize("stale", [True, False], ids=["stale", "in step"])
@pytest.mark.parametrize(("cut", "kept"), [(2, 0), (3, 3), (4, 3), (6, 6)])
def test_residuals_waiting_embeddings_and_temperatures_survive(
    stale: bool,
    cut: int,
    kept: int,
    run_folder: Callable[[Settings], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = toy_settings(
        **{**EVERYTHING, "training": {**EVERYTHING["training"], "stale": stale}}
    )
    run_inprocess(settings, whole := run_folder(settings))
    broken = run_folder(settings)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_at(cut, patch)
        run_inprocess(settings, broken)
    assert (checkpoint.exchange if (checkpoint := broken.last_checkpoint()) else 0) == kept
    run_inprocess(settings, broken, resume=True)
    assert whole.load_summary().weights_digest == broken.load_summary().weights_digest
    assert whole.load_summary().quality == broken.load_summary().quality
    assert _training(whole) == _training(broken)
    assert _losses(whole) == _losses(broken)


def test_a_run_cut_off_before_its_final_evaluation_measures_the_trained_weights(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings(
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        training={"exchanges": 8, "learning_rate": 0.01},
        evaluation={
            "every": 4,
            "metrics": ["retrieval", "transfer", "probe", "missing", "consistency"],
        },
    )
    run_inprocess(settings, whole := run_folder(settings))
    untrained = toy_settings(**{**settings.model_dump(), "training": {"exchanges": 0}})
    run_inprocess(untrained, start := run_folder(untrained))
    broken = run_folder(settings)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_before_the_final_evaluation(patch)
        run_inprocess(settings, broken)
    assert (checkpoint := broken.last_checkpoint()) is not None
    assert checkpoint.exchange == 8
    run_inprocess(settings, broken, resume=True)
    one, other = whole.load_summary(), broken.load_summary()
    assert one.weights_digest == other.weights_digest != start.load_summary().weights_digest
    assert one.quality == other.quality != start.load_summary().quality
    assert other.resumed == 1
    assert _training(whole) == _training(broken)
    evaluated = [
        row["exchange"] for row in read_rows(broken.metrics) if row["kind"] == "evaluation"
    ]
    assert evaluated == [4, 8, 8]  # twice on validation events, once on test events


def test_a_torn_last_line_does_not_stop_a_resume(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings(training={"exchanges": 8}, checkpoint={"every": 4})
    broken = run_folder(settings)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_at(6, patch)
        run_inprocess(settings, broken)
    for file in (broken.metrics, broken.ledger):
        with file.open("a", encoding="utf-8") as torn:
            torn.write('6,m0,m1,tr{"kind": "exch')
    run_inprocess(settings, broken, resume=True)
    run_inprocess(settings, whole := run_folder(settings))
    assert broken.load_summary().weights_digest == whole.load_summary().weights_digest


DROPOUT: dict[str, Any] = {
    "clients": {"m0": {"encoder": "tests.toy:dropout_encoder", "dim": 9}, "m1": {}, "m2": {}}
}


@pytest.mark.parametrize("sections", [DROPOUT, EVERYTHING], ids=["dropout", "everything"])
def test_a_state_in_the_context_equals_a_resident_node(
    sections: dict[str, Any], run_folder: Callable[[Settings], RunFolder]
) -> None:
    """As in a simulation, where any process may get a message: each message rebuilds its node."""
    settings = toy_settings(**sections)
    wandering = ClientApp()

    def call(message: Message, context: Context) -> Message:
        from clients import node_context

        context.node_config.pop("resident", None)
        node_context.leave(context)
        return client_app(message, context)

    wandering._call = call
    run_inprocess(settings, resident := run_folder(settings))
    run_inprocess(settings, rebuilt := run_folder(settings), client_app=wandering)
    assert resident.load_summary().weights_digest == rebuilt.load_summary().weights_digest


def test_the_order_of_work_changes_nothing(run_folder: Callable[[Settings], RunFolder]) -> None:
    digests = []
    for workers in (1, 3):
        settings = toy_settings(
            clients={"m0": {"encoder": "tests.toy:dropout_encoder", "dim": 9}, "m1": {}, "m2": {}},
            resources={"workers": workers},
        )
        run_inprocess(settings, folder := run_folder(settings))
        digests.append(folder.load_summary().weights_digest)
    assert digests[0] == digests[1]


def test_seed_0_is_a_seed(run_folder: Callable[[Settings], RunFolder]) -> None:
    digests = set()
    for seed in (0, 0, 1):
        settings = toy_settings(seed=seed, training={"exchanges": 2})
        run_inprocess(settings, folder := run_folder(settings))
        digests.add(folder.load_summary().weights_digest["m0"])
    assert len(digests) == 2


def _losses(folder: RunFolder) -> list[object]:
    return [row["losses"] for row in read_rows(folder.metrics) if row["kind"] == "exchange"]


def _training(folder: RunFolder) -> list[tuple[object, ...]]:
    rows = (
        row for row in read_ledger(folder.ledger) if row.purpose == "train" and row.payload_bytes
    )
    return sorted((row.exchange, row.source, row.destination, row.payload_bytes) for row in rows)


def test_a_run_does_not_go_on_with_other_recordings(
    tmp_path: Path, run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(seed: int, labels: int) -> None:
        for name in ("a", "b"):
            x = np.random.default_rng(seed).normal(size=(200, 4))
            label = np.arange(200) % labels
            np.savez(tmp_path / f"{name}.npz", x=x, event_id=np.arange(200), label=label)

    save(0, 2)
    settings = toy_settings(
        data={"source": "folder", "options": {"path": str(tmp_path)}},
        clients={"a": SMALL, "b": SMALL},
        training={"exchanges": 6},
        checkpoint={"every": 2},
    )
    broken = run_folder(settings)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_at(5, patch)
        run_inprocess(settings, broken)
    for seed, labels in ((1, 2), (0, 3)):
        save(seed, labels)
        with pytest.raises(RunError, match=r"the data of client '[ab]' is not what it was"):
            run_inprocess(settings, broken, resume=True)
    save(0, 2)  # the same content in files that were written again
    run_inprocess(settings, broken, resume=True)
    assert broken.load_summary().resumed
