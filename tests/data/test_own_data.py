"""The worked example in experiments/own_data does what it says."""

from pathlib import Path

import numpy as np
import torch

from experiments.own_data import encoder, source
from experiments.own_data.make_recordings import make_recordings
from sheafalign_fl.data.registry import load_modality

SENSORS = {"microphone": (1, 64), "thermal": (1, 12, 12), "controller": (3,)}


def test_the_recordings_load(tmp_path: Path) -> None:
    make_recordings(tmp_path / "recordings")
    options = {"path": str(tmp_path / "recordings")}
    loaded = {sensor: load_modality("folder", sensor, 0, options, "test") for sensor in SENSORS}
    for sensor, data in loaded.items():
        assert data.input_shape == SENSORS[sensor]
        assert data.classes["label"] == ("heavy", "light")
        assert set(data.split.tolist()) == {0, 1, 2}
    _, one, other = np.intersect1d(
        loaded["microphone"].event_ids, loaded["thermal"].event_ids, return_indices=True
    )
    assert 450 < len(one) < 600
    np.testing.assert_array_equal(loaded["microphone"].split[one], loaded["thermal"].split[other])
    np.testing.assert_array_equal(
        loaded["microphone"].labels["label"][one], loaded["thermal"].labels["label"][other]
    )


def test_the_encoder_gives_the_stalk_dimension_and_learns() -> None:
    network = encoder.build((2, 64), 48, bands=12)
    embeddings = network(torch.randn(5, 2, 64))
    assert embeddings.shape == (5, 48)
    embeddings.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_source_s_views_share_events_and_come_from_the_seed() -> None:
    left, right = (
        load_modality("experiments.own_data.source:load", side, 0, {"events": 80}, "test")
        for side in ("left", "right")
    )
    np.testing.assert_array_equal(left.event_ids, right.event_ids)
    np.testing.assert_array_equal(left.split, right.split)
    np.testing.assert_array_equal(left.x, source.load("left", 0, events=80).x)
    assert not np.array_equal(left.x, source.load("left", 1, events=80).x)
