"""The loader of DeepSense 6G against the csv module, the files, and the world behind them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from sheafalign_fl.data.scenes import beam
from sheafalign_fl.errors import ConfigError, DataError
from tests.data.conftest import CopyExport
from tests.data.deepsense_files import SIZES, Rows, all_rows, load, tables, world_of, write

PLAIN = ("camera", "camera-colour", "lidar", "lidar-points", "radar", "beam", "gps")
OF_VARIANT = {
    "plain": PLAIN,
    "blockage": PLAIN,
    "challenge": PLAIN,
    "authors": ("camera", "camera-colour", "lidar-scan", "beam", "gps"),
}
FOLDERS = {
    "camera": "unit1/camera_data", "lidar": "unit1/lidar_data",
    "lidar-scan": "unit1/lidar_SCR_data",
    "radar": "unit1/radar_data", "beam": "unit1/mmWave_data", "gps": "unit*/GPS_data",
}  # fmt: skip
SHAPES = {
    "camera": (64, 64), "camera-colour": (64, 112), "lidar": (16, 128), "lidar-points": (4, 256),
    "lidar-scan": (216,), "radar": (64, 64), "beam": (64,), "gps": (),
}  # fmt: skip


def scaled(x: Any, train: Any, axes: tuple[int, ...]) -> Any:
    """Zero mean and unit deviation over `axes` of the rows `train`."""
    mean, deviation = (
        x[train].mean(axis=axes, keepdims=True),
        x[train].std(axis=axes, keepdims=True),
    )
    return (x - mean) / np.where(deviation > 1e-6 * np.abs(mean), deviation, 1)


def of_number(folder: Path, number: int, change: Callable[[Rows], None]) -> None:
    rows = tables(folder)[number]
    change(rows)
    write(folder / f"scenario{number}" / f"scenario{number}.csv", rows)


def sweep_of(row: dict[str, str]) -> list[float]:
    return [
        float(line) for line in (Path(row["/"]) / row["unit1_pwr_60ghz"]).read_text().splitlines()
    ]


def with_nan(row: dict[str, str]) -> None:
    path = Path(row["/"]) / row["unit1_pwr_60ghz"]
    path.write_text("\n".join(["NaN", *path.read_text().splitlines()[1:]]))


# ---- events, splits, labels ----------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["plain", "blockage", "authors"])
def test_events_are_the_rows_and_their_ids_name_table_and_index(
    exports: Path, variant: str
) -> None:
    expected = [
        number * 10_000_000 + int(row["index"]) for number, row in all_rows(exports / variant)
    ]
    for modality in OF_VARIANT[variant]:
        data = load(exports / variant, modality)
        if modality != "beam":  # sweeps with NaN are left out
            assert data.event_ids.tolist() == expected
        assert set(data.event_ids.tolist()) <= set(expected)
        joined = 2 if modality in ("lidar", "radar") else 3 if modality == "camera-colour" else 1
        first = (
            (2,) if modality == "gps" else () if modality in ("beam", "lidar-points") else (joined,)
        )
        assert data.input_shape == (*first, *SHAPES[modality])


@pytest.mark.parametrize("variant", ["plain", "blockage", "authors"])
def test_sequences_are_in_one_split_and_those_of_two_tables_are_two(
    exports: Path, variant: str
) -> None:
    data = load(exports / variant, "gps", test=0.3, validation=0.2)
    splits: dict[tuple[int, str], set[int]] = {}
    for (number, row), split in zip(all_rows(exports / variant), data.split.tolist(), strict=True):
        splits.setdefault((number, row["seq_index"]), set()).add(split)
    assert len(splits) == -(-SIZES[variant][0] // SIZES[variant][1])
    assert all(len(found) == 1 for found in splits.values())
    taken = [found.pop() for found in splits.values()]
    assert [taken.count(split) for split in (2, 1)] == [
        round(len(splits) * share) for share in (0.3, 0.2)
    ]


@pytest.mark.parametrize("variant", ["plain", "blockage", "authors"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_labels_are_what_was_the_case_in_the_world(
    exports: Path, variant: str, horizon: int
) -> None:
    world, (events, frames) = world_of(variant), SIZES[variant]
    data = load(exports / variant, "camera", horizon=horizon)
    best = beam.power(world).argmax(axis=1)
    expected = [
        -1 if np.isnan(sweep_of(row)).any() else int(best[event])
        for event, (_, row) in enumerate(all_rows(exports / variant))
    ]
    assert data.labels["beam"].tolist() == expected
    assert data.labels["beam_sector"].tolist() == [
        code if code < 0 else code // 8 for code in expected
    ]
    if variant == "plain":
        assert "blockage" not in data.labels
        return
    assert data.labels["blockage"].tolist() == world.blocked.astype(int).tolist()
    ahead = []
    for event in range(events):
        end = (event // frames + 1) * frames
        values = [
            int(world.blocked[k]) if k < end else -1 for k in range(event + 1, event + 1 + horizon)
        ]
        ahead.append(1 if 1 in values else -1 if -1 in values else 0)
    assert data.labels["blockage_ahead"].tolist() == ahead


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (4, 2), (2, 5)])
def test_windows_are_rows_of_one_sequence_that_follow_each_other(
    exports: Path, window: int, stride: int
) -> None:
    rows = all_rows(exports / "plain")
    expected = []
    for last in range(window - 1, len(rows)):
        taken = rows[last - window + 1 : last + 1]
        if (
            len({(number, row["seq_index"]) for number, row in taken}) == 1
            and int(taken[0][1]["index"]) % stride == 0
        ):
            expected.append((taken[-1][0] * 10_000_000 + int(taken[-1][1]["index"]), last))
    single = load(exports / "plain", "gps", test=0.0, validation=0.0)
    data = load(exports / "plain", "gps", window=window, stride=stride, test=0.0, validation=0.0)
    assert data.event_ids.tolist() == [event for event, _ in expected]
    assert data.input_shape == (2 * window,)
    # Scaled by other frames: equal but for one factor and shift.
    for column in range(2 * window):
        rows_of = [last - window + 1 + column // 2 for _, last in expected]
        assert np.corrcoef(data.x[:, column], single.x[rows_of, column % 2])[0, 1] > 0.99999


@pytest.mark.parametrize("variant", OF_VARIANT)
def test_a_machine_with_one_modality_agrees_with_one_that_has_all(
    exports: Path, variant: str, tmp_path: Path
) -> None:
    for modality in OF_VARIANT[variant]:
        if modality in ("camera-colour", "lidar-points"):
            continue
        own = tmp_path / modality
        for source in (exports / variant).glob("scenario*"):
            (own / source.name).mkdir(parents=True)
            shutil.copy(source / f"{source.name}.csv", own / source.name)
            for folder in source.glob(FOLDERS[modality]):
                shutil.copytree(folder, own / source.name / folder.relative_to(source))
        alone, whole = load(own, modality, seed=3), load(exports / variant, modality, seed=3)
        for name in ("event_ids", "split", "x"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(whole, name))
        assert list(alone.labels) == list(whole.labels)
        for name in ("blockage", "blockage_ahead"):
            if name in whole.labels:
                np.testing.assert_array_equal(alone.labels[name], whole.labels[name])


def test_tables_can_be_chosen(exports: Path) -> None:
    data = load(exports / "plain", "gps", scenarios="scenario33, scenario31")
    assert set((data.event_ids // 10_000_000).tolist()) == {31, 33}
    with pytest.raises(ConfigError, match="there is no table 'scenario35'; known: scenario31"):
        load(exports / "plain", "gps", scenarios="scenario35")


# ---- values --------------------------------------------------------------------------------------


def test_beams_are_decibels_of_the_lines_scaled_by_training(exports: Path) -> None:
    sweeps = np.array([sweep_of(row) for _, row in all_rows(exports / "plain")])
    sweeps = sweeps[~np.isnan(sweeps).any(axis=1)]
    data = load(exports / "plain", "beam")
    np.testing.assert_allclose(
        data.x, scaled(10 * np.log10(sweeps), data.split == 0, (0,)), atol=1e-4
    )


def test_pictures_are_those_of_the_files(exports: Path) -> None:
    pictures = []
    for _, row in all_rows(exports / "plain"):
        with Image.open(Path(row["/"]) / row["unit1_rgb"]) as image:
            pictures.append(np.asarray(image.resize((64, 64)).convert("L")) / 255)
    data = load(exports / "plain", "camera")
    expected = scaled(np.array(pictures)[:, None], data.split == 0, (0, 2, 3))
    assert np.abs(data.x - expected).mean() < 0.1
    assert np.corrcoef(data.x.ravel(), expected.ravel())[0, 1] > 0.98


def test_range_images_hold_the_nearest_point_of_each_direction(exports: Path) -> None:
    data = load(exports / "plain", "lidar")
    images = np.zeros((len(data), 2, 16, 128))
    for image, (_, row) in zip(images, all_rows(exports / "plain"), strict=True):
        body = (Path(row["/"]) / row["unit1_lidar"]).read_text().split("end_header\n")[1]
        for line in body.splitlines():
            x, y, z, shine = map(float, line.split())
            distance = (x * x + y * y + z * z) ** 0.5
            ring = min(15, max(0, int((22.5 - np.degrees(np.arcsin(z / distance))) // (45 / 16))))
            cell = (ring, int((np.arctan2(y, x) + np.pi) / (2 * np.pi) * 128) % 128)
            if image[0][cell] == 0 or distance < image[0][cell]:
                image[0][cell], image[1][cell] = distance, shine / 65535
    assert (images[:, 0] > 0).any(axis=(1, 2)).all()
    np.testing.assert_allclose(data.x, scaled(images, data.split == 0, (0, 2, 3)), atol=1e-3)


def test_level_scans_hold_the_nearest_range_of_each_angle(exports: Path) -> None:
    """The simulated scanner sees 65 degrees to both sides; the ends are found in the files."""
    data = load(exports / "authors", "lidar-scan")
    scans = np.zeros((len(data), 1, 216))
    end = round(np.radians(65.0), 4)
    for scan, (_, row) in zip(scans, all_rows(exports / "authors"), strict=True):
        for distance, angle in loadmat(Path(row["/"]) / row["unit1_lidar_SCR"])["data"]:
            cell = round((angle + end) / (2 * end) * 215)
            scan[0, cell] = min(distance, scan[0, cell] or np.inf)
    np.testing.assert_allclose(data.x, scaled(scans, data.split == 0, (0, 2)), atol=1e-3)


def test_radar_maps_are_brightest_where_the_cubes_spectrum_is(exports: Path) -> None:
    data = load(exports / "plain", "radar")
    near = 0
    for event, (_, row) in enumerate(all_rows(exports / "plain")):
        cube = np.load(Path(row["/"]) / row["unit1_radar"]) * np.outer(
            np.hanning(66)[1:-1], np.hanning(34)[1:-1]
        )
        power = (np.abs(np.fft.fftshift(np.fft.fft2(cube, axes=(1, 2)), axes=2)) ** 2).sum(axis=0)
        distance, doppler = np.unravel_index(power.argmax(), power.shape)
        there, bin_ = np.unravel_index(data.x[event, 1].argmax(), (64, 64))
        # 32 chirps give 64 bins, so each stands twice.
        near += abs(int(there) - int(distance)) <= 1 and abs(int(bin_) // 2 - int(doppler)) <= 1
    assert near > 0.9 * len(data)


# ---- the challenge -------------------------------------------------------------------------------


def test_rows_of_the_challenge_are_events_and_their_windows_its_last_frames(exports: Path) -> None:
    rows = all_rows(exports / "challenge")
    data = load(exports / "challenge", "camera", window=3)
    assert data.event_ids.tolist() == [310_000_000 + number for number in range(1, len(rows) + 1)]
    assert data.input_shape == (3, 64, 64)
    # Rows overlap: the last two frames of one are the middle ones of the next in the same sequence.
    for one in range(len(rows) - 1):
        if rows[one][1]["unit1_rgb_5"] == rows[one + 1][1]["unit1_rgb_4"]:
            np.testing.assert_array_equal(data.x[one, 1:], data.x[one + 1, :2])
    assert load(exports / "challenge", "gps", window=5).input_shape == (4,)
    assert load(exports / "challenge", "beam", window=5).input_shape == (64,)


def test_rows_of_the_challenge_that_share_files_are_in_one_split(exports: Path) -> None:
    rows = all_rows(exports / "challenge")
    world = world_of("challenge")
    for modality in ("camera", "gps", "beam"):
        data = load(exports / "challenge", modality, test=0.4, validation=0.2)
        frame = [int(rows[event % 10_000_000 - 1][1]["unit1_rgb_5"][:-4].rsplit("_", 1)[1]) - 1
                 for event in data.event_ids.tolist()]  # fmt: skip
        sequence = world.sequence[frame]
        taken = [set(data.split[sequence == number].tolist()) for number in range(5)]
        assert all(len(found) == 1 for found in taken)
        assert sorted(found.pop() for found in taken) == [0, 0, 1, 2, 2]
        best = beam.power(world).argmax(axis=1)[frame]
        known = data.labels["beam"] >= 0
        np.testing.assert_array_equal(data.labels["beam"][known], best[known])


@pytest.mark.parametrize("window", [-1, 0, 6])
def test_a_row_of_the_challenge_has_one_to_five_frames(exports: Path, window: int) -> None:
    with pytest.raises(ConfigError, match=r"data\.options\.window"):
        load(exports / "challenge", "camera", window=window)


def test_rows_of_the_challenge_are_not_cut_with_a_stride(exports: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.options\.stride"):
        load(exports / "challenge", "camera", stride=2)


def test_challenge_tables_with_fewer_frames_in_a_row_are_not_mixed_with_others(
    copied: CopyExport,
) -> None:
    folder = copied("challenge")
    lines = [
        line.split(",")
        for line in (folder / "scenario31" / "scenario31.csv").read_text().splitlines()
    ]
    kept = [place for place, name in enumerate(lines[0]) if name != "unit1_rgb_1"]
    shutil.copytree(folder / "scenario31", folder / "scenario32")
    (folder / "scenario32" / "scenario31.csv").unlink()
    fewer = "\n".join(",".join(line[place] for place in kept) for line in lines)
    (folder / "scenario32" / "scenario32.csv").write_text(fewer + "\n")
    with pytest.raises(DataError, match="4 frames of camera in some tables and 5 in others"):
        load(folder, "camera", window=5)
    assert load(folder, "camera", window=4).input_shape == (4, 64, 64)


# ---- known faults, empty cells -------------------------------------------------------------------


def test_sweeps_with_nan_are_left_out_and_their_labels_unknown_for_all(copied: CopyExport) -> None:
    folder = copied("blockage")
    rows = tables(folder)[30]
    for row in (rows[4], rows[20]):
        with_nan(row)
    broken = [np.isnan(sweep_of(row)).any() for row in rows]
    ids = [300_000_000 + int(row["index"]) for row in rows]
    sweeps, pictures = load(folder, "beam"), load(folder, "camera")
    assert sweeps.event_ids.tolist() == [
        event for event, bad in zip(ids, broken, strict=True) if not bad
    ]
    assert (sweeps.labels["beam"] >= 0).all()
    assert [code < 0 for code in pictures.labels["beam"].tolist()] == broken
    assert [code < 0 for code in pictures.labels["beam_sector"].tolist()] == broken
    assert any(
        f"{sum(broken)} of 48 frames left out, a known fault" in note for note in sweeps.notes
    )
    assert any(
        f"beam labels of {sum(broken)} of 48 rows not used" in note for note in pictures.notes
    )


@pytest.mark.parametrize(
    ("variant", "column"), [("blockage", "unit1_rgb"), ("challenge", "unit1_rgb_5")]
)
def test_rows_that_name_no_file_are_left_out_and_counted(
    copied: CopyExport, variant: str, column: str
) -> None:
    folder = copied(variant)
    number = next(iter(tables(folder)))
    count = len(tables(folder)[number])

    def change(rows: Rows) -> None:
        rows[1][column], rows[3][column] = "", "NaN"

    of_number(folder, number, change)
    data = load(folder, "camera")
    assert len(data) == count - 2
    assert not {number * 10_000_000 + 2, number * 10_000_000 + 4} & set(data.event_ids.tolist())
    assert any(f"2 of {count} rows name no file of camera" in note for note in data.notes)
    assert len(load(folder, "gps")) == count


def test_unknown_blockage_is_unknown_ahead_unless_another_frame_decides(copied: CopyExport) -> None:
    folder = copied("blockage")

    def change(rows: Rows) -> None:
        for row, value in zip(
            rows, ["0", "", "1", "0", "", "0", "0", "0", "0", "1", "0", "0"], strict=False
        ):
            row["unit1_blockage"] = value

    of_number(folder, 30, change)
    ahead = load(folder, "gps", horizon=2).labels["blockage_ahead"][:12].tolist()
    assert ahead == [1, 1, -1, -1, 0, 0, 0, 1, 1, 0, -1, -1]


# ---- bad input -----------------------------------------------------------------------------------


def _file(column: str, content: bytes | None) -> Callable[[dict[str, str]], None]:
    def change(row: dict[str, str]) -> None:
        path = Path(row["/"]) / row[column]
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    return change


def _half(column: str) -> Callable[[dict[str, str]], None]:
    def change(row: dict[str, str]) -> None:
        path = Path(row["/"]) / row[column]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


def _real_cube(row: dict[str, str]) -> None:
    np.save(Path(row["/"]) / row["unit1_radar"], np.zeros((4, 64, 32), dtype=np.float32))


def _flat_cube(row: dict[str, str]) -> None:
    np.save(Path(row["/"]) / row["unit1_radar"], np.zeros((4, 64), dtype=np.complex64))


BAD_FILES = {
    "a missing picture": ("camera", "unit1_rgb", _file("unit1_rgb", None), "does not exist"),
    "half a picture": ("camera", "unit1_rgb", _half("unit1_rgb"), "is no picture that can be read"),
    "half a cloud": ("lidar", "unit1_lidar", _half("unit1_lidar"), "its header says"),
    "words for powers": (
        "beam",
        "unit1_pwr_60ghz",
        _file("unit1_pwr_60ghz", b"strong\n" * 64),
        "else than numbers",
    ),
    "too few powers": (
        "beam",
        "unit1_pwr_60ghz",
        _file("unit1_pwr_60ghz", b"1.0\n" * 63),
        "has 63 powers",
    ),
    "a real cube": ("radar", "unit1_radar", _real_cube, "must be complex numbers"),
    "a flat cube": ("radar", "unit1_radar", _flat_cube, "has shape (4, 64)"),
    "no cube": ("radar", "unit1_radar", _file("unit1_radar", b""), "is no readable .npy file"),
    "one coordinate": ("gps", "unit2_loc", _file("unit2_loc", b"33.4\n"), "latitude and longitude"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_its_row_or_left_out_and_counted(
    case: str, copied: CopyExport
) -> None:
    modality, column, change, message = BAD_FILES[case]
    folder = copied("blockage")
    row = tables(folder)[30][7]
    change(row)
    with pytest.raises(DataError) as caught:
        load(folder, modality)
    text = str(caught.value)
    assert f"scenario30.csv row 9: {modality}: " in text
    assert Path(row[column]).name in text
    assert message in text
    assert "\n" not in text
    data = load(folder, modality, bad="drop")
    assert 300_000_008 not in data.event_ids
    assert any("1 of " in note and "bad files" in note and message in note for note in data.notes)


def test_the_file_that_is_bad_is_named_where_a_frame_has_two(copied: CopyExport) -> None:
    folder = copied("blockage")
    _file("unit1_loc", b"here\n")(tables(folder)[30][0])
    with pytest.raises(
        DataError, match=r"gps_location\.txt: holds something else than numbers"
    ) as caught:
        load(folder, "gps")
    assert "unit1/GPS_data" in str(caught.value)


def _cell(column: str, value: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        of_number(path.parents[1], 30, lambda rows: rows[5].update({column: value}))

    return change


def _ragged(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "", lines[3], "", lines[4] + ",1", *lines[5:]]))


def _twins(path: Path) -> None:
    shutil.copytree(path.parent, path.parents[1] / "other")
    other = path.parents[1] / "other"
    (other / path.name).rename(other / "scenario_30.csv")


BAD_TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "beam 0": (_cell("unit1_beam", "0"), "scenario30.csv row 7: unit1_beam is '0'"),
    "beam 65": (_cell("unit1_beam", "65"), "scenario30.csv row 7: unit1_beam is 65"),
    "half a beam": (_cell("unit1_beam", "3.5"), "scenario30.csv row 7: unit1_beam is '3.5'"),
    "a word": (
        _cell("seq_index", "two"),
        "scenario30.csv row 7: seq_index is 'two', not a whole number",
    ),
    "infinity": (
        _cell("seq_index", "inf"),
        "scenario30.csv row 7: seq_index is 'inf', not a whole number",
    ),
    "no sequence": (_cell("seq_index", ""), "scenario30.csv row 7: has no index or no seq_index"),
    "blockage 2": (
        _cell("unit1_blockage", "2"),
        "scenario30.csv row 7: unit1_blockage must be 0, 1 or empty",
    ),
    "index twice": (_cell("index", "5"), "scenario30.csv row 6: index 5 is there more than once"),
    "a large index": (
        _cell("index", "10000000"),
        "scenario30.csv row 7: index 10000000 is too large",
    ),
    "a long line": (_ragged, "scenario30.csv row 7: has 22 cells, but the header names 21"),
    "no rows": (lambda path: path.write_text(path.read_text().splitlines()[0]), "csv: has no rows"),
    "no table": (lambda path: path.unlink(), "holds no table of DeepSense 6G"),
    "another table": (lambda path: path.write_text("a,b\n1,2\n"), "holds no table of DeepSense 6G"),
    "two of one number": (_twins, "tables must have numbers in their names that differ"),
    "two of one column": (
        lambda path: path.write_text(path.read_text().replace("unit1_lidar,", "unit1_rgb,")),
        "the column 'unit1_rgb' is there twice",
    ),
    "no column": (
        lambda path: path.write_text(path.read_text().replace("unit1_rgb,", "unit1_rgbd,")),
        "has no column for camera, such as 'unit1_rgb'",
    ),
    "no text": (lambda path: path.write_bytes(b"\xff\xfeu"), "holds no table of DeepSense 6G"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_refused_with_file_and_row(case: str, copied: CopyExport) -> None:
    change, message = BAD_TABLES[case]
    folder = copied("blockage")
    change(folder / "scenario30" / "scenario30.csv")
    with pytest.raises(DataError) as caught:
        load(folder, "camera")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"window": 13}, DataError, "no 13 usable frames follow each other"),
        ({"window": 0}, ConfigError, "data.options.window"),
        ({"stride": 0}, ConfigError, "data.options.stride"),
        ({"horizon": 0}, ConfigError, "data.options.horizon"),
        ({"bad": "ignore"}, ConfigError, "data.options.bad: must be stop or drop"),
        ({"test": 0.6, "validation": 0.5}, ConfigError, "leave nothing to train on"),
    ],
)
def test_impossible_options_are_refused(
    exports: Path, options: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        load(exports / "blockage", "gps", **options)


def test_a_file_with_other_content_is_seen_by_a_process_that_goes_on(copied: CopyExport) -> None:
    folder = copied("blockage")
    first = load(folder, "gps")
    path = Path(tables(folder)[30][0]["/"]) / tables(folder)[30][0]["unit2_loc"]
    status = path.stat()
    path.write_text(path.read_text().replace("33.4", "33.5"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert not np.array_equal(load(folder, "gps").x, first.x)


def test_challenge_tables_and_others_are_not_mixed(copied: CopyExport, exports: Path) -> None:
    folder = copied("blockage")
    shutil.copytree(exports / "challenge" / "scenario31", folder / "scenario31")
    with pytest.raises(
        DataError, match=r"a row for each frame and others .*; choose with data\.options\.scenarios"
    ):
        load(folder, "camera")
    assert len(load(folder, "gps", scenarios="scenario30")) == 48
