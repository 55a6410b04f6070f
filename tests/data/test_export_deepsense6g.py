"""Exported files, read by code independent of what wrote them, against the simulator's world."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat
from typer.testing import CliRunner

from sheafalign_fl.cli import app
from sheafalign_fl.data.export import export_deepsense6g, raw
from sheafalign_fl.data.scenes import beam, camera
from sheafalign_fl.data.scenes.lidar import MAX_RANGE
from sheafalign_fl.data.scenes.world import UNIT_HEIGHT, WALL, World, build_world
from sheafalign_fl.errors import ConfigError, DataError, UserError

EVENTS = 130
FILES = ("unit1_rgb", "unit1_pwr_60ghz", "unit1_lidar", "unit1_radar", "unit1_loc", "unit2_loc")
QUALITY = [
    f"unit2_{name}"
    for name in (
        "num_sat",
        "sat_used",
        "fix_type",
        "diff_mode",
        "PDOP",
        "HDOP",
        "VDOP",
        "speed",
        "direction",
    )
]


Frames = list[tuple[Path, dict[str, str]]]


def world_of(events: int, seed: int = 0, **changes: float) -> World:
    settings: dict[str, Any] = {
        "horizon": 5,
        "night": 0.25,
        "fog": 0.2,
        "traffic": 0.75,
        "trees": 0.5,
        **changes,
    }
    return build_world(seed, events=events, frames=20, **settings)


def table(folder: Path, scenario: int) -> list[dict[str, str]]:
    with (folder / f"scenario{scenario}" / f"scenario{scenario}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def points_of(path: Path) -> "tuple[list[str], np.ndarray[Any, Any]]":
    header, body = path.read_text().split("end_header\n")
    return header.splitlines(), np.array(
        [[float(word) for word in line.split()] for line in body.splitlines()]
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "plain"
    export_deepsense6g(folder, events=EVENTS, light=True)
    return folder


@pytest.fixture(scope="module")
def frames(plain: Path) -> Frames:
    """Every row with its scenario's folder, in the order of the world's events."""
    return [(plain / f"scenario{k}", row) for k in (31, 32, 33, 34) for row in table(plain, k)]


def test_sequences_are_spread_over_scenarios_and_their_numbers_repeat(plain: Path) -> None:
    assert sorted(path.name for path in plain.iterdir()) == [
        f"scenario{k}" for k in (31, 32, 33, 34)
    ]
    numbers = [[row["seq_index"] for row in table(plain, k)] for k in (31, 32, 33, 34)]
    assert numbers == [["1"] * 20 + ["2"] * 20] * 3 + [["1"] * 10]
    rows = table(plain, 32)
    assert list(rows[0]) == [
        "index",
        *FILES,
        "unit1_beam",
        "unit1_max_pwr",
        "time_stamp",
        "seq_index",
        *QUALITY,
    ]
    assert [row["index"] for row in rows] == [str(k) for k in range(1, 41)]


def test_every_path_exists_and_every_file_is_in_the_table(plain: Path, frames: Frames) -> None:
    named = {
        str((place / row[column]).relative_to(plain)) for place, row in frames for column in FILES
    }
    assert all(row[column].startswith("./unit") for _, row in frames for column in FILES)
    assert named | {f"scenario{k}/scenario{k}.csv" for k in (31, 32, 33, 34)} == set(tree(plain))


def test_time_goes_on_by_a_tenth_of_a_second(frames: Frames) -> None:
    stamps = [row["time_stamp"] for _, row in frames]
    assert stamps[:2] == ["11-46-31-250000", "11-46-31-350000"]
    assert stamps == sorted(set(stamps))


def test_a_label_is_the_strongest_beam_but_for_broken_sweeps(frames: Frames) -> None:
    sweeps = np.array([np.loadtxt(place / row["unit1_pwr_60ghz"]) for place, row in frames])
    labels = np.array([int(row["unit1_beam"]) for _, row in frames])
    best = beam.power(world_of(EVENTS)).argmax(axis=1) + 1
    broken = np.isnan(sweeps).any(axis=1)
    assert sweeps.shape == (EVENTS, 64)
    assert 1 <= broken.sum() <= 6
    np.testing.assert_array_equal(sweeps[~broken].argmax(axis=1) + 1, labels[~broken])
    wrong = labels != best
    assert wrong.sum() == math.ceil(broken.sum() / 2)
    assert np.isnan(sweeps[wrong, best[wrong] - 1]).all()
    strongest = [float(row["unit1_max_pwr"]) for _, row in frames]
    np.testing.assert_array_equal(np.nanmax(sweeps, axis=1), strongest)


def test_a_large_export_has_faults_in_a_hundredth_of_its_sweeps(tmp_path: Path) -> None:
    export_deepsense6g(tmp_path / "x", events=1000, modalities=["beam"], light=True, seed=3)
    broken = sum("NaN" in path.read_text() for path in (tmp_path / "x").rglob("*.txt"))
    assert 3 <= broken <= 20


def test_positions_are_those_of_the_user_within_the_receivers_error(frames: Frames) -> None:
    world = world_of(EVENTS)
    unit = np.array([np.loadtxt(place / row["unit1_loc"]) for place, row in frames])
    user = np.array([np.loadtxt(place / row["unit2_loc"]) for place, row in frames])
    degree = math.pi / 180 * 6371e3  # on a sphere, 0.1 % from what the export uses
    north = (user - unit)[:, 0] * degree
    east = (user - unit)[:, 1] * degree * math.cos(math.radians(33.4))
    error = np.hypot(east - world.centre[:, 0, 0], north - world.centre[:, 0, 1])
    assert 0.3 < np.median(error) < 5
    assert error.max() < 15
    speeds = np.array([float(row["unit2_speed"]) for _, row in frames])
    assert np.abs(speeds - np.abs(world.velocity[:, 0])).max() < 2


def test_pictures_show_the_scene(frames: Frames) -> None:
    world = world_of(EVENTS)
    shown = camera.render(world, np.random.default_rng(0)) * 0.25 + 0.4
    for event in np.flatnonzero(~world.night)[::20]:
        place, row = frames[event]
        with Image.open(place / row["unit1_rgb"]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (96, 54))
            small = np.asarray(image.resize((48, 24), Image.Resampling.BOX)) / 255
        assert np.corrcoef(small.ravel(), shown[event].transpose(1, 2, 0).ravel())[0, 1] > 0.95
        assert np.abs(small - shown[event].transpose(1, 2, 0)).mean() < 0.05


def test_points_lie_where_a_ray_can_end(frames: Frames) -> None:
    world = world_of(EVENTS)
    for event in range(0, EVENTS, 10):
        place, row = frames[event]
        header, points = points_of(place / row["unit1_lidar"])
        assert header[:2] == ["ply", "format ascii 1.0"]
        assert header[2] == f"element vertex {len(points)}"
        properties = [f"property double {axis}" for axis in "xyz"]
        assert header[3:] == [*properties, "property ushort intensity"]
        assert 150 < len(points) <= 384
        x, y, z, intensity = points.T
        assert np.linalg.norm(points[:, :3], axis=1).max() < MAX_RANGE + 1e-2
        assert y.min() > 0
        assert y.max() < WALL + 0.3
        assert z.min() > -UNIT_HEIGHT - 0.1
        assert intensity.min() >= 0
        assert intensity.max() <= 1000
        if world.fog[event] == 0:
            assert _explained(world, event, x, y, z).all()


def _explained(world: World, event: int, x: Any, y: Any, z: Any) -> Any:
    """Whether points are on the ground, the wall, among trees, or on a vehicle, within 20 cm."""
    near = 0.2
    on = (np.abs(z + UNIT_HEIGHT) < near) | (np.abs(y - WALL) < near) | (np.abs(y - 22.0) < near)
    there = world.exists[event]
    for centre, extent in zip(world.centre[event, there], world.size[event, there], strict=True):
        inside = (np.abs(x - centre[0]) < extent[0] / 2 + near) & (
            np.abs(y - centre[1]) < extent[1] / 2 + near
        )
        on |= inside & (z + UNIT_HEIGHT < extent[2] + near)
    return on


@pytest.mark.parametrize("light", [True, False])
@pytest.mark.parametrize("event", [3, 25, 47])
def test_the_transform_of_a_radar_cube_peaks_at_the_only_vehicle(light: bool, event: int) -> None:
    everything = world_of(60, traffic=0.0)
    world = raw_part(everything, event)
    world = replace(world, reflector=np.full_like(world.reflector, np.nan))
    (content,) = raw.beat_signals(world, np.random.default_rng(1), light=light)
    cube = np.load(io.BytesIO(content))
    samples, chirps = (64, 32) if light else (256, 250)
    assert (cube.shape, cube.dtype) == ((4, samples, chirps), np.complex64)
    spectrum = np.fft.fftshift(np.fft.fft2(cube, axes=(1, 2)), axes=2)
    spectrum = np.abs(np.fft.fftshift(np.fft.fft(spectrum, 64, axis=0), axes=0))
    angle, distance, speed = np.unravel_index(spectrum.argmax(), spectrum.shape)
    x, y = world.centre[0, 0]
    sine = x / math.hypot(x, y)
    metres, speeds = 64.0 / samples, 50.0 / chirps
    assert abs(distance * metres - math.hypot(x, y)) <= metres
    assert abs((speed - chirps // 2) * speeds - world.velocity[0, 0] * sine) <= speeds
    assert abs((angle - 32) / 32 - sine) < 0.1


def raw_part(world: World, event: int) -> World:
    return World(**{name: value[event : event + 1] for name, value in vars(world).items()})


def test_full_size_is_that_of_the_real_sensors(tmp_path: Path) -> None:
    export_deepsense6g(tmp_path / "x", events=2, frames=2)
    (row, _) = table(tmp_path / "x", 31)
    place = tmp_path / "x" / "scenario31"
    with Image.open(place / row["unit1_rgb"]) as image:
        assert image.size == (960, 540)
    assert np.load(place / row["unit1_radar"]).shape == (4, 256, 250)
    assert 14000 < len(points_of(place / row["unit1_lidar"])[1]) < 20000


def test_blockage_has_the_worlds_label(tmp_path: Path) -> None:
    export_deepsense6g(
        tmp_path / "x", events=200, variant="blockage", modalities=["gps"], light=True
    )
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["scenario30"]
    rows = table(tmp_path / "x", 30)
    assert [int(row["unit1_blockage"]) for row in rows] == world_of(200).blocked.astype(
        int
    ).tolist()
    assert [int(row["seq_index"]) for row in rows] == (world_of(200).sequence + 1).tolist()
    assert "unit1_rgb" not in rows[0]
    assert "unit1_pwr_60ghz" not in rows[0]


def test_the_challenges_windows_overlap_and_never_cross_sequences(tmp_path: Path) -> None:
    export_deepsense6g(tmp_path / "x", events=27, frames=10, variant="challenge", light=True)
    rows = table(tmp_path / "x", 31)
    told = [f"{c}_{k}" for c in ("unit1_rgb", "unit1_radar", "unit1_lidar") for k in range(1, 6)]
    assert list(rows[0]) == [
        "index",
        *told,
        "unit2_loc_1",
        "unit2_loc_2",
        "unit1_pwr_60ghz",
        "unit1_beam",
    ]
    numbers = [[_number(row[f"unit1_rgb_{k}"]) for k in range(1, 6)] for row in rows]
    starts = [*range(1, 7), *range(11, 17), *range(21, 24)]
    assert numbers == [list(range(start, start + 5)) for start in starts]
    for row, start in zip(rows, starts, strict=True):
        assert _number(row["unit1_pwr_60ghz"]) == start + 4
        assert [_number(row[f"unit2_loc_{k}"]) for k in (1, 2)] == [start, start + 1]
        assert all(
            (tmp_path / "x" / "scenario31" / row[column]).is_file()
            for column in row
            if "./" in row[column]
        )
        sweep = np.loadtxt(tmp_path / "x" / "scenario31" / row["unit1_pwr_60ghz"])
        assert np.isnan(sweep).any() or sweep.argmax() + 1 == int(row["unit1_beam"])


def _number(path: str) -> int:
    return int(path.rsplit("_", maxsplit=1)[1].split(".", maxsplit=1)[0])


def test_the_authors_variant_has_level_scans(tmp_path: Path) -> None:
    export_deepsense6g(tmp_path / "x", events=40, variant="authors", light=True)
    rows, world = table(tmp_path / "x", 30), world_of(40)
    place = tmp_path / "x" / "scenario30"
    assert all(row["unit1_pwr_60ghz"].endswith("_fixed.txt") for row in rows)
    assert not {"unit1_lidar", "unit1_radar", "unit1_blockage"} & set(rows[0])
    assert [int(row["blockage_label"]) for row in rows] == world.blocked.astype(int).tolist()
    for event in range(0, 40, 10):
        data = loadmat(place / rows[event]["unit1_lidar_SCR"])["data"]
        assert data.shape == (64, 2)
        distance, angle = data.T
        assert np.degrees(angle[[0, -1]]) == pytest.approx([-65, 65])
        assert (
            distance
            <= np.minimum(WALL / np.cos(angle) + 0.2, MAX_RANGE) + (distance == MAX_RANGE) * 99
        ).all()


@pytest.mark.parametrize("variant", ["plain", "authors"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, variant: Any) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        export_deepsense6g(
            tmp_path / name, events=12, frames=6, variant=variant, light=True, seed=seed
        )
    first, again, other = (tree(tmp_path / name) for name in "abc")
    assert first == again
    changed = {name for name in first if first[name] != other[name]}
    assert changed >= {
        name for name in first if "image" in name or "lidar" in name or "power" in name
    }


def test_files_do_not_depend_on_what_else_is_written(plain: Path, tmp_path: Path) -> None:
    for modalities in (["beam", "camera"], ["radar"], ["lidar"], ["gps"]):
        folder = tmp_path / modalities[0]
        export_deepsense6g(folder, events=EVENTS, light=True, modalities=modalities)
        whole = tree(plain)
        assert all(
            whole[name] == content
            for name, content in tree(folder).items()
            if not name.endswith(".csv")
        )
        assert [row["unit1_beam"] for row in table(folder, 33)] == [
            row["unit1_beam"] for row in table(plain, 33)
        ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_export_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    counts: list[int] = []

    def stop(count: int) -> None:
        counts.append(count)
        if count == 7:
            raise error

    with pytest.raises(error):
        export_deepsense6g(tmp_path / "x", events=40, light=True, on_event=stop)
    assert counts == [1, 2, 3, 4, 5, 6, 7]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_written_to(tmp_path: Path) -> None:
    export_deepsense6g(tmp_path, events=1, frames=1, light=True, modalities=["gps"])
    assert [path.name for path in tmp_path.iterdir()] == ["scenario31"]


REFUSALS = [
    pytest.param({"events": 0}, "events: must be 1 or more", id="no events"),
    pytest.param({"frames": 0}, "frames: must be 1 or more", id="no frames"),
    pytest.param({"frames": 1001}, "frames: at most 1000", id="many frames"),
    pytest.param(
        {"frames": 4, "variant": "challenge"}, "frames: must be 5 or more", id="short windows"
    ),
    pytest.param(
        {"events": 4, "variant": "challenge"}, "events: must be 5 or more", id="no window"
    ),
    pytest.param({"frames": 5, "variant": "authors"}, "frames: must be 6 or more", id="no future"),
    pytest.param({"variant": "other"}, "unknown variant 'other'", id="variant"),
    pytest.param({"modalities": ["sonar"]}, "given: sonar", id="modality"),
    pytest.param({"modalities": []}, "given: none", id="no modality"),
    pytest.param(
        {"modalities": ["radar"], "variant": "authors"}, "given: radar", id="authors' radar"
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS)
def test_impossible_wishes_are_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_deepsense6g(tmp_path / "x", **{"events": 10, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for folder in (tmp_path, tmp_path / "notes"):
        with pytest.raises(DataError, match="exists already"):
            export_deepsense6g(folder, events=1)
    with pytest.raises(DataError, match="cannot be written"):
        export_deepsense6g(tmp_path / "notes" / "x", events=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_the_command_writes_what_the_function_writes(tmp_path: Path) -> None:
    export_deepsense6g(
        tmp_path / "a",
        events=9,
        frames=3,
        seed=2,
        light=True,
        variant="blockage",
        modalities=["beam"],
    )
    words = (
        "data export scenes --format deepsense6g --variant blockage --events 9 --frames 3 --seed 2 "
        "--light"
    )
    result = CliRunner().invoke(app, [*words.split(), "--modalities", "beam", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize(("source", "form"), [("watch", "deepsense6g"), ("scenes", "mmfi")])
def test_the_command_knows_one_source_and_one_format(
    tmp_path: Path, source: str, form: str
) -> None:
    result = CliRunner().invoke(
        app, ["data", "export", source, "--format", form, str(tmp_path / "x")]
    )
    assert isinstance(result.exception, UserError)
    assert "\n" not in str(result.exception)
