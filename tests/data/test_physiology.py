"""Physiology on a small hand-made copy of its files' form, and on the real ones where they are."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.data import physiology
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError, DataError
from tests.system.command import sheafalign

SECONDS = 200
SHOWN = {12_000: 1, 14_500: 1, 100_000: 2, 150_700: 2}
"""Sample -> the series of the picture that is shown from there on."""
MODALITIES = ("ecg", "eda", "respiration")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("ECG", "EDA", "Respiration"):
        np.save(tmp_path / f"Task1_{name}.npy", generator.normal(5.0, 0.1, SECONDS * 1000))
    stimulus = np.zeros(SECONDS * 1000)
    for sample, series in SHOWN.items():
        stimulus[sample] = series
    np.save(tmp_path / "Task1_Stim.npy", stimulus)
    return tmp_path


def load(folder: Path, modality: str = "ecg", **options: Any) -> Any:
    given = {"path": str(folder), "block": 20, **options}
    return load_modality("physiology", modality, 0, given, "test")


def expected_starts(window: int, stride: int, block: int) -> list[int]:
    """Return the first sample of each window that lies in one block."""
    return [
        start
        for start in range(0, SECONDS * 1000 - window + 1, stride)
        if start // block == (start + window - 1) // block
    ]


def test_events_are_windows_that_no_block_s_end_divides(files: Path) -> None:
    data = load(files)
    starts = expected_starts(4000, 2000, 20_000)
    assert data.event_ids.tolist() == starts
    assert data.input_shape == (1, 400)
    splits = {
        block: {code for start, code in zip(starts, data.split.tolist(), strict=True)
                if start // 20_000 == block}
        for block in range(10)
    }  # fmt: skip
    assert all(len(found) == 1 for found in splits.values())
    taken = [found.pop() for found in splits.values()]
    assert [taken.count(code) for code in (0, 1, 2)] == [7, 1, 2]


def test_samples_are_means_scaled_by_training(files: Path) -> None:
    data = load(files, "eda", rate=50, window=2.0, stride=5.0)
    whole = np.load(files / "Task1_EDA.npy")
    events = np.array(
        [
            [whole[start + 20 * step : start + 20 * step + 20].mean() for step in range(100)]
            for start in data.event_ids.tolist()
        ]
    )
    train = events[data.split == 0]
    expected = (events - train.mean()) / train.std()
    np.testing.assert_allclose(data.x[:, 0], expected, atol=1e-3)


def test_a_label_is_the_series_of_the_last_picture_before_the_end(files: Path) -> None:
    data = load(files, after=3.0)
    for start, label in zip(data.event_ids.tolist(), data.labels["stimulus"].tolist(), strict=True):
        before = [sample for sample in SHOWN if sample < start + 4000]
        recent = before and start + 4000 - before[-1] <= 3000
        assert label == (SHOWN[before[-1]] if recent else 0)
    assert set(data.labels["stimulus"].tolist()) == {0, 1, 2}
    assert data.notes == ("one person, 200 s, 4 pictures",)


def test_all_modalities_have_the_same_events_and_splits(files: Path) -> None:
    first, *others = (load(files, modality) for modality in MODALITIES)
    for other in others:
        np.testing.assert_array_equal(first.event_ids, other.event_ids)
        np.testing.assert_array_equal(first.split, other.split)
        assert not np.array_equal(first.x, other.x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 300}, r"data\.options\.rate: must divide 1000"),
        ({"rate": 0}, r"data\.options\.rate"),
        ({"window": 0}, r"data\.options\.window: must be above 0 seconds"),
        ({"window": 30}, "30 s do not fit into a block of 20 s"),
    ],
)
def test_impossible_options_are_refused(files: Path, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(files, **options)


def test_what_is_missing_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "Task1_EDA.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"Task1_EDA\.npy: is no readable \.npy file"):
        load(files, "eda")
    (files / "Task1_EDA.npy").unlink()
    with pytest.raises(DataError, match=r"there is no .*Task1_EDA\.npy"):
        load(files, "eda")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"systole is not installed; pip install --no-deps"):
        load_modality("physiology", "ecg", 0, {}, "test")


def installed() -> str:
    """Return why the real recordings cannot be read, or "" if they can."""
    try:
        physiology._package_folder()
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.skipif(bool(installed()), reason=installed())
def test_the_real_recordings_load() -> None:
    data = [load_modality("physiology", modality, 0, {}, "test") for modality in MODALITIES]
    assert data[0].notes == ("one person, 1537 s, 72 pictures",)
    assert all(set(part.split.tolist()) == {0, 1, 2} for part in data)
    assert all(np.array_equal(part.event_ids, data[0].event_ids) for part in data)
    assert set(data[0].labels["stimulus"].tolist()) == {0, 1, 2}


def trained(out: Path, *settings: str) -> None:
    """Run the example's configuration for two exchanges, as a reader would."""
    words = [word for text in ("training.exchanges=2", *settings) for word in ("--set", text)]
    done = sheafalign(
        "run", "examples/physiology.yaml", "--engine", "inprocess", "--out", str(out), *words
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (out / "summary.json").is_file()


@pytest.mark.slow
def test_the_example_s_configuration_runs_on_a_folder_of_one_s_own(files: Path) -> None:
    trained(files / "run", f"data.options.path={files}", "data.options.block=20",
            "training.batch_size=16")  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(bool(installed()), reason=installed())
def test_the_example_s_configuration_runs_on_the_real_recordings(tmp_path: Path) -> None:
    trained(tmp_path / "run")
