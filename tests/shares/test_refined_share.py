"""A share whose maps were refined: it is read, refused and served as any other is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from starlette.testclient import TestClient

import sheafalign_fl as sf
from sheafalign_fl.deploy.bounded import Limits
from sheafalign_fl.deploy.share_service import ShareService, share_app
from sheafalign_fl.shares.facts import ShareFacts
from strategies import server_app
from tests.shares.conftest import Recorded, configuration, recordings
from tests.shares.test_share import resign


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Train once for these tests."""
    folder = tmp_path_factory.mktemp("refined")
    measured = {"every": 0, "metrics": ["retrieval"], "refine": "cca"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_app, "draw_report", lambda _: None)
        sf.run(configuration(folder / "recordings", evaluation=measured), folder / "run")
    return Recorded(folder / "run", **recordings())


def test_its_service_finds_what_its_model_finds(refined: Recorded) -> None:
    model = sf.load_model(refined.path)
    x, among = refined.raw("imu", "test")[:9], refined.raw("thermometer", "test")
    z = np.asarray(model["imu"].compare("thermometer", x))
    share = sf.load_model(refined.path / "shares/thermometer")
    service = ShareService(share["thermometer"], Limits(neighbours=5), None, among)
    with TestClient(share_app(service, None)) as client:
        found = client.post("/search/imu", json={"z": z.tolist(), "k": 5}).json()
    expected = share.search(("imu", z), ("thermometer", among), k=5)
    assert found == {"rows": expected.rows.tolist(), "scores": expected.scores.tolist()}
    # By hand: the service knows its own refinement alone.
    by, own = share["thermometer"].refinements["imu"], share["thermometer"].compare("imu", among)
    refined_order = nearest(by.received.apply(z), by.own.apply(np.asarray(own)))
    assert found["rows"] == refined_order[:, :5].tolist()
    assert found["rows"] != nearest(z, np.asarray(own))[:, :5].tolist()


def nearest(queries: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the rows of `among` by falling cosine with each query."""
    one, other = (
        v.astype(float) / np.linalg.norm(v.astype(float), axis=1)[:, None] for v in (queries, among)
    )
    order: np.ndarray = np.argsort(-(one @ other.T), axis=1)
    return order


def test_what_travels_is_not_refined(refined: Recorded) -> None:
    """Others impute and lift from z as training exchanged it."""
    node = refined.node("imu")
    z = sf.load_model(refined.path)["imu"].compare("camera", refined.raw("imu", "test"))
    assert z.tobytes() == node.restrict("camera", node.embeddings("test")[0]).tobytes()


@pytest.mark.parametrize("name", ["own.mean", "own.weights", "received.weights"])
def test_refined_maps_that_do_not_fit_are_one_line(
    refined: Recorded, tmp_path: Path, name: str
) -> None:
    shutil.copytree(refined.path / "shares/imu", copied := tmp_path / "imu")
    for broken in (np.ones((3, 4)), np.full((6,) if "mean" in name else (6, 6), np.inf)):
        arrays = load_file(copied / "weights.safetensors")
        arrays[f"refined.camera.{name}"] = broken
        save_file(arrays, copied / "weights.safetensors")
        resign(copied)
        with pytest.raises(sf.DataError, match="holds other weights than its facts say"):
            sf.load_share(copied)


def test_facts_without_refined_maps_are_those_of_earlier_versions(recorded: Recorded) -> None:
    content = json.loads((recorded.path / "shares/imu/share.json").read_bytes())
    assert "refined" not in content
    facts = ShareFacts.model_validate(content)
    assert facts.own_digest() == content["digest"]
    assert list(facts.model_dump()) == list(content)
    changed = facts.model_copy(update={"refined": ("camera",)})
    assert changed.own_digest() != facts.own_digest()
    assert json.loads(changed.model_dump_json())["refined"] == ["camera"]
