"""What `sheafalign data check` says about folders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from typer.testing import CliRunner

from sheafalign_fl.cli import app
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.inspection import inspect, label_counts
from sheafalign_fl.errors import DataError, UserError
from tests.data.conftest import CopyExport
from tests.data.deepsense_files import tables


def check(*words: str) -> Any:
    return CliRunner().invoke(app, ["data", "check", *words], env={"COLUMNS": "200"})


def save(folder: Path, name: str, ids: Any, **arrays: Any) -> None:
    np.savez(folder / f"{name}.npz", x=np.zeros((len(ids), 3)), event_id=ids, **arrays)


def a_folder(folder: Path) -> dict[str, list[int]]:
    """Write three sensors that have seen different events; return their ids."""
    rng = np.random.default_rng(0)
    seen = {name: sorted(rng.choice(200, size, replace=False).tolist()) for name, size in
            {"a": 150, "b": 120, "c": 180}.items()}  # fmt: skip
    for name, ids in seen.items():
        label = (
            {"label": np.array([["cat", "dog", ""][event % 3] for event in ids])}
            if name != "b"
            else {}
        )
        save(folder, name, np.array(ids), **label)
    return seen


def test_shared_events_and_labels_are_what_a_slow_count_finds(tmp_path: Path) -> None:
    seen = a_folder(tmp_path)
    found = inspect(tmp_path, {})
    assert (found.source, found.usable, list(found.modalities)) == ("folder", True, ["a", "b", "c"])
    assert found.events == len(set().union(*seen.values()))
    splits = {
        event: split
        for data in found.modalities.values()
        for event, split in zip(data.event_ids.tolist(), data.split.tolist(), strict=True)
    }
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    for pair in found.pairs:
        both = [event for event in seen[pair.first] if event in seen[pair.second]]
        for code, split in enumerate(("train", "validation", "test")):
            assert pair.shared[split] == sum(splits[event] == code for event in both)
        assert (pair.disagree, pair.problem) == (0, None)
    kinds = [["cat", "dog", "not labelled"][event % 3] for event in seen["a"]]
    assert label_counts(found.modalities["a"], "label") == {
        kind: kinds.count(kind) for kind in sorted(set(kinds))
    }


def test_numbers_of_classes_stand_for_names_that_are_not_known() -> None:
    values = np.array([0, 2, 2, -1, 7])
    data = ModalityData(
        np.zeros((5, 1), np.float32),
        np.arange(5),
        np.zeros(5, np.uint8),
        {"k": values},
        {"k": ("a", "b", "c")},
    )
    assert label_counts(data, "k") == {"a": 1, "c": 2, "7": 1, "not labelled": 1}


@pytest.mark.parametrize("variant", ["plain", "blockage", "challenge", "authors"])
def test_deepsense_is_recognised_in_all_variants(exports: Path, variant: str) -> None:
    found = inspect(exports / variant, {"test": 0.2, "validation": 0.2})
    assert (found.source, found.usable) == ("deepsense6g", True)
    lidar = ["lidar-scan"] if variant == "authors" else ["lidar", "lidar-points", "radar"]
    assert list(found.modalities) == ["camera", "camera-colour", *lidar, "beam", "gps"]


def test_mmfi_is_recognised(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for subject in range(1, 41, 3):
        place = tmp_path / f"E{(subject - 1) // 10 + 1:02d}" / f"S{subject:02d}" / "A01"
        for name in ("lidar", "rgb"):
            (place / name).mkdir(parents=True)
        for frame in (1, 2):
            rng.normal(size=(9, 3)).tofile(place / "lidar" / f"frame{frame:03d}.bin")
            np.save(place / "rgb" / f"frame{frame:03d}.npy", rng.normal(size=(17, 2)))
    found = inspect(tmp_path, {"window": 1, "stride": 1})
    assert (found.source, list(found.modalities), dict(found.problems)) == (
        "mmfi",
        ["lidar", "rgb"],
        {},
    )
    assert sum(found.pairs[0].shared.values()) == 28


def test_utd_mhad_is_recognised(tmp_path: Path) -> None:
    for subject in range(1, 9):
        for trial in (1, 2):
            stem = tmp_path / f"a1_s{subject}_t{trial}"
            savemat(
                f"{stem}_inertial.mat",
                {"d_iner": np.random.default_rng(subject).normal(size=(150, 6))},
            )
            savemat(
                f"{stem}_skeleton.mat",
                {"d_skel": np.random.default_rng(subject).normal(size=(20, 3, 60))},
            )
    found = inspect(tmp_path, {})
    assert (found.source, list(found.modalities), dict(found.problems)) == (
        "utd-mhad",
        ["inertial", "skeleton"],
        {},
    )
    assert sum(found.pairs[0].shared.values()) == 16


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            np.arange(50),
            np.arange(100, 150),
            "ids (or clocks) never overlap, 0 to 49 and 100 to 149",
        ),
        (
            np.arange(0, 100, 2),
            np.arange(1, 101, 2),
            "ids (or clocks) interleave, 0 to 98 and 1 to 99",
        ),
        (
            np.array(["a", "b"]),
            np.array(["x", "y"]),
            "ids (or clocks) never overlap, a to b and x to y",
        ),
        (
            np.arange(50),
            np.arange(50).astype(str),
            "event ids are text in one and numbers in the other",
        ),
        (np.array([1, 2, 3]), np.array([3, 4, 5]), "fewer than 2 shared events for train"),
    ],
)
def test_two_that_cannot_be_aligned_are_named(
    tmp_path: Path, first: Any, second: Any, message: str
) -> None:
    for name, ids in (("a", first), ("b", second)):
        save(tmp_path, name, ids, split=np.zeros(len(ids), dtype=int))
    found = inspect(tmp_path, {})
    assert not found.usable
    assert message in str(found.pairs[0].problem)
    done = check(str(tmp_path))
    assert done.exit_code == 2
    assert f"wrong: a – b: {found.pairs[0].problem}" in " ".join(done.output.split())


def test_clocks_that_never_overlap_are_found(tmp_path: Path) -> None:
    for name, start in (("a", 0.0), ("b", 3600.0)):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((300, 2)), time=start + np.arange(300))
    done = check(str(tmp_path), "--set", "period=1.0")
    assert done.exit_code == 2
    assert "never overlap, 0 to 299 and 3600 to 3899" in done.output


def test_splits_that_disagree_are_counted(tmp_path: Path) -> None:
    for name, turned in (("a", 0), ("b", 3)):
        split = np.arange(60) % 3
        split[:turned] = (split[:turned] + 1) % 3
        save(tmp_path, name, np.arange(60), split=split)
    (pair,) = inspect(tmp_path, {}).pairs
    assert (pair.disagree, pair.problem) == (3, "3 shared events are in different splits")


def test_a_good_folder_is_explained_with_a_configuration(tmp_path: Path) -> None:
    events = len(set().union(*a_folder(tmp_path).values()))
    done = check(str(tmp_path))
    assert done.exit_code == 0, done.output
    for text in (
        f"read as folder: {events} events",
        "nothing is wrong",
        "source: folder",
        "not labelled",
        "a – b",
    ):
        assert text in done.output


def test_what_cannot_be_loaded_is_printed_and_the_rest_explained(copied: CopyExport) -> None:
    folder = copied("blockage")
    row = tables(folder)[30][3]
    (folder / "scenario30" / row["unit1_rgb"]).write_bytes(b"")
    done = check(str(folder))
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert "wrong: camera: " in text
    assert "row 5: camera: " in text
    assert "radar – beam" in text
    again = check(
        str(folder), "--set", "bad=drop", "--set", "validation=0.25", "--set", "test=0.25"
    )
    assert again.exit_code == 0, again.output
    assert "1 of 48 frames left out, bad files" in " ".join(again.output.split())


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ([], DataError, "is no data set that is known here"),
        (["--source", "mmfi"], DataError, "has nothing that the source 'mmfi' reads"),
        (["--source", "scenes"], UserError, "reads no folder of yours"),
        (["--source", "foldr"], UserError, "did you mean 'folder'"),
    ],
)
def test_an_empty_folder_is_nothing(
    tmp_path: Path, words: list[str], kind: type[Exception], message: str
) -> None:
    done = check(str(tmp_path), *words)
    assert isinstance(done.exception, kind)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    with pytest.raises(DataError, match="there is no folder"):
        inspect(tmp_path / "nowhere", {})
