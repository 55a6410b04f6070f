"""The archive's series as own data: a small file in its form, and the package's where they are."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.aeon_series import CHANNELS, LENGTH, load, read_ts
from sheafalign_fl.errors import ConfigError, DataError
from tests.system.command import sheafalign

REASON = "the package aeon is not installed (pip install --no-deps aeon==1.6.0)"


def series(count: int, channels: int, seed: int) -> list[tuple[Any, str]]:
    """Return series of unequal length and their labels."""
    generator = np.random.default_rng(seed)
    return [
        (generator.normal(size=(channels, 7 + number % 5)).round(4), str(1 + number % 3))
        for number in range(count)
    ]


def write(path: Path, rows: list[tuple[Any, str]]) -> None:
    lines = [
        ":".join([*(",".join(map(str, channel)) for channel in values), label])
        for values, label in rows
    ]
    head = "# a comment\n@problemName Made\n@univariate false\n@classLabel true 1 2 3\n@data\n"
    path.write_text(head + "\n".join(lines) + "\n")


@pytest.fixture
def vowels(tmp_path: Path) -> Path:
    write(tmp_path / "JapaneseVowels_TRAIN.ts", series(30, 12, 0))
    write(tmp_path / "JapaneseVowels_TEST.ts", series(20, 12, 1))
    return tmp_path


def test_a_file_of_series_is_what_was_written(vowels: Path) -> None:
    for (values, label), (wanted, name) in zip(
        read_ts(vowels / "JapaneseVowels_TRAIN.ts"), series(30, 12, 0), strict=True
    ):
        assert label == name
        np.testing.assert_array_equal(values, wanted)


def test_clients_have_bands_of_the_same_events(vowels: Path) -> None:
    rows = [*series(30, 12, 0), *series(20, 12, 1)]
    found = [load(name, 0, dataset="JapaneseVowels", path=str(vowels))
             for name in ("low", "middle", "high")]  # fmt: skip
    for number, data in enumerate(found):
        assert np.bincount(data.split).tolist() == [24, 6, 20]
        assert set(data.split[30:].tolist()) == {2}
        assert data.labels["class"].tolist() == [int(label) - 1 for _, label in rows]
        # First and last frames are kept when a series is resampled; what is scaled is the channel.
        ends = np.array([values[4 * number : 4 * number + 4, [0, -1]] for values, _ in rows])
        for channel in range(4):
            made = data.x[:, channel][:, [0, -1]].ravel()
            assert np.corrcoef(made, ends[:, channel].ravel())[0, 1] > 0.9999
    np.testing.assert_array_equal(found[0].split, found[2].split)


def test_what_cannot_be_read_is_named(vowels: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be BasicMotions or JapaneseVowels, not 'Gait'"):
        load("low", 0, dataset="Gait")
    with pytest.raises(ConfigError, match="JapaneseVowels has no client 'gyroscope'; low, middle"):
        load("gyroscope", 0, dataset="JapaneseVowels")
    with pytest.raises(DataError, match="cannot be read"):
        load("gyroscope", 0, dataset="BasicMotions", path=str(tmp_path))
    (tmp_path / "empty.ts").write_text("@data\n")
    with pytest.raises(DataError, match="holds no series"):
        read_ts(tmp_path / "empty.ts")


def trained(configuration: str, out: Path, *settings: str) -> None:
    """Run an example's configuration for two exchanges, as a reader would."""
    words = [word for text in ("training.exchanges=2", "training.batch_size=16", *settings)
             for word in ("--set", text)]  # fmt: skip
    done = sheafalign(
        "run", f"examples/{configuration}", "--engine", "inprocess", "--out", str(out), *words
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (out / "summary.json").is_file()


@pytest.mark.slow
def test_the_configuration_runs_on_a_folder_of_one_s_own(vowels: Path) -> None:
    trained("japanese_vowels.yaml", vowels / "run", f"data.options.path={vowels}")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("aeon") is None, reason=REASON)
@pytest.mark.parametrize("name", ["basic_motions.yaml", "japanese_vowels.yaml"])
def test_the_configuration_runs_on_the_package_s_series(name: str, tmp_path: Path) -> None:
    trained(name, tmp_path / "run")


@pytest.mark.skipif(importlib.util.find_spec("aeon") is None, reason=REASON)
@pytest.mark.parametrize(("dataset", "events"), [("BasicMotions", 80), ("JapaneseVowels", 640)])
def test_the_package_s_series_load(dataset: str, events: int) -> None:
    for modality, channels in CHANNELS[dataset].items():
        data = load(modality, 0, dataset=dataset)
        assert len(data) == events
        assert data.input_shape == (channels.stop - channels.start, LENGTH[dataset])
        assert np.isfinite(data.x).all()
