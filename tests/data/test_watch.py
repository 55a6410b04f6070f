"""The smartwatch recordings of the package seglearn."""

import importlib.util
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.data import watch
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError, DataError

MODALITIES = ("accelerometer", "gyroscope", "spectrum")


def load(modality: str, **options: Any) -> Any:
    return load_modality("watch", modality, 0, options, "test")


def test_windows_are_cut_from_the_recordings() -> None:
    data = load("accelerometer", window=100, stride=50)
    recordings = watch._recordings()["X"]
    train = data.split == 0
    raw = np.stack(
        [
            recordings[event // 1_000_000][event % 1_000_000 :][:100, :3].T
            for event in data.event_ids.tolist()
        ]
    )
    mean, scale = raw[train].mean(axis=(0, 2)), raw[train].std(axis=(0, 2))
    np.testing.assert_allclose(data.x, (raw - mean[:, None]) / scale[:, None], rtol=1e-4, atol=1e-4)


def test_no_subject_is_in_two_splits() -> None:
    data = load("gyroscope")
    subjects = np.asarray(watch._recordings()["subject"])[data.event_ids // 1_000_000]
    for subject in np.unique(subjects):
        assert len(np.unique(data.split[subjects == subject])) == 1
    assert [len(np.unique(subjects[data.split == split])) for split in (0, 1, 2)] == [6, 1, 3]


def test_modalities_have_the_same_events_and_labels() -> None:
    loaded = [load(modality) for modality in MODALITIES]
    for data in loaded[1:]:
        np.testing.assert_array_equal(data.event_ids, loaded[0].event_ids)
        np.testing.assert_array_equal(data.labels["exercise"], loaded[0].labels["exercise"])
    assert [data.input_shape for data in loaded] == [(3, 128), (3, 128), (6, 64)]
    assert len(np.unique(loaded[0].labels["exercise"])) == 7
    assert loaded[0].classes["exercise"] == watch.EXERCISES


def test_a_tone_is_a_peak_in_the_spectrum() -> None:
    time = np.arange(128) / watch.RATE
    tone = np.tile(np.sin(2 * np.pi * 10.0 * time), (1, 6, 1))
    spectrum = watch._view("spectrum", tone)[0, 0]
    frequencies = np.fft.rfftfreq(128, 1 / watch.RATE)[1:]
    assert abs(frequencies[spectrum.argmax()] - 10.0) <= watch.RATE / 128


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    watch._recordings.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(DataError, match="pip install"):
            watch._recordings()


@pytest.mark.parametrize("options", [{"window": 100_000}, {"window": 2}, {"stride": 0}])
def test_impossible_windows_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="watch"):
        load("accelerometer", **options)


@pytest.mark.parametrize(
    "options", [{"test": -0.5}, {"test": 0.9, "validation": 0.5}, {"test": 0.5, "validation": 0.49}]
)
def test_some_subjects_are_left_to_train_on(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"data\.options"):
        load("accelerometer", **options)
