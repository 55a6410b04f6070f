"""UTD-MHAD: from its files to events, against plain code that reads them by itself."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.data import utd_mhad
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.encoders import build_encoder
from sheafalign_fl.errors import ConfigError, DataError
from tests.data.utd_mhad_files import KEYS, MODALITIES, recording_path, write_utd_mhad

Array = NDArray[Any]


def load(folder: Path, modality: str, seed: int = 0, **options: Any) -> ModalityData:
    return load_modality(
        "utd-mhad", modality, seed, {"path": str(folder), "cache": False, **options}, "client 'c'"
    )


def splits_of(data: ModalityData) -> dict[int, int]:
    return dict(zip(data.event_ids.tolist(), data.split.tolist(), strict=True))


def name_of(event: int, modality: str) -> str:
    return recording_path(modality, event // 100, event // 10 % 10, event % 10)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_utd_mhad(tmp_path_factory.mktemp("utd"), actions=(2, 27))


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Three recordings of two modalities."""
    return write_utd_mhad(
        tmp_path / "few", actions=(1,), subjects=(1, 2, 3), modalities=("inertial", "skeleton")
    )


def slow_recording(path: Path, modality: str) -> Array:
    """What a recording should give, with loops and np.interp."""
    values = loadmat(path)[KEYS[modality]].astype(np.float64)
    if modality == "inertial":
        at = np.linspace(0, len(values) - 1, 128)
        return np.array(
            [np.interp(at, np.arange(len(values)), values[:, channel]) for channel in range(6)]
        )
    if modality == "skeleton":
        length = values.shape[2]
        total = 0.0
        for frame in range(length):
            middle = values[:, :, frame].mean(axis=0)
            total += sum(math.dist(joint, middle) ** 2 for joint in values[:, :, frame])
        size = math.sqrt(total / (20 * length))
        at = np.linspace(0, length - 1, 48)
        result = np.zeros((3, 20, 48))
        for joint in range(20):
            for axis in range(3):
                line = (values[joint, axis] - values[:, axis].mean()) / size
                result[axis, joint] = np.interp(at, np.arange(length), line)
        return result
    length = values.shape[2]
    image = np.zeros((8, 48, 64))
    for k in range(8):
        pixels = values[:, :, math.floor(k * (length - 1) / 7)].reshape(48, 5, 64, 5)
        for row in range(48):
            for column in range(64):
                cell = [
                    depth for line in pixels[row, :, column].tolist() for depth in line if depth > 0
                ]
                image[k, row, column] = sum(cell) / len(cell) / 1000 if cell else 0
    return image


