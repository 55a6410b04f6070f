"""MM-Fi: from its files to events, against plain code that reads them by itself."""

import io
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat, savemat

from sheafalign_fl.config.schema import ClientSettings
from sheafalign_fl.data import mmfi
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.encoders import build_encoder
from sheafalign_fl.errors import ConfigError, DataError
from tests.data.mmfi_files import MODALITIES, frame_path, write_mmfi

Array = NDArray[Any]
SUBJECTS = (1, 2, 3, 4, 11, 12, 13, 21, 22, 31)
FRAMES = 9
OPTIONS: dict[str, Any] = {"window": 3, "stride": 2, "cache": False}


def load(folder: Path, modality: str, seed: int = 0, **options: Any) -> ModalityData:
    return load_modality(
        "mmfi", modality, seed, {"path": str(folder), **OPTIONS, **options}, "client 'c'"
    )


def splits_of(data: ModalityData) -> dict[int, int]:
    return dict(zip(data.event_ids.tolist(), data.split.tolist(), strict=True))


def recording_and_frame(event: int) -> tuple[int, int, int]:
    """Subject, activity and last frame of an event, from its number."""
    return event // 1_000_000 % 100, event // 10_000 % 100, event % 10_000


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mmfi(tmp_path_factory.mktemp("mmfi"), subjects=SUBJECTS, frames=FRAMES)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """One recording of four frames."""
    return write_mmfi(tmp_path / "one", subjects=(1,), activities=(1,), frames=4)


def slow_frame(path: Path, modality: str) -> Array:
    """What a frame should give, with loops and the struct module."""
    if modality == "csi":
        return np.asarray(loadmat(path)["CSIamp"])
    if modality in ("mmwave", "lidar"):
        columns, count = (5, 64) if modality == "mmwave" else (3, 256)
        content = path.read_bytes()
        points = [
            struct.unpack_from(f"<{columns}d", content, at)
            for at in range(0, len(content), 8 * columns)
        ]
        return np.array([points[math.floor(k * len(points) / count)] for k in range(count)]).T
    if modality == "depth":
        with Image.open(path) as picture:
            pixels = np.array(picture, dtype=np.float64)
        image = np.zeros((1, 48, 64))
        for row in range(48):
            for column in range(64):
                cell = pixels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                image[0, row, column] = cell[cell > 0].mean() / 1000 if (cell > 0).any() else 0
        return image
    body = np.load(path)
    x, y = body[:, 0] - sum(body[:, 0]) / 17, body[:, 1] - sum(body[:, 1]) / 17
    size = math.sqrt(sum(x**2 + y**2) / 17)
    return np.array([x / size, y / size])


def joined(frames: list[Array], modality: str) -> Array:
    if modality == "csi":
        return np.concatenate(frames, axis=-1)
    if modality == "depth":
        return np.concatenate(frames, axis=0)
    return np.stack(frames, axis=-1 if modality in ("rgb", "infra") else 0)


