"""`engine: pooled`: it finds the federation's weights, pays for raw inputs, ends like any run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.engines.launch import resume, start
from sheafalign_fl.engines.pooled import JointTraining
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.protocol.verbs import RELAY
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import read_ledger
from tests.conftest import toy_settings
from tests.federation.oracle import joint_training, largest_difference
from tests.federation.runs import SMALL, PowerCut, cut_before_the_final_evaluation, final_weights

pytestmark = pytest.mark.slow

MISSING = {"m0": 0.3, "m1": 0.0, "m2": 0.2}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "temperature": {
        "objective": {
            "learnable_temperature": True,
            "stop_gradient": True,
            "cross_reconstruction": 0.2,
        },
        "training": {"decay": "cosine"},
    },
    "no reconstruction, decayed weights": {
        "objective": {"reconstruction": 0.0},
        "training": {"optimiser": "adamw", "weight_decay": 0.5},
    },
    "imagebind": {"method": "imagebind", "graph": {"dim": 8, "topology": "star"}},
    "gram": {"method": "gram", "graph": {"dim": 8}},
    "tiny batches of a group": {
        "method": "centrobind",
        "graph": {"dim": 8},
        "training": {"batch_size": 3},
    },
    "a term of a user's own": {"objective": {"terms": {"tests.toy:shrinking": 0.3}}},
    "tiny batches of pairs": {"training": {"batch_size": 2}},
    "equal events masked": {
        "objective": {"false_negatives": "mask"},
        "data": {"source": "tests.toy:source", "options": {"double": 40, "span": 20}},
    },
}


def options(engine: str, **sections: Any) -> Settings:
    missing = 2.2 if sections.get("training", {}).get("batch_size") else 1.0
    content: dict[str, Any] = {
        "clients": {name: {**SMALL, "missing": missing * share} for name, share in MISSING.items()},
        "graph": {"dim": 5},
        "codec": "float64",
        "engine": engine,
        **sections,
    }
    training = {
        "exchanges": 12,
        "batch_size": 16,
        "dtype": "float64",
        **sections.get("training", {}),
    }
    return toy_settings(**{**content, "training": training})


@pytest.mark.parametrize("sections", OPTIONS.values(), ids=OPTIONS)
def test_pooled_training_finds_the_federation_s_weights(
    sections: dict[str, Any], tmp_path: Path, run_folder: Callable[[Settings], RunFolder]
) -> None:
    pooled, federated = options("pooled", **sections), options("inprocess", **sections)
    start(pooled, tmp_path / "pooled")
    run_inprocess(federated, folder := run_folder(federated))
    weights = final_weights(pooled, RunFolder(tmp_path / "pooled"))
    assert largest_difference(weights, final_weights(federated, folder)) <= 1e-12
    assert largest_difference(weights, joint_training(federated)) <= 1e-12


def test_several_steps_an_exchange_are_steps_of_joint_training(tmp_path: Path) -> None:
    settings = options("pooled", training={"batches": 3, "local_steps": 2})
    start(settings, tmp_path / "pooled")
    assert (
        largest_difference(
            final_weights(settings, RunFolder(tmp_path / "pooled")), joint_training(settings)
        )
        <= 1e-12
    )


def test_what_travels_is_every_raw_training_input_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sheafalign_fl.engines.pooled._FRAME_EVENTS", 64
    )  # more than one frame for each client
    settings = options("pooled")
    summary = start(settings, tmp_path / "pooled")
    rows = [
        row for row in read_ledger(tmp_path / "pooled" / "ledger.csv") if row.purpose == "train"
    ]
    assert {row.destination for row in rows} == {RELAY}
    assert {row.exchange for row in rows} == {0}
    for client in settings.clients:
        data = client_data(client, settings)
        events = int(np.sum(data.split == 0))
        own = [row for row in rows if row.source == client]
        assert sum(row.events for row in own) == events
        assert sum(row.payload_bytes for row in own) == events * data.x.shape[1] * 4
        assert len(own) == -(-events // 64)
        assert all(row.payload_bytes < row.message_bytes <= row.relay_bytes for row in own)
    assert summary.engine == "pooled"
    assert sum(row.payload_bytes for row in summary.bytes if row.purpose == "train") == sum(
        row.payload_bytes for row in rows
    )


METRICS = ["retrieval", "transfer", "probe", "missing", "consistency"]


@pytest.mark.draws_report
def test_quality_is_measured_as_in_every_run(
    tmp_path: Path, run_folder: Callable[[Settings], RunFolder]
) -> None:
    """The same weights but for float64's last bits; in float32 the same but for a near tie.

    It is in float32 that events are embedded.
    """
    evaluation = {"metrics": METRICS, "every": 0}
    pooled = start(options("pooled", evaluation=evaluation), tmp_path / "pooled")
    federated = options("inprocess", evaluation=evaluation)
    run_inprocess(federated, folder := run_folder(federated))
    _same(pooled.quality.model_dump(), folder.load_summary().quality.model_dump())
    assert pooled.resumed == 0
    assert RunFolder(tmp_path / "pooled").report.is_file()


def _same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            _same(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _same(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=0.011)
    else:
        assert one == other


@pytest.mark.parametrize("where", ["in training", "before evaluation"])
def test_a_killed_run_is_resumed_to_the_same_bits(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = options("pooled", evaluation={"metrics": METRICS, "every": 0})
    whole = start(settings, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        if where == "in training":
            step = JointTraining.step
            patch.setattr(
                JointTraining, "step", lambda self, t: _cut() if t == 7 else step(self, t)
            )
        else:
            cut_before_the_final_evaluation(patch)
        start(settings, tmp_path / "broken")
    if where == "before evaluation":  # nothing is trained a second time
        monkeypatch.setattr(JointTraining, "step", lambda self, t: _cut())
    again = resume(tmp_path / "broken")
    assert again.weights_digest == whole.weights_digest
    assert again.quality == whole.quality
    assert again.resumed == 1
    assert [row for row in again.bytes if row.purpose == "train"] == [
        row for row in whole.bytes if row.purpose == "train"
    ]


def _cut() -> None:
    raise PowerCut


@pytest.mark.parametrize(
    "sections",
    [
        {"maps": {"family": "tests.toy:dropping_maps"}},
        {"objective": {"terms": {"tests.toy:Noisy": 1.0}}},
    ],
    ids=["maps", "terms"],
)
def test_maps_and_terms_that_draw_random_numbers_draw_the_same_again(
    sections: dict[str, Any], tmp_path: Path
) -> None:
    one, other = (
        start(options("pooled", **sections), tmp_path / name).weights_digest
        for name in ("one", "other")
    )
    assert one == other


def test_an_encoder_that_draws_random_numbers_draws_the_same_again(tmp_path: Path) -> None:
    clients = {
        "m0": {"encoder": "tests.toy:dropout_encoder", "dim": 9},
        "m1": {**SMALL},
        "m2": {**SMALL},
    }
    digests = [
        start(options("pooled", clients=clients), tmp_path / name).weights_digest["m0"]
        for name in ("one", "other")
    ]
    assert digests[0] == digests[1]
