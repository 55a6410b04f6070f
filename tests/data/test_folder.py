"""The user's own folder (what is refused is in tests/system/test_bad_input.py)."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.data.own.splits import hashed_split
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError, DataError


def load(path: Path, modality: str = "a", **options: Any) -> Any:
    return load_modality("folder", modality, 0, {"path": str(path), **options}, "test")


def test_arrays_labels_and_splits_are_what_the_file_says(tmp_path: Path) -> None:
    x = np.arange(40, dtype=np.float64).reshape(10, 4)
    np.savez(
        tmp_path / "a.npz",
        x=x,
        event_id=np.arange(10)[::-1],
        split=np.array(["train"] * 6 + ["validation"] * 2 + ["test"] * 2),
        label=np.array(["b", "a", "", "a", "b", "a", "a", "b", "", "a"]),
        label_count=np.arange(10),
    )
    data = load(tmp_path, standardise=False)
    np.testing.assert_array_equal(data.x, x.astype(np.float32))
    assert data.split.tolist() == [0] * 6 + [1] * 2 + [2] * 2
    assert data.classes["label"] == ("a", "b")
    assert data.labels["label"].tolist() == [1, 0, -1, 0, 1, 0, 0, 1, -1, 0]
    assert data.labels["count"].tolist() == list(range(10))


def test_without_a_split_an_event_falls_into_the_same_split_in_every_modality(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    ids = np.array([f"event {index}" for index in range(500)])
    for name in ("a", "b"):
        order = rng.permutation(500)[: 400 if name == "b" else 500]
        np.savez(tmp_path / f"{name}.npz", x=rng.normal(size=(len(order), 3)), event_id=ids[order])
    first, second = load(tmp_path, "a", test=0.3), load(tmp_path, "b", test=0.3)
    _, one, other = np.intersect1d(first.event_ids, second.event_ids, return_indices=True)
    np.testing.assert_array_equal(first.split[one], second.split[other])
    assert 0.2 < (first.split == 2).mean() < 0.4


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.text("abcé\U0001f600-_ ", min_size=1, max_size=8), min_size=1, max_size=60),
    st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60),
    st.integers(0, 2**40),
)
def test_the_split_of_an_event_depends_on_seed_and_id_alone(
    texts: set[str], numbers: set[int], seed: int
) -> None:
    for ids in (np.array(sorted(texts)), np.array(sorted(numbers), dtype=np.int64)):
        together = hashed_split(ids, seed, 0.3, 0.2)
        for index in range(len(ids)):
            assert hashed_split(ids[index : index + 1], seed, 0.3, 0.2)[0] == together[index]


def test_the_fractions_of_a_random_split_are_those_asked_for() -> None:
    split = hashed_split(np.arange(20_000), 3, 0.3, 0.2)
    np.testing.assert_allclose(np.bincount(split) / 20_000, [0.5, 0.2, 0.3], atol=0.015)
    assert not np.array_equal(split, hashed_split(np.arange(20_000), 4, 0.3, 0.2))


def test_a_class_has_one_number_even_for_a_sensor_that_never_saw_another(tmp_path: Path) -> None:
    for name, seen in {"a": ["bus", "car", "van", ""], "b": ["van", "car", "van", "car"]}.items():
        np.savez(
            tmp_path / f"{name}.npz",
            x=np.zeros((4, 2)),
            event_id=np.arange(4),
            label=np.array(seen),
        )
    (tmp_path / "c.npz").write_bytes(b"of no use")
    first, second = load(tmp_path, "a"), load(tmp_path, "b")
    assert first.classes["label"] == second.classes["label"] == ("bus", "car", "van")
    assert first.labels["label"].tolist() == [0, 1, 2, -1]
    assert second.labels["label"].tolist() == [2, 1, 2, 1]


def test_what_is_constant_in_training_is_not_blown_up(tmp_path: Path) -> None:
    x = np.full((1000, 2), 0.1, dtype=np.float32)
    x[-1] += 0.001
    np.savez(tmp_path / "a.npz", x=x, event_id=np.arange(1000), split=np.array([0] * 999 + [2]))
    assert np.abs(load(tmp_path).x).max() < 0.01


def test_scaling_uses_training_events_alone(tmp_path: Path) -> None:
    x = np.concatenate(
        [np.random.default_rng(0).normal(5, 3, (80, 2, 16)), np.full((20, 2, 16), 1000.0)]
    )
    np.savez(tmp_path / "a.npz", x=x, event_id=np.arange(100), split=np.array([0] * 80 + [2] * 20))
    data = load(tmp_path)
    train = data.x[:80]
    np.testing.assert_allclose(train.mean(axis=(0, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=(0, 2)), 1.0, atol=1e-5)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), event_id=np.arange(4))
    assert len(load(tmp_path)) == 4
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 2)), event_id=np.arange(5))
    assert len(load(tmp_path)) == 5


def test_shared_arrays_cannot_be_written_to(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), event_id=np.arange(4))
    with pytest.raises(ValueError, match="read-only"):
        load(tmp_path).x[0, 0] = 1.0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 2))}, "lacks the array 'event_id'"),
        ({"x": np.zeros((4, 2)), "event_id": np.arange(3)}, "event_id has 3 entries but x has 4"),
        ({"x": np.array([["a", "b"]] * 4), "event_id": np.arange(4)}, "must be numbers"),
        ({"x": np.zeros((4, 2)), "event_id": np.arange(4.0)}, "use integers or text"),
        (
            {
                "x": np.zeros((4, 2)),
                "event_id": np.arange(4),
                "split": np.array(["train"] * 3 + ["tset"]),
            },
            "'tset'",
        ),
        (
            {"x": np.zeros((4, 2)), "event_id": np.arange(4), "split": np.array([0, 1, 2, 3])},
            "split must be",
        ),
        (
            {"x": np.zeros((4, 2)), "event_id": np.arange(4), "label": np.zeros(4)},
            "say what it is: data.options.labels: classes, or values",
        ),
        (
            {"x": np.zeros((4, 2)), "event_id": np.arange(4), "label": np.zeros(3, dtype=int)},
            "label",
        ),
        ({"x": np.float32(1), "event_id": np.arange(1)}, "x has shape ()"),
        (
            {"x": np.zeros((1, 2)), "event_id": np.int64(1)},
            "event_id has shape (); it must have one axis",
        ),
        (
            {"x": np.zeros((2, 2)), "event_id": np.arange(2), "label": np.array([["a"], ["b"]])},
            "label has dtype <U1; use 0 and 1",
        ),
        (
            {"x": np.zeros((2, 2)), "event_id": np.arange(2), "label": np.array([1, 2**40])},
            "class numbers from 0",
        ),
        (
            {"x": np.zeros((2, 2)), "event_id": np.arange(2), "label": np.array([1, -2])},
            "class numbers from 0",
        ),
        (
            {
                "x": np.zeros((2, 2)),
                "event_id": np.arange(2),
                "label": np.arange(2),
                "label_label": np.arange(2),
            },
            "would have one name",
        ),
        ({"x": np.full((2, 2), 1e300), "event_id": np.arange(2)}, "NaN or infinity in 2 of 2"),
        (
            {"x": np.zeros((2, 2)), "event_id": np.array([1, 2**63], dtype=np.uint64)},
            "int64 cannot hold",
        ),
        ({"x": np.zeros((2, 2), dtype=complex), "event_id": np.arange(2)}, "must be numbers"),
        ({"x": np.zeros((0, 2)), "event_id": np.arange(0)}, "no events"),
        ({"x": np.full((4, 2), np.inf), "event_id": np.arange(4)}, "NaN or infinity in 4 of 4"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_bare_array_under_the_name_of_an_npz_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((4, 2)))
    with pytest.raises(DataError, match=r"no readable \.npz file"):
        load(tmp_path)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object), event_id=np.array([1]))
    with pytest.raises(DataError, match="holds Python objects"):
        load(tmp_path)


def test_what_is_there_is_listed_when_a_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"it has no \.npz file"):
        load(tmp_path)
    np.savez(tmp_path / "b.npz", x=np.zeros((4, 2)), event_id=np.arange(4))
    with pytest.raises(DataError, match=r"has no a\.npz; it has b"):
        load(tmp_path)


def test_the_path_has_to_be_given() -> None:
    with pytest.raises(ConfigError, match="needs the path"):
        load_modality("folder", "a", 0, {}, "test")