@pytest.mark.parametrize("modality", MODALITIES)
def test_values_are_those_of_the_files_scaled_by_training_frames(
    modality: str, tmp_path: Path
) -> None:
    subjects = (1, 2, 3, 4, 5, 6, 7, 8)
    folder = write_mmfi(
        tmp_path, subjects=subjects, activities=(2,), frames=4, modalities=[modality]
    )
    data = load(folder, modality, window=2, stride=1)
    assert len(data) == 3 * len(subjects)
    raw = {
        (subject, frame): slow_frame(folder / frame_path(modality, subject, 2, frame), modality)
        for subject in subjects
        for frame in range(1, 5)
    }
    training = {
        s for (s, _, _) in map(recording_and_frame, data.event_ids[data.split == 0].tolist())
    }
    assert 0 < len(training) < len(subjects)
    fit = np.array([values for (subject, _), values in raw.items() if subject in training])
    axes = tuple(axis for axis in range(fit.ndim) if axis != 1)
    mean, deviation = fit.mean(axis=axes, keepdims=True)[0], fit.std(axis=axes, keepdims=True)[0]
    for event, x in zip(data.event_ids.tolist(), data.x, strict=True):
        subject, _, last = recording_and_frame(event)
        frames = [(raw[subject, frame] - mean) / deviation for frame in (last - 1, last)]
        np.testing.assert_allclose(x, joined(frames, modality), atol=2e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_modality_alone_gives_what_it_gives_beside_the_others(
    modality: str, everything: Path, tmp_path: Path
) -> None:
    alone = load(
        write_mmfi(tmp_path, subjects=SUBJECTS, frames=FRAMES, modalities=[modality]), modality
    )
    beside = load(everything, modality)
    np.testing.assert_array_equal(alone.x, beside.x)
    np.testing.assert_array_equal(alone.event_ids, beside.event_ids)
    np.testing.assert_array_equal(alone.split, beside.split)
    np.testing.assert_array_equal(alone.labels["activity"], beside.labels["activity"])
    assert mmfi.present(tmp_path) == [modality]


def test_all_modalities_have_the_same_events_splits_and_labels(everything: Path) -> None:
    assert mmfi.present(everything) == list(MODALITIES)
    first, *others = [load(everything, modality) for modality in MODALITIES]
    for other in others:
        assert splits_of(other) == splits_of(first)
        np.testing.assert_array_equal(other.labels["activity"], first.labels["activity"])
    for event, label in zip(
        first.event_ids.tolist(), first.labels["activity"].tolist(), strict=True
    ):
        assert first.classes["activity"][label] == f"A{recording_and_frame(event)[1]:02d}"


@pytest.mark.parametrize(
    ("modality", "window"),
    [
        *((name, window) for name in ("csi", "mmwave", "lidar", "depth") for window in (1, 3)),
        ("rgb", 9),
        ("infra", 9),
    ],
)
def test_shapes_are_as_documented_and_the_encoder_takes_them(
    modality: str, window: int, everything: Path
) -> None:
    data = load(everything, modality, window=window, stride=3)
    (documented,) = [item.shape for item in mmfi.INFO.modalities if item.name == modality]
    shape = documented.replace("10 window", str(10 * window)).replace("window", str(window))
    wanted = tuple(int(size) for size in shape.strip("()").split(","))
    if window == 1 and modality in ("mmwave", "lidar"):
        wanted = wanted[1:]
    assert data.input_shape == wanted
    assert data.x.dtype == np.float32
    assert data.encoder is not None
    build_encoder("c", ClientSettings(dim=16), data.input_shape, data.encoder)


def test_folders_of_two_infrared_cameras_are_told_apart(tmp_path: Path) -> None:
    first = write_mmfi(tmp_path / "a", modalities=["infra"], frames=4)
    both = write_mmfi(tmp_path / "b", modalities=["infra"], frames=4)
    second = write_mmfi(tmp_path / "c", modalities=["infra"], frames=4, seed=1)
    for folder in sorted(both.glob("E??/S??/A??/infra")):
        folder.rename(folder.with_name("infra1"))
        shutil.copytree(second / folder.relative_to(both), folder.with_name("infra2"))
    assert mmfi.present(both) == ["infra", "infra2"]
    options = {"window": 2}
    np.testing.assert_array_equal(
        load(both, "infra", **options).x, load(first, "infra", **options).x
    )
    np.testing.assert_array_equal(
        load(both, "infra2", **options).x, load(second, "infra", **options).x
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_subject_is_in_one_split_on_every_machine(
    seed: int, everything: Path, tmp_path: Path
) -> None:
    here = load(everything, "rgb", seed)
    split_of: dict[int, set[int]] = {}
    for event, split in splits_of(here).items():
        split_of.setdefault(recording_and_frame(event)[0], set()).add(split)
    assert set(split_of) == set(SUBJECTS)
    assert all(len(splits) == 1 for splits in split_of.values())
    few = write_mmfi(tmp_path, subjects=SUBJECTS[1::3], frames=FRAMES, modalities=["rgb"])
    there = splits_of(load(few, "rgb", seed))
    assert there
    assert there.items() <= splits_of(here).items()


def test_of_all_forty_subjects_as_many_are_for_testing_as_asked_for(tmp_path: Path) -> None:
    folder = write_mmfi(
        tmp_path, subjects=range(1, 41), activities=(1,), frames=1, modalities=["rgb"]
    )
    data = load(folder, "rgb", window=1, stride=1, test=0.25, validation=0.1)
    assert np.bincount(data.split).tolist() == [26, 4, 10]
    assert "40 recordings of 40 subjects" in data.notes


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (1, 4), (3, 1), (4, 4), (9, 9), (2, 5)])
def test_windows_start_at_every_stride_th_frame(window: int, stride: int, everything: Path) -> None:
    data = load(everything, "rgb", window=window, stride=stride)
    wanted = [start + window for start in range(0, FRAMES, stride) if start + window <= FRAMES]
    found: dict[tuple[int, int], list[int]] = {}
    for event in np.sort(data.event_ids).tolist():
        subject, activity, last = recording_and_frame(event)
        found.setdefault((subject, activity), []).append(last)
    assert found == {(subject, activity): wanted for subject in SUBJECTS for activity in (1, 2)}


