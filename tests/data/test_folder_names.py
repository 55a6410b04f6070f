"""Folders as other machines and programs leave them, and clocks as phones have them."""

import os
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from sheafalign_fl.data.inspection import inspect
from sheafalign_fl.data.own.arrays import file_of, present, recording_of

NAMES = ("caméra", "Ultraschall-Gerät", "カメラ", "ガス")


def write(folder: Path, name: str, **arrays: object) -> Path:
    path = folder / name
    usual = {"x": np.arange(400.0).reshape(100, 4), "event_id": np.arange(100)}
    with path.open("wb") as file:
        np.savez(file, **(arrays or usual))
    return path


Form = Literal["NFC", "NFD"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_a_name_is_the_same_however_its_accents_are_coded(
    name: str, on_disk: Form, typed: Form, tmp_path: Path
) -> None:
    path = write(tmp_path, f"{unicodedata.normalize(on_disk, name)}.npz")
    assert present(tmp_path) == [unicodedata.normalize("NFC", name)]
    assert file_of(tmp_path, unicodedata.normalize(typed, name)).samefile(path)
    assert recording_of(tmp_path, unicodedata.normalize(typed, name)).arrays["x"].shape == (100, 4)


def test_an_ending_in_capitals_is_read(tmp_path: Path) -> None:
    write(tmp_path, "SONAR.NPZ")
    assert present(tmp_path) == ["SONAR"]
    assert len(recording_of(tmp_path, "SONAR").arrays["x"]) == 100


def test_links_that_lead_nowhere_are_no_modalities(tmp_path: Path) -> None:
    write(tmp_path, "sonar.npz")
    (tmp_path / "linked.npz").symlink_to("sonar.npz")
    (tmp_path / "ghost.npz").symlink_to("absent.npz")
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    assert present(tmp_path) == ["linked", "sonar"]


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (np.array(["31/12/2023 10:00:00"] * 100), "31/12/2023"),
        (np.array(["NaT"] * 100, dtype="M8[ms]"), "time"),
    ],
)
def test_times_that_cannot_be_read_are_what_is_said(
    time: object, said: str, tmp_path: Path
) -> None:
    for name in ("imu", "sonar"):
        write(tmp_path, f"{name}.npz", x=np.ones((100, 2)), time=time)
    wrong = " ".join(inspect(tmp_path, {}).problems.values())
    assert said in wrong
    assert "needs data.options.period" not in wrong


@pytest.mark.parametrize("up", [14_378_659_749_280, 328_551_511_918_592])
def test_a_phone_s_clock_since_it_was_switched_on_is_in_nanoseconds(
    up: int, tmp_path: Path
) -> None:
    """Both numbers are of the size of milliseconds or microseconds since 1970."""
    ticks = np.arange(3000)
    write(tmp_path, "gps.npz", x=np.ones((3000, 2)), time=1.7e9 + ticks / 50)
    write(tmp_path, "imu.npz", x=np.ones((3000, 2)), time=up + ticks * 20_000_000)
    assert "time_unit: {imu: ns}" in " ".join(inspect(tmp_path, {}).notes)
