"""Recordings that are not read are named: beside what is read, and where nothing is."""

from pathlib import Path

import numpy as np
import pytest

from sheafalign_fl.data.inspection import inspect
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import DataError


def write(folder: Path, *names: str) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        values = rng.normal(size=(60, 3))
        if name.endswith(".npz"):
            np.savez(folder / name, x=values, event_id=np.arange(60))
        elif name.endswith(".csv"):
            lines = ["event_id,a,b", *(f"{row},{a},{b}" for row, (a, b, _) in enumerate(values))]
            (folder / name).write_text("\n".join(lines))
        elif name.endswith("/"):
            (folder / name).mkdir()
            for row in range(3):
                np.save(folder / name / f"{row}.npy", values[row])
        else:
            (folder / name).write_bytes(b"something else")


def notes(folder: Path, modality: str) -> tuple[str, ...]:
    return load_modality("folder", modality, 0, {"path": str(folder)}, modality).notes


def told(folder: Path, modality: str) -> list[str]:
    return [note for note in notes(folder, modality) if "not read" in note]


@pytest.mark.parametrize(
    ("read", "other", "said"),
    [
        ("sonar.npz", "sonar.mat", "read from sonar.npz; not read: sonar.mat (MATLAB)"),
        ("sonar.npz", "sonar.H5", "read from sonar.npz; not read: sonar.H5 (HDF5)"),
        ("sonar.npz", "sonar.csv", "read from sonar.npz; not read: sonar.csv"),
        ("sonar.npz", "sonar/", "read from sonar.npz; not read: sonar"),
        ("sonar.csv", "sonar.xlsx", "read from sonar.csv; not read: sonar.xlsx (a spreadsheet)"),
    ],
)
def test_another_recording_of_the_same_name_is_named(
    read: str, other: str, said: str, tmp_path: Path
) -> None:
    write(tmp_path, "camera.npz", read)
    assert told(tmp_path, "sonar") == []
    write(tmp_path, other)
    assert told(tmp_path, "sonar") == [said]
    assert told(tmp_path, "camera") == []


def test_what_belongs_to_no_modality_is_named_once(tmp_path: Path) -> None:
    write(tmp_path, "camera.npz", "lidar.npz", "sonar.mat", "README.md", "notes.txt", "._a.mat")
    (found,) = [note for note in inspect(tmp_path, {}).notes if "not read" in note]
    assert found.startswith("not read: sonar.mat (MATLAB); save x and event_id")
    write(tmp_path, *(f"more{number}.edf" for number in range(9)))
    (found,) = [note for note in inspect(tmp_path, {}).notes if "not read" in note]
    assert "and 5 more; " in found


def test_a_modality_in_a_file_that_is_not_read_is_told_its_mend(tmp_path: Path) -> None:
    write(tmp_path, "camera.npz", "sonar.mat")
    with pytest.raises(DataError, match=r"has no sonar.npz; .*sonar.mat \(MATLAB\) is not read: s"):
        notes(tmp_path, "sonar")


def test_a_folder_of_nothing_else_is_told_too(tmp_path: Path) -> None:
    write(tmp_path, "sonar.mat", "sonar.h5")
    with pytest.raises(DataError, match=r"sonar.h5 \(HDF5\), sonar.mat \(MATLAB\) is not read"):
        inspect(tmp_path, {})


def test_what_is_no_recording_is_not_named(tmp_path: Path) -> None:
    write(tmp_path, "camera.npz", "lidar.npz")
    (tmp_path / "figures").mkdir()
    (tmp_path / "camera.md").write_text("how it was made")
    assert told(tmp_path, "camera") == []
    assert not [note for note in inspect(tmp_path, {}).notes if "not read" in note]