def test_a_missing_frame_breaks_only_the_windows_with_it(one: Path) -> None:
    (one / frame_path("rgb", frame=2)).unlink()
    options = {"window": 2, "stride": 1}
    whole, broken = load(one, "infra", **options), load(one, "rgb", **options)
    assert [event % 10_000 for event in whole.event_ids.tolist()] == [2, 3, 4]
    assert [event % 10_000 for event in broken.event_ids.tolist()] == [4]
    assert splits_of(broken).items() <= splits_of(whole).items()
    with pytest.raises(
        DataError, match=r"no 3 usable frames follow each other.*choose a smaller window"
    ):
        load(one, "rgb", window=3, stride=1)


def test_windows_never_go_on_in_the_next_recording(tmp_path: Path) -> None:
    folder = write_mmfi(tmp_path, frames=3, modalities=["rgb"])
    with pytest.raises(DataError, match="no 4 usable frames"):
        load(folder, "rgb", window=4, stride=1)


def test_missing_amplitudes_are_interpolated_and_counted(one: Path) -> None:
    path = one / frame_path("csi", frame=2)
    amplitude = loadmat(path)["CSIamp"]
    amplitude[0, 10:14, 3] = np.nan
    amplitude[1, 0, :] = -np.inf
    amplitude[2, 113, 9] = np.inf
    savemat(path, {"CSIamp": amplitude})
    mended = amplitude.copy()
    for step in range(4):
        mended[0, 10 + step, 3] = (
            amplitude[0, 9, 3] + (amplitude[0, 14, 3] - amplitude[0, 9, 3]) * (step + 1) / 5
        )
    mended[1, 0] = amplitude[1, 1]
    mended[2, 113, 9] = amplitude[2, 112, 9]
    data = load(one, "csi", window=1, stride=1)
    assert "NaN and infinite amplitudes interpolated in 1 of 4 frames" in data.notes
    savemat(path, {"CSIamp": mended})
    whole = load(one, "csi", window=1, stride=1)
    assert not any("interpolated" in note for note in whole.notes)
    np.testing.assert_allclose(data.x, whole.x, atol=1e-5)


@pytest.mark.parametrize("policy", ["stop", "drop"])
def test_frames_with_too_few_amplitudes_are_left_out_under_either_policy(
    policy: str, one: Path
) -> None:
    path = one / frame_path("csi", frame=3)
    amplitude = loadmat(path)["CSIamp"]
    amplitude[:, :24] = np.nan
    savemat(path, {"CSIamp": amplitude})
    data = load(one, "csi", window=1, stride=1, bad=policy)
    assert [event % 10_000 for event in data.event_ids.tolist()] == [1, 2, 4]
    (note,) = [note for note in data.notes if "left out" in note]
    assert note.startswith("1 of 4 frames left out, a known fault of this data (first: ")
    assert "frame003.mat has NaN or infinity in 21% of its amplitudes" in note
    amplitude[:, 22:24] = 20.0
    savemat(path, {"CSIamp": amplitude})
    assert len(load(one, "csi", window=1, stride=1, bad=policy)) == 4