@pytest.mark.parametrize("modality", MODALITIES)
def test_values_are_those_of_the_files_scaled_by_training_recordings(
    modality: str, everything: Path
) -> None:
    data = load(everything, modality)
    raw = np.array(
        [
            slow_recording(everything / name_of(event, modality), modality)
            for event in data.event_ids
        ]
    )
    fit = raw[data.split == 0]
    axes = tuple(axis for axis in range(fit.ndim) if axis != 1)
    wanted = (raw - fit.mean(axis=axes, keepdims=True)) / fit.std(axis=axes, keepdims=True)
    np.testing.assert_allclose(data.x, wanted, atol=3e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_modality_alone_gives_what_it_gives_beside_the_others(
    modality: str, everything: Path, tmp_path: Path
) -> None:
    alone = load(write_utd_mhad(tmp_path, actions=(2, 27), modalities=[modality]), modality)
    beside = load(everything, modality)
    np.testing.assert_array_equal(alone.x, beside.x)
    np.testing.assert_array_equal(alone.labels["action"], beside.labels["action"])
    assert splits_of(alone) == splits_of(beside)
    assert utd_mhad.present(tmp_path) == [modality]


def test_all_modalities_have_the_same_events_splits_and_labels(everything: Path) -> None:
    assert utd_mhad.present(everything) == list(MODALITIES)
    first, *others = [load(everything, modality) for modality in MODALITIES]
    assert sorted(splits_of(first)) == [a * 100 + s * 10 + 1 for a in (2, 27) for s in range(1, 9)]
    for other in others:
        assert splits_of(other) == splits_of(first)
        np.testing.assert_array_equal(other.labels["action"], first.labels["action"])
    assert [first.classes["action"][label] for label in np.unique(first.labels["action"])] == [
        "swipe right",
        "squat",
    ]
    assert first.notes == ("845 of the 861 recordings are not here",)


@pytest.mark.parametrize("modality", MODALITIES)
def test_shapes_are_as_documented_and_the_encoder_takes_them(
    modality: str, everything: Path
) -> None:
    data = load(everything, modality)
    (documented,) = [item.shape for item in utd_mhad.INFO.modalities if item.name == modality]
    assert str(data.input_shape) == documented
    assert data.x.dtype == np.float32
    assert data.encoder is not None
    build_encoder("c", ClientSettings(dim=16), data.input_shape, data.encoder)


@pytest.mark.parametrize("seed", range(3))
def test_a_subject_is_in_one_split_on_every_machine(
    seed: int, everything: Path, tmp_path: Path
) -> None:
    here = splits_of(load(everything, "inertial", seed))
    for subject in range(1, 9):
        assert len({split for event, split in here.items() if event // 10 % 10 == subject}) == 1
    assert set(here.values()) == {0, 1, 2}
    part = write_utd_mhad(tmp_path, actions=(2, 27), subjects=(2, 5, 8), modalities=["inertial"])
    there = splits_of(load(part, "inertial", seed))
    assert len(there) == 6
    assert there.items() <= here.items()


def test_files_may_lie_in_any_folder_below(few: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(few.rglob("*.mat"))):
        target = tmp_path / "other" / ("abc"[number % 3] * number)
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for modality in ("inertial", "skeleton"):
        np.testing.assert_array_equal(load(few, modality).x, load(tmp_path / "other", modality).x)


def test_events_tell_actions_apart(tmp_path: Path) -> None:
    """The files carry class information.

    The nearest mean of training events names most other events' action.
    """
    data = load(
        write_utd_mhad(tmp_path, actions=(1, 2, 3), trials=(1, 2), modalities=["inertial"]),
        "inertial",
    )
    x, label, fit = data.x.reshape(len(data), -1), data.labels["action"], data.split == 0
    means = np.stack([x[fit & (label == k)].mean(axis=0) for k in range(3)])
    nearest = np.argmin(((x[:, None] - means) ** 2).sum(axis=2), axis=1)
    assert (nearest == label)[~fit].mean() > 0.8


DEPTH = np.full((240, 320, 3), 1000.0)
BAD_ARRAYS: list[tuple[str, dict[str, Any], str]] = [
    ("inertial", {"iner": np.ones((50, 6))}, "lacks the array 'd_iner'"),
    (
        "inertial",
        {"d_iner": np.ones((6, 50))},
        "d_iner has shape (6, 50); it must be samples (2 or more), 6 channels",
    ),
    ("inertial", {"d_iner": np.ones((1, 6))}, "d_iner has shape (1, 6)"),
    (
        "inertial",
        {"d_iner": np.ones((0, 6))},
        "d_iner has shape (0, 6); it must have 2 axes and not be empty",
    ),
    ("inertial", {"d_iner": np.full((50, 6), np.nan)}, "holds NaN"),
    ("inertial", {"d_iner": np.full((50, 6), 1e300)}, "beyond float32"),
    ("inertial", {"d_iner": "text"}, "d_iner has dtype <U4"),
    ("skeleton", {"d_skel": np.ones((20, 3))}, "d_skel has shape (20, 3); it must have 3 axes"),
    (
        "skeleton",
        {"d_skel": np.ones((25, 3, 9))},
        "d_skel has shape (25, 3, 9); it must be 20 joints, 3, frames",
    ),
    ("skeleton", {"d_skel": np.ones((3, 20, 9))}, "d_skel has shape (3, 20, 9)"),
    ("skeleton", {"d_skel": np.full((20, 3, 9), np.inf)}, "holds NaN"),
    (
        "depth",
        {"d_depth": np.ones((240, 320))},
        "d_depth has shape (240, 320); it must have 3 axes",
    ),
    ("depth", {"d_depth": DEPTH * np.nan}, "holds NaN"),
    ("depth", {"d_skel": DEPTH}, "lacks the array 'd_depth'"),
]


@pytest.mark.parametrize(("modality", "arrays", "reason"), BAD_ARRAYS)
def test_a_bad_file_is_named_or_left_out_and_counted(
    modality: str, arrays: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = write_utd_mhad(tmp_path, actions=(1,), subjects=(1, 2, 3), modalities=[modality])
    path = folder / recording_path(modality, subject=2)
    savemat(path, arrays)
    check_left_out(folder, path, modality, reason)


@pytest.mark.parametrize("kept", [0, 100, 1500])
def test_a_truncated_file_is_named_or_left_out_and_counted(kept: int, few: Path) -> None:
    path = few / recording_path("inertial", subject=2)
    path.write_bytes(path.read_bytes()[:kept])
    check_left_out(few, path, "inertial", "is no readable .mat file")


def check_left_out(folder: Path, path: Path, modality: str, reason: str) -> None:
    with pytest.raises(DataError) as stopped:
        load(folder, modality)
    message = str(stopped.value)
    assert message.startswith("action 1, subject 2, trial 1: ")
    assert str(path) in message
    assert reason in message
    assert "\n" not in message
    data = load(folder, modality, bad="drop")
    assert sorted(data.event_ids.tolist()) == [111, 131]
    (note,) = [note for note in data.notes if "left out" in note]
    assert note.startswith(
        "1 of 3 frames left out, bad files (first: action 1, subject 2, trial 1: "
    )
    assert path.name in note
    assert reason in note


@pytest.mark.parametrize(
    "name", ["a28_s1_t1", "a0_s1_t1", "a1_s9_t1", "a1_s0_t1", "a1_s1_t5", "a1_s1_t0"]
)
def test_a_recording_that_utd_mhad_does_not_have_is_named(name: str, few: Path) -> None:
    path = few / "Inertial" / f"{name}_inertial.mat"
    shutil.copy(few / recording_path("inertial"), path)
    with pytest.raises(
        DataError, match="has actions a1 to a27, subjects s1 to s8 and trials t1 to t4"
    ) as error:
        load(few, "inertial", bad="drop")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["copy/a1_s1_t1_inertial.mat", "Inertial/a01_s1_t1_inertial.mat"])
def test_a_recording_that_is_there_twice_is_named(name: str, few: Path) -> None:
    (few / name).parent.mkdir(exist_ok=True)
    shutil.copy(few / recording_path("inertial"), few / name)
    with pytest.raises(DataError, match="is there twice, also as") as error:
        load(few, "inertial", bad="drop")
    assert str(few / name) in str(error.value)
    assert str(few / recording_path("inertial")) in str(error.value)


@pytest.mark.parametrize(
    "name", ["a1_s4_t1_raw_inertial", "a1_s4_tx_inertial", "a1_s4_t1_inertial (1)"]
)
def test_files_of_other_names_are_no_recordings(name: str, few: Path) -> None:
    before = load(few, "inertial")
    shutil.copy(few / recording_path("inertial"), few / "Inertial" / f"{name}.mat")
    np.testing.assert_array_equal(load(few, "inertial").event_ids, before.event_ids)


def test_a_folder_that_is_no_utd_mhad_is_refused(few: Path, tmp_path: Path) -> None:
    for folder, modality, reason in [
        (tmp_path / "absent", "inertial", "there is no folder"),
        (few / recording_path("inertial"), "inertial", "there is no folder"),
        (few / "Skeleton", "inertial", r"there is no a\*_s\*_t\*_inertial.mat in it or below"),
        (few, "depth", r"there is no a\*_s\*_t\*_depth.mat in it or below"),
    ]:
        with pytest.raises(DataError, match=reason) as error:
            load(folder, modality)
        assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 1.5}, "data.options.test: must be between 0 and 1"),
        ({"test": 0.5, "validation": 0.5}, "leave nothing to train on"),
        ({"test": 0.9, "validation": 0.05}, "take all of the 8 groups"),
        ({"bad": "skip"}, "data.options.bad: must be stop or drop, not 'skip'"),
        ({"window": 3}, "'utd-mhad' has no option 'window'"),
    ],
)
def test_options_out_of_range_are_refused_before_any_file_is_read(
    options: dict[str, Any], message: str, few: Path
) -> None:
    for path in few.rglob("*.mat"):
        path.write_bytes(b"")
    with pytest.raises(ConfigError) as error:
        load(few, "inertial", **options)
    assert message in str(error.value)


def test_without_a_path_the_message_asks_for_one() -> None:
    with pytest.raises(
        ConfigError,
        match=r"data\.options\.path: the source 'utd-mhad' needs the path of the folder",
    ):
        load_modality("utd-mhad", "inertial", 0, {}, "client 'c'")
