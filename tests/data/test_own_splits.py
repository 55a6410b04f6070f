"""Splits of the user's own recordings: every part has its share, and machines agree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.data.own.splits import block_split, block_ticks, hashed_split, sequence_split
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError, DataError


def load(path: Path, modality: str = "a", seed: int = 0, **options: Any) -> Any:
    return load_modality("folder", modality, seed, {"path": str(path), **options}, "test")


def save(folder: Path, name: str, count: int, **arrays: Any) -> None:
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{name}.npz", x=np.random.default_rng(0).normal(size=(count, 3)), **arrays)


# ---- in time -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(100, 900),
    st.integers(-(10**12), 10**12),
    st.integers(0, 2**40),
    st.sampled_from([(0.2, 0.1), (0.3, 0.0), (0.0, 0.25), (0.15, 0.05)]),
)
def test_whatever_is_as_long_as_a_block_has_its_share_of_every_split(
    ticks: int, start: int, seed: int, shares: tuple[float, float]
) -> None:
    test, validation = shares
    split = block_split(np.arange(start, start + 3 * ticks), ticks, seed, test, validation)
    sizes = [ticks - round(test * ticks) - round(validation * ticks),
             round(validation * ticks), round(test * ticks)]  # fmt: skip
    for first in range(0, 2 * ticks, max(1, ticks // 7)):
        assert np.bincount(split[first : first + ticks], minlength=3).tolist() == sizes
    # A machine that has other ticks gives each the split that it has here.
    some = np.random.default_rng(seed).choice(3 * ticks, 40, replace=False)
    np.testing.assert_array_equal(block_split(start + some, ticks, seed, *shares), split[some])


@pytest.mark.parametrize("window", [1, 64])
def test_a_minute_has_training_validation_and_test_events_for_every_seed(
    tmp_path: Path, window: int
) -> None:
    save(tmp_path, "a", 3000, time=1.7e9 + np.arange(3000) / 50)
    save(tmp_path, "b", 600, time=1.7e9 + np.arange(600) / 10 + 0.004)
    for seed in range(20):
        loaded = [
            load(tmp_path, name, seed, period=period, window=window if name == "a" else 1)
            for name, period in (("a", 0.02), ("b", 0.1))
        ]
        for data in loaded:
            counts = np.bincount(data.split, minlength=3)
            assert (counts > 0).all()
            if window == 1:
                np.testing.assert_allclose(counts / len(data), [0.7, 0.1, 0.2], atol=0.01)


def test_a_recording_shorter_than_a_block_says_so_and_a_shorter_block_helps(tmp_path: Path) -> None:
    save(tmp_path, "a", 200, time=np.arange(200) / 10)
    lacking = {seed: load(tmp_path, seed=seed, period=0.1) for seed in range(20)}
    notes = [note for data in lacking.values() for note in data.notes if "no test events" in note]
    assert notes
    assert all("the recording is 20 s long" in note for note in notes)
    assert all("data.options.block of 60 s" in note for note in notes)
    assert all("a block of 20 or less" in note for note in notes)
    for seed in range(20):
        split = load(tmp_path, seed=seed, period=0.1, block=20.0).split
        assert np.bincount(split).tolist() == [140, 20, 40]


def test_a_block_too_short_for_its_parts_is_refused_with_the_length_that_will_do() -> None:
    with pytest.raises(ConfigError, match=r"block: 5 s are 50 ticks.*make it 8 s or longer"):
        block_ticks(0.1, 5.0, 8, 1, 0.2, 0.1)
    assert block_ticks(0.1, 8.0, 8, 1, 0.2, 0.1) == 80
    assert block_ticks(0.1, 0.0, 8, 1, 0.2, 0.1) == 600
    assert block_ticks(60.0, 0.0, 1, 1, 0.2, 0.1) == 100  # never a tick a block


# ---- sequences ---------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["walk", "run"], [0, 1], ["a", "b", "c"], [3, 8, 9, 12]])
def test_few_sequences_leave_no_split_empty_that_could_have_one(names: list[Any]) -> None:
    for seed in range(20):
        codes = sequence_split(np.array(names), seed, 0.2, 0.1)
        assert set(codes.tolist()) == ({0, 2} if len(names) == 2 else {0, 1, 2})


@given(st.sets(st.integers(0, 10**6), min_size=3, max_size=60), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_sequences_that_fill_every_split_by_themselves_stay_where_they_are(
    names: set[int], seed: int
) -> None:
    array = np.array(sorted(names))
    hashed = hashed_split(array, seed, 0.2, 0.1)
    codes = sequence_split(array, seed, 0.2, 0.1)
    assert set(codes.tolist()) == {0, 1, 2}
    if set(hashed.tolist()) == {0, 1, 2}:
        np.testing.assert_array_equal(codes, hashed)
    else:
        assert (codes != hashed).sum() <= 2


def test_two_sequences_train_and_test_for_every_seed_on_all_machines(tmp_path: Path) -> None:
    sequence = np.repeat(["morning", "evening"], 150)
    together, apart = tmp_path / "together", [tmp_path / "one", tmp_path / "two"]
    for name, machine in zip("ab", apart, strict=True):
        for folder in (together, machine):
            save(folder, name, 300, event_id=np.arange(300), sequence=sequence)
    for seed in range(20):
        one, other = (load(together, name, seed, window=2) for name in "ab")
        assert set(one.split.tolist()) == {0, 2}
        for name, machine, data in zip("ab", apart, (one, other), strict=True):
            np.testing.assert_array_equal(load(machine, name, seed, window=2).split, data.split)


def test_a_machine_that_lacks_a_sequence_agrees_where_all_are_named(tmp_path: Path) -> None:
    sequence = np.repeat([4, 7, 9], 50)
    save(tmp_path / "one", "a", 150, event_id=np.arange(150), sequence=sequence)
    save(tmp_path / "two", "b", 100, event_id=np.arange(100), sequence=sequence[:100])
    for seed in range(20):
        one = load(tmp_path / "one", "a", seed, sequences="4, 7, 9")
        other = load(tmp_path / "two", "b", seed, sequences="4, 7, 9")
        assert set(one.split.tolist()) == {0, 1, 2}
        np.testing.assert_array_equal(one.split[:100], other.split)
    for named, message in (("4, 7", "lacks '9'"), ("walk", "so name integers")):
        with pytest.raises(ConfigError, match=message):
            load(tmp_path / "one", "a", 0, sequences=named)


def test_a_single_sequence_is_divided_in_itself(tmp_path: Path) -> None:
    save(tmp_path, "a", 400, event_id=np.arange(400), sequence=np.zeros(400, dtype=int))
    save(tmp_path, "b", 400, time=np.arange(400) / 2, sequence=np.array(["run"] * 400))
    for seed in range(20):
        assert set(load(tmp_path, "a", seed, window=4).split.tolist()) == {0, 1, 2}
        assert set(load(tmp_path, "b", seed, window=4, period=0.5).split.tolist()) == {0, 1, 2}


# ---- given by the file -------------------------------------------------------------------------


@pytest.mark.parametrize("split", [np.arange(40) % 2, np.arange(40) % 2 == 1])
def test_splits_of_0_and_1_alone_are_asked_about(tmp_path: Path, split: Any) -> None:
    save(tmp_path, "a", 40, event_id=np.arange(40), split=split)
    with pytest.raises(DataError, match="split is 0 or 1 and never 2; 0 is training, 1 is valid"):
        load(tmp_path)
    save(tmp_path, "a", 40, event_id=np.arange(40), split=np.arange(40) % 2 * 2)
    assert set(load(tmp_path).split.tolist()) == {0, 2}