def mat(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    savemat(stream, arrays)
    return stream.getvalue()


def npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def png(array: Array) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png")
    return stream.getvalue()


GOOD_MAT = mat(CSIamp=np.ones((3, 114, 10)))
BODY = np.random.default_rng(0).normal(size=(17, 2))
BAD_FILES: list[tuple[str, bytes, str]] = [
    ("csi", GOOD_MAT[:5000], "is no readable .mat file"),
    ("csi", b"", "is no readable .mat file"),
    ("csi", b"1 2 3\n" * 100, "is no readable .mat file"),
    ("csi", mat(CSIphase=np.ones((3, 114, 10))), "lacks the array 'CSIamp'"),
    (
        "csi",
        mat(CSIamp=np.ones((3, 30, 10))),
        "CSIamp has shape (3, 30, 10); it must be (3, 114, 10)",
    ),
    ("csi", mat(CSIamp=np.ones((3, 1140))), "CSIamp has shape (3, 1140); it must have 3 axes"),
    ("csi", mat(CSIamp="text"), "CSIamp has dtype <U4; it must be numbers"),
    ("csi", mat(CSIamp=np.full((3, 114, 10), 1j)), "CSIamp has dtype complex128"),
    ("mmwave", b"1.0 2.0 3.0 4.0 5.0\n", "has 20 bytes; it must be float64, 5 numbers"),
    ("mmwave", b"1.0 2.0 3.0 4.0 5.0\n" * 10, "it must be little-endian float64"),
    ("mmwave", b"x,y,z,d,i\n" * 40, "it must be little-endian float64"),
    ("mmwave", np.arange(1.0, 51.0, dtype=">f8").tobytes(), "it must be little-endian float64"),
    ("mmwave", np.full(50, np.nan).tobytes(), "holds NaN"),
    ("lidar", np.ones(31).tobytes(), "has 248 bytes; it must be float64, 3 numbers"),
    ("lidar", b"1.5 2.5\n" * 30, "it must be little-endian float64"),
    (
        "depth",
        png(np.full((96, 128), 200, dtype=np.uint8)),
        "is a picture of mode L; depth must be one channel of 16",
    ),
    ("depth", png(np.zeros((96, 128, 3), dtype=np.uint8)), "is a picture of mode RGB"),
    (
        "depth",
        png(np.full((96, 128), 2000, dtype=np.uint16))[:60],
        "is no picture that can be read",
    ),
    ("depth", b"text", "is no picture that can be read"),
    ("rgb", npy(BODY[:16]), "it has shape (16, 2); it must be (17, 2)"),
    ("rgb", npy(BODY[:, :1]), "it has shape (17, 1); it must be (17, 2)"),
    ("rgb", npy(BODY.reshape(1, 17, 2)), "it has shape (1, 17, 2); it must have 2 axes"),
    ("rgb", npy(np.full((17, 2), np.inf)), "holds NaN"),
    ("rgb", npy(np.full((17, 2), 1e200)), "beyond float32"),
    ("infra", npy(BODY.astype(str)), "it has dtype <U"),
    ("infra", npy(BODY)[:150], "is no readable .npy file"),
    ("infra", npy(BODY).replace(b"}", b"{"), "is no readable .npy file"),
    ("infra", b"", "is no readable .npy file"),
]


@pytest.mark.parametrize(("modality", "content", "reason"), BAD_FILES)
def test_a_bad_file_is_named_or_left_out_and_counted(
    modality: str, content: bytes, reason: str, one: Path
) -> None:
    path = one / frame_path(modality, frame=2)
    path.write_bytes(content)
    with pytest.raises(DataError) as stopped:
        load(one, modality, window=1, stride=1)
    message = str(stopped.value)
    assert str(path) in message
    assert reason in message
    assert "data.options.bad: drop" in message
    assert "\n" not in message
    data = load(one, modality, window=1, stride=1, bad="drop")
    assert [event % 10_000 for event in data.event_ids.tolist()] == [1, 3, 4]
    (note,) = [note for note in data.notes if "left out" in note]
    assert note.startswith("1 of 4 frames left out, bad files (first: ")
    assert path.name in note
    assert reason in note


def test_of_many_bad_files_the_first_is_named_and_the_others_are_counted(one: Path) -> None:
    for frame in (2, 3, 4):
        (one / frame_path("rgb", frame=frame)).write_bytes(b"")
    with pytest.raises(DataError, match=r"frame002\.npy is no readable .* \(and 2 more\); mend it"):
        load(one, "rgb", window=1)
    (one / frame_path("rgb", frame=1)).write_bytes(b"")
    with pytest.raises(
        DataError, match=r"frame001\.npy: is no readable .*; not one of 4 frames could be read"
    ):
        load(one, "rgb", window=1, bad="drop")


def test_a_radar_frame_without_points_is_a_frame(one: Path) -> None:
    (one / frame_path("mmwave", frame=2)).write_bytes(b"")
    data = load(one, "mmwave", window=1, stride=1)
    assert len(data) == 4
    assert np.ptp(data.x[1], axis=-1).max() == 0


def add(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / frame_path("rgb"), path)

    return change


@pytest.mark.parametrize(
    ("change", "named", "reason"),
    [
        (
            add("E01/S01/A01/rgb/frame.npy"),
            "rgb/frame.npy",
            "must hold its number (below 10000), such as frame001.npy",
        ),
        (
            add("E05/S41/A01/rgb/frame001.npy"),
            "E05/S41/A01",
            "subjects S01 to S40 and activities A01 to A27",
        ),
        (add("E01/S00/A01/rgb/frame001.npy"), "E01/S00/A01", "subjects S01 to S40"),
        (add("E01/S01/A28/rgb/frame001.npy"), "E01/S01/A28", "activities A01 to A27"),
        (add("E01/S01/A01/rgb/frame1.npy"), "rgb/frame1.npy", "is there twice, also as"),
        (add("E01/S01/A01/rgb/frame20000.npy"), "rgb/frame20000.npy", "must hold its number"),
        (
            add("E01/S01/A01/rgb/frame99999999999999999999.npy"),
            "rgb/frame999",
            "must hold its number",
        ),
    ],
)
def test_files_that_cannot_be_of_mmfi_are_named(
    change: Callable[[Path], object], named: str, reason: str, one: Path
) -> None:
    change(one)
    for policy in ("stop", "drop"):
        with pytest.raises(DataError) as error:
            load(one, "rgb", window=1, bad=policy)
        assert named in str(error.value)
        assert reason in str(error.value)
        assert "\n" not in str(error.value)


def test_the_same_frames_in_two_folders_are_refused(one: Path) -> None:
    place = one / "E01/S01/A01"
    shutil.copytree(place / "infra", place / "infra1")
    with pytest.raises(
        DataError, match=r"infra1/frame001\.npy: is there twice, also as .*infra/frame001\.npy"
    ):
        load(one, "infra")


def test_a_folder_that_is_no_mmfi_is_refused(one: Path, tmp_path: Path) -> None:
    for folder, reason in [
        (tmp_path / "absent", "there is no folder"),
        (one / "E01/S01/A01", "is it the root of MM-Fi?"),
        (one / frame_path("rgb"), "there is no folder"),
    ]:
        with pytest.raises(DataError, match=reason.replace("?", r"\?")) as error:
            load(folder, "rgb")
        assert str(folder) in str(error.value)
    shutil.rmtree(one / "E01/S01/A01/depth")
    with pytest.raises(DataError, match=r"there is no E\?\?/S\?\?/A\?\?/depth/\*\.png"):
        load(one, "depth")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "data.options.window: must be 1 or more, not 0"),
        ({"stride": -1}, "data.options.stride: must be 1 or more, not -1"),
        ({"test": 1.5}, "data.options.test: must be between 0 and 1"),
        ({"validation": -0.1}, "data.options.validation: must be between 0 and 1"),
        ({"test": float("nan")}, "data.options.test: must be between 0 and 1"),
        ({"test": 0.5, "validation": 0.5}, "leave nothing to train on"),
        ({"test": 0.98, "validation": 0.01}, "take all of the 40 groups"),
        ({"bad": "ignore"}, "data.options.bad: must be stop or drop, not 'ignore'"),
    ],
)
def test_options_out_of_range_are_refused_before_any_file_is_read(
    options: dict[str, Any], message: str, one: Path
) -> None:
    for frame in range(1, 5):
        (one / frame_path("rgb", frame=frame)).write_bytes(b"")
    with pytest.raises(ConfigError) as error:
        load(one, "rgb", **options)
    assert message in str(error.value)


