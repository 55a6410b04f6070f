"""Features of the user's instead of an encoder's input."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clients.residence import _decoded
from sheafalign_fl.config import encode, load_settings
from sheafalign_fl.config.policy import LOCAL, Policy
from sheafalign_fl.engines import launch
from sheafalign_fl.errors import DataError
from sheafalign_fl.learner.manifest import client_data
from tests.conftest import toy_settings

IDS = np.arange(400) * 7 + 3
"""Of the toy source."""


def settings_with(path: Path, **sections: Any) -> Any:
    return toy_settings(
        clients={"m0": {"dim": 10, "features": str(path)}, "m1": {"dim": 12}}, **sections
    )


def test_features_take_the_place_of_the_input_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    rng = np.random.default_rng(0)
    order = rng.permutation(400)
    x = rng.normal(3, 2, size=(400, 17))
    np.savez(
        path,
        x=np.concatenate([x[order], np.zeros((1, 17))]),
        event_id=np.append(IDS[order], 999_999),
    )
    settings = settings_with(path)
    data, before = client_data("m0", settings), client_data("m0", toy_settings())
    train = before.split == 0
    np.testing.assert_allclose(
        data.x, (x - x[train].mean(axis=0)) / x[train].std(axis=0), atol=1e-5
    )
    np.testing.assert_array_equal(data.event_ids, before.event_ids)
    np.testing.assert_array_equal(data.split, before.split)
    np.testing.assert_array_equal(data.labels["quadrant"], before.labels["quadrant"])
    assert data.encoder is None
    assert client_data("m1", settings).input_shape == (7,)


def test_events_without_features_are_left_out_and_counted(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.ones((300, 4)), event_id=IDS[50:350])
    data = client_data("m0", settings_with(tmp_path / "own.npz"))
    assert data.event_ids.tolist() == IDS[50:350].tolist()
    assert data.notes == ("100 of 400 events have no features in own.npz",)


@pytest.mark.usefixtures("no_reports")
def test_a_run_trains_on_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.random.default_rng(0).normal(size=(400, 5)), event_id=IDS)
    settings = settings_with(tmp_path / "own.npz", training={"exchanges": 2})
    summary = launch.start(settings, tmp_path / "run")
    assert summary is not None
    weights = [
        line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if line
    ]
    assert weights


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, "clients.m0.features: there is no file"),
        ({"x": np.ones((400, 2))}, "lacks the array 'event_id'"),
        (
            {"x": np.ones((400, 2)), "event_id": np.arange(3)},
            "event_id has 3 entries but x has 400",
        ),
        ({"x": np.ones((400, 2)), "event_id": IDS.astype(str)}, "but the data's ids have int64"),
        (
            {"x": np.ones((400, 2)), "event_id": IDS.astype(np.float64)},
            "event_id has dtype float64",
        ),
        ({"x": np.ones((400, 2)), "event_id": IDS.astype("S")}, "event_id has dtype <U4, but the"),
        (
            {"x": np.ones((400, 2)), "event_id": -IDS},
            "has none of the 400 events of client 'm0' (first: 3)",
        ),
        (
            {"x": np.ones((400, 2)), "event_id": np.full(400, 3)},
            "some event ids occur more than once",
        ),
        (
            {"x": np.full((400, 2), np.nan), "event_id": IDS},
            "400 events hold NaN or infinity (first: event 3)",
        ),
        ({"x": np.ones(400), "event_id": IDS}, "x has shape (400,)"),
    ],
)
def test_bad_features_are_refused_in_one_line(tmp_path: Path, arrays: Any, message: str) -> None:
    if arrays is not None:
        np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        client_data("m0", settings_with(tmp_path / "own.npz"))
    assert "\n" not in str(caught.value)
    assert "own.npz" in str(caught.value)


def test_the_digest_depends_on_whether_there_are_features_and_not_on_where() -> None:
    one, other = (settings_with(Path(name)).digest() for name in ("/here/a.npz", "/there/b.npz"))
    without = toy_settings(clients={"m0": {"dim": 10}, "m1": {"dim": 12}}).digest()
    assert one == other != without


STRICT_BUT_FOR_THE_TOY = Policy(allow=("tests.toy:source",))


def test_a_deployed_node_looks_for_the_file_beside_its_data(tmp_path: Path) -> None:
    settings = settings_with(Path("/home/another/features/own.npz"))
    text = encode(settings)
    here = _decoded(text, None, LOCAL)
    assert here.clients["m0"].features == "/home/another/features/own.npz"
    own = _decoded(text, str(tmp_path), STRICT_BUT_FOR_THE_TOY)
    assert own.clients["m0"].features == str(tmp_path / "own.npz")
    assert own.clients["m1"].features is None
    assert own.digest() == settings.digest()


def test_a_relative_path_is_from_the_configurations_folder(tmp_path: Path) -> None:
    content = {
        "data": {"source": "tests.toy:source"},
        "clients": {"m0": {"features": "features/own.npz"}, "m1": {}},
    }
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    settings = load_settings(tmp_path / "experiment.yaml")
    assert settings.clients["m0"].features == str(tmp_path / "features" / "own.npz")