def test_without_test_and_validation_all_is_for_training(one: Path) -> None:
    data = load(one, "rgb", window=1, test=0.0, validation=0.0)
    assert set(data.split.tolist()) == {0}


@pytest.mark.parametrize("modality", MODALITIES)
def test_events_tell_activities_apart(modality: str, everything: Path) -> None:
    """The files carry class information.

    The nearest mean of training events names most other events' activity.
    """
    data = load(everything, modality, window=3, stride=1)
    x, label = data.x.reshape(len(data), -1), data.labels["activity"]
    fit = data.split == 0
    means = np.stack([x[fit & (label == k)].mean(axis=0) for k in (0, 1)])
    nearest = np.argmin(((x[:, None] - means) ** 2).sum(axis=2), axis=1)
    assert (nearest == label)[~fit].mean() > 0.8


def test_prepared_frames_are_read_again_only_where_a_file_changed(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = {"window": 1, "stride": 1}
    first = load(one, "rgb", cache=True, **options)
    assert list((tmp_path / "cache" / "sheafalign-fl").iterdir())
    shutil.copy(one / frame_path("rgb", frame=1), one / frame_path("rgb", frame=2))
    again = load(one, "rgb", cache=True, **options)
    np.testing.assert_array_equal(again.x, load(one, "rgb", **options).x)
    np.testing.assert_array_equal(again.x[0], again.x[1])
    assert not np.array_equal(first.x[0], first.x[1])


def test_without_a_path_the_message_asks_for_one() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.options\.path: the source 'mmfi' needs the path of the folder"
    ):
        load_modality("mmfi", "rgb", 0, {}, "client 'c'")


@pytest.mark.parametrize("start", ["E01", "above", "far above", "A/S", "S/A"])
def test_copies_that_begin_elsewhere_are_the_same_recordings(start: str, tmp_path: Path) -> None:
    folder = write_mmfi(tmp_path / "in/here/mmfi", subjects=(1,), frames=10, modalities=("rgb",))
    wanted = load(folder, "rgb", test=0.0, validation=0.0)
    copy = {"E01": folder / "E01", "above": folder.parent, "far above": folder.parents[1]}.get(
        start
    )
    if copy is None:
        copy = tmp_path / "copy"
        for path in sorted(folder.glob("E??/S??/A??")):
            _, subject, activity = path.parts[-3:]
            inner = (activity, subject) if start == "A/S" else (subject, activity)
            shutil.copytree(path, copy.joinpath(*inner))
    found = load(copy, "rgb", test=0.0, validation=0.0)
    order = np.argsort(found.event_ids)
    assert found.event_ids[order].tolist() == wanted.event_ids.tolist()
    np.testing.assert_array_equal(found.x[order], wanted.x)
