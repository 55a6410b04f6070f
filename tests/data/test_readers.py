"""Readers against slow code of the tests' own."""

import io
import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from sheafalign_fl.data.preparation import prepare
from sheafalign_fl.data.readers import BadFileError, Mended, Reader
from sheafalign_fl.data.readers.base import read_mat, read_npy
from sheafalign_fl.data.readers.bodies import (
    BinaryPoints,
    DepthRecording,
    InertialRecording,
    Keypoints,
    SkeletonRecording,
    centred,
    resampled,
)
from sheafalign_fl.data.readers.clouds import (
    AngleScan,
    CloudPoints,
    RangeImage,
    even_points,
    scan_span,
)
from sheafalign_fl.data.readers.links import BeamPower, ChannelState, Position, interpolated
from sheafalign_fl.data.readers.pictures import CameraPicture, DepthPicture, shrunk_depth
from sheafalign_fl.data.readers.ply import read_ply
from sheafalign_fl.data.readers.radar import RadarMaps, maps

Array = NDArray[Any]
FEW = settings(max_examples=20, deadline=None)
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the examples of a property share."""
    return tmp_path_factory.mktemp("readers")


def as_array(result: NDArray[np.float32] | Mended) -> NDArray[np.float32]:
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float32
    return result


# ---- point clouds --------------------------------------------------------------------------------
XYZ = ("x", "y", "z")


def ply(
    points: Array, names: Sequence[str], *, count: int | None = None, head: str = "format ascii 1.0"
) -> bytes:
    kinds = ["ushort" if name in ("intensity", "ring") else "double" for name in names]
    lines = [
        "ply",
        head,
        "comment of a test",
        f"element vertex {len(points) if count is None else count}",
    ]
    lines += [f"property {kind} {name}" for kind, name in zip(kinds, names, strict=True)]
    lines += ["end_header", *(" ".join(repr(float(value)) for value in point) for point in points)]
    return ("\n".join(lines) + "\n").encode()


def cloud_of(seed: int, count: int) -> Array:
    """Points of 0.1 to 60 m in all directions, intensities from 0 to 65535."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(count, 3)) * (1, 1, 0.3)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.column_stack(
        [direction * rng.uniform(0.1, 60, (count, 1)), rng.integers(0, 65536, count)]
    )


@FEW
@given(
    st.permutations(["x", "y", "z", "intensity", "ring", "time"]),
    st.integers(0, 6),
    st.integers(0, 30),
    SEEDS,
    st.booleans(),
)
def test_a_ply_gives_its_points_whatever_the_order_of_properties(
    place: Path, order: list[str], left_out: int, count: int, seed: int, crlf: bool
) -> None:
    names = [name for index, name in enumerate(order) if name in XYZ or index != left_out]
    values = dict(zip(("x", "y", "z", "intensity"), cloud_of(seed, count).T, strict=True))
    values |= {"ring": np.arange(count), "time": np.arange(count) / 7}
    content = ply(np.array([values[name] for name in names]).T, names)
    path = place / "a.ply"
    path.write_bytes(content.replace(b"\n", b"\r\n") if crlf else content)
    intensity = values["intensity"] if "intensity" in names else np.zeros(count)
    wanted = np.column_stack([values["x"], values["y"], values["z"], intensity])
    np.testing.assert_array_equal(read_ply(path), wanted)


POINTS = cloud_of(0, 5)
GOOD_PLY = ply(POINTS, (*XYZ, "intensity"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no .ply file"),
        (b"x y z\n1 2 3\n", "is no .ply file"),
        (GOOD_PLY.partition(b"end_header")[0], "is no .ply file"),
        (GOOD_PLY.replace(b"ascii", b"binary_little_endian"), "5 points of 26"),
        (GOOD_PLY.replace(b"ascii", b"middle_endian"), "must have one format 1.0 of ascii"),
        (
            ply(POINTS, (*XYZ, "intensity"), count=6),
            "holds 20 numbers but its header says 6 points of 4",
        ),
        (
            ply(POINTS, (*XYZ, "intensity"), count=4),
            "holds 20 numbers but its header says 4 points of 4",
        ),
        (ply(POINTS, (*XYZ, "intensity"), count=-5), "must say how many vertices"),
        (GOOD_PLY[: GOOD_PLY.rindex(b" ")], "holds 19 numbers but its header says 5 points of 4"),
        (ply(POINTS[:, :2], ("x", "y")), "has no x, y and z; it has x, y"),
        (
            GOOD_PLY.replace(b"element vertex 5", b"element face 5"),
            "must have the element 'vertex', first",
        ),
        (
            GOOD_PLY.replace(b"element vertex 5", b"element vertex 5\nelement face 0"),
            "has no x, y and z; it has no properties",
        ),
        (
            GOOD_PLY.replace(b"property double x", b"property list uchar int x"),
            "that are no single numbers",
        ),
        (GOOD_PLY + b"end", "holds something else than numbers"),
        (ply(POINTS * [1, np.nan, 1, 1], (*XYZ, "intensity")), "holds NaN or infinity"),
        (ply(POINTS * [1e300, 1, 1, 1], (*XYZ, "intensity")), "beyond float32"),
    ],
)
def test_a_bad_ply_says_what_is_wrong(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=reason):
        read_ply(path)


def test_a_file_that_is_not_there_says_so_for_every_reader(tmp_path: Path) -> None:
    readers: list[Reader] = [
        CloudPoints(), RangeImage(), AngleScan(), RadarMaps(), BeamPower(), Position(),
        ChannelState(), BinaryPoints(3, 4), Keypoints(), InertialRecording(), SkeletonRecording(),
        DepthRecording(), CameraPicture(), DepthPicture(),
    ]  # fmt: skip
    for reader in readers:
        with pytest.raises(BadFileError, match="does not exist"):
            reader(tmp_path / "absent")
        with pytest.raises(BadFileError):
            reader(tmp_path)
        assert "version=" in repr(reader)


@FEW
@given(st.integers(1, 40), st.integers(1, 50), SEEDS)
def test_cloud_points_are_taken_at_even_steps(
    place: Path, count: int, points: int, seed: int
) -> None:
    cloud = cloud_of(seed, count)
    path = place / "b.ply"
    path.write_bytes(ply(cloud, (*XYZ, "intensity")))
    result = as_array(CloudPoints(points, brightest=1000.0)(path))
    assert result.shape == (4, points)
    for k in range(points):
        x, y, z, intensity = cloud[math.floor(k * count / points)]
        np.testing.assert_allclose(result[:, k], [x, y, z, intensity / 1000], rtol=1e-6)


def test_a_cloud_without_points_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(ply(np.empty((0, 4)), (*XYZ, "intensity")))
    with pytest.raises(BadFileError, match="holds no points"):
        CloudPoints()(path)
    with pytest.raises(BadFileError, match="holds no points"):
        even_points(np.empty((0, 3)), 4)


@FEW
@given(st.integers(0, 300), st.integers(1, 8), st.integers(1, 24), SEEDS)
def test_a_range_image_shows_the_nearest_point_of_each_cell(
    place: Path, count: int, rows: int, columns: int, seed: int
) -> None:
    cloud = np.vstack([cloud_of(seed, count), [[0, 0, 0, 9]]])
    path = place / "c.ply"
    path.write_bytes(ply(cloud, (*XYZ, "intensity")))
    result = as_array(RangeImage(rows, columns, highest=15.0, lowest=-25.0)(path))
    wanted = np.zeros((2, rows, columns))
    for x, y, z, intensity in cloud:
        distance = math.sqrt(x * x + y * y + z * z)
        if distance == 0:
            continue
        column = int((math.atan2(y, x) + math.pi) / (2 * math.pi) * columns) % columns
        elevation = math.degrees(math.atan2(z, math.hypot(x, y)))
        row = min(max(math.floor((15.0 - elevation) / 40.0 * rows), 0), rows - 1)
        if wanted[0, row, column] == 0 or distance < wanted[0, row, column]:
            wanted[:, row, column] = distance, intensity / 65535
    np.testing.assert_allclose(result, wanted, rtol=1e-6)


@FEW
@given(st.integers(0, 200), st.integers(2, 300), st.floats(-3, 3), st.floats(0.1, 6), SEEDS)
def test_a_scan_has_the_nearest_range_at_each_of_its_steps(
    place: Path, count: int, angles: int, first: float, span: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    step = rng.integers(0, angles, count)
    beside = rng.uniform(-0.4, 0.4, count)  # of a step
    turns = 2 * math.pi * rng.integers(-1, 2, count)
    angle = first + (step + beside) * span / (angles - 1) + turns
    distance = rng.uniform(0.1, 50, count)
    data = np.vstack([np.column_stack([distance, angle]), [[0.0, first]]])  # 0 is no return
    wanted = np.zeros(angles)
    for one, at in zip(distance, step, strict=True):
        if wanted[at] == 0 or one < wanted[at]:
            wanted[at] = one
    # What lies beyond an end by half a step is the other end where the scanner goes all round.
    reader = AngleScan(angles, first, first + span)
    path = place / "scan.mat"
    for layout in (data, data.T) if len(data) != 2 else (data,):  # two by two is as it is
        savemat(path, {"data": layout})
        np.testing.assert_allclose(as_array(reader(path)), [wanted], rtol=1e-6)


def test_all_returns_of_the_authors_scanner_survive(tmp_path: Path) -> None:
    angle = np.linspace(-2.0941, 1.5621, 216).round(4)
    distance = np.arange(1.0, 217.0)
    savemat(tmp_path / "scan.mat", {"data": np.column_stack([distance, angle])})
    np.testing.assert_array_equal(as_array(AngleScan()(tmp_path / "scan.mat"))[0], distance)


def test_the_ends_of_a_scanner_are_found_in_its_scans(tmp_path: Path) -> None:
    def scan(name: str, angles: Any) -> Path:
        savemat(tmp_path / name, {"data": np.column_stack([np.ones(len(angles)), angles])})
        return tmp_path / name

    whole = np.linspace(-2.0941, 1.5621, 216)
    assert scan_span([scan("a.mat", whole[5:]), scan("b.mat", whole[:-3])]) == (-2.0941, 1.5621)
    assert scan_span([scan("c.mat", np.linspace(-1, 1, 50))]) == (-1.0, 1.0)
    turn = np.arange(216) / 216 * 2 * np.pi
    first, last = scan_span([scan("d.mat", turn - np.pi), tmp_path / "absent.mat"])
    assert (first, last) == pytest.approx((-np.pi, np.pi * (1 - 2 / 216)), abs=1e-4)
    read = as_array(AngleScan(first=first, last=last)(tmp_path / "d.mat"))
    assert (read == 1).all()
    assert scan_span([]) == (-2.0941, 1.5621)


def test_bad_scans_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "scan.mat"
    for data, reason in [
        (np.ones((4, 3)), r"data has shape \(4, 3\); it must have two columns, range and angle"),
        (np.full((4, 2), np.nan), "holds NaN"),
        (
            np.array([[5.0, 1.0], [5.0, 2.5]]),
            r"angles from 1\.0000 to 2\.5000 rad, but the scanner",
        ),
    ]:
        savemat(path, {"data": data})
        with pytest.raises(BadFileError, match=reason):
            AngleScan()(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(200))
    with pytest.raises(BadFileError, match="save it again with -v7"):
        AngleScan()(path)


PLY_KINDS = {
    "char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f",
    "double": "d", "uint8": "B", "float32": "f", "float64": "d",
}  # fmt: skip


@FEW
@given(
    st.sampled_from(["little", "big"]),
    st.lists(st.sampled_from(sorted(PLY_KINDS)), min_size=4, max_size=4),
    st.permutations([*XYZ, "intensity"]),
    st.integers(0, 20),
    st.booleans(),
    st.booleans(),
    SEEDS,
)
def test_a_binary_ply_gives_its_points(
    place: Path, order: str, kinds: list[str], names: list[str], count: int, faces: bool,
    windows: bool, seed: int,
) -> None:  # fmt: skip
    """Against struct, one point at a time."""
    points = np.random.default_rng(seed).integers(0, 100, (count, 4)).tolist()
    lines = ["ply", f"format binary_{order}_endian 1.0", f"element vertex {count}"]
    lines += [f"property {kind} {name}" for kind, name in zip(kinds, names, strict=True)]
    lines += ["element face 1", "property list uchar int vertex_indices"] if faces else []
    end = "\r\n" if windows else "\n"
    form = ("<" if order == "little" else ">") + "".join(PLY_KINDS[kind] for kind in kinds)
    body = b"".join(struct.pack(form, *row) for row in points)
    path = place / "binary.ply"
    head = end.join([*lines, "end_header", ""]).encode()
    path.write_bytes(head + body + (b"\x03abcabcabcabc" if faces else b""))
    wanted = [[row[names.index(name)] for name in (*XYZ, "intensity")] for row in points]
    np.testing.assert_array_equal(read_ply(path), np.array(wanted).reshape(count, 4))
    if count and not faces:
        for wrong in (head + body[:-1], head + body + b"x"):
            path.write_bytes(wrong)
            with pytest.raises(BadFileError, match=f"its header says {count} points"):
                read_ply(path)


def test_clouds_of_mat_files_are_points_and_scans_are_not(tmp_path: Path) -> None:
    cloud = cloud_of(1, 7)
    savemat(tmp_path / "a.mat", {"points": cloud[:, :3]})
    np.testing.assert_array_equal(
        as_array(CloudPoints(7)(tmp_path / "a.mat"))[:3], cloud[:, :3].T.astype(np.float32)
    )
    savemat(tmp_path / "b.mat", {"data": np.ones((216, 2))})
    with pytest.raises(BadFileError, match="its modality is lidar-scan"):
        CloudPoints()(tmp_path / "b.mat")


def test_sweeps_and_cubes_are_the_same_in_every_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    power = rng.uniform(0, 1, 8)
    (tmp_path / "a.txt").write_text("\n".join(map(repr, power.tolist())))
    np.save(tmp_path / "a.npy", power)
    savemat(tmp_path / "a.mat", {"pwr": power})
    results = [BeamPower(8)(tmp_path / f"a.{ending}") for ending in ("txt", "npy", "mat")]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    cube = (rng.normal(size=(4, 16, 8)) + 1j * rng.normal(size=(4, 16, 8))).astype(np.complex64)
    np.save(tmp_path / "c.npy", cube)
    savemat(tmp_path / "c.mat", {"data": cube})
    maps = [as_array(RadarMaps(8, 8)(tmp_path / f"c.{ending}")) for ending in ("npy", "mat")]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-4)  # transforms of another memory order
    np.save(tmp_path / "grid.npy", np.ones((2, 4)))
    with pytest.raises(BadFileError, match="the powers of one sweep"):
        BeamPower(8)(tmp_path / "grid.npy")


def test_phases_are_without_what_the_receivers_clocks_add(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = np.arange(114.0)
    channel = 0.3 * np.sin(places / 9)[None, :, None] * rng.uniform(0.5, 1, (3, 1, 10))
    added = rng.uniform(-3, 3, (3, 1, 10)) + rng.uniform(-0.2, 0.2, (3, 1, 10)) * places[:, None]
    amplitude = rng.uniform(1, 2, (3, 114, 10))
    results = []
    for name, phase in [("a", channel), ("b", channel + added)]:
        wrapped = np.angle(np.exp(1j * phase))
        savemat(tmp_path / f"{name}.mat", {"CSIamp": amplitude, "CSIphase": wrapped})
        results.append(as_array(ChannelState(phase=True)(tmp_path / f"{name}.mat")))
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    np.testing.assert_array_equal(results[0][:3], amplitude.astype(np.float32))
    for link in range(3):  # against a fit of a line
        line = np.polyfit(places, channel[link, :, 0], 1)
        wanted = channel[link, :, 0] - np.polyval(line, places)
        np.testing.assert_allclose(results[0][3 + link, :, 0], wanted, atol=1e-5)
    savemat(tmp_path / "c.mat", {"CSIamp": amplitude})
    with pytest.raises(BadFileError, match="lacks the array 'CSIphase'"):
        ChannelState(phase=True)(tmp_path / "c.mat")


@FEW
@given(st.integers(1, 6), st.integers(0, 40), st.integers(1, 50), SEEDS)
def test_binary_points_are_taken_at_even_steps(
    place: Path, columns: int, count: int, points: int, seed: int
) -> None:
    cloud = np.random.default_rng(seed).normal(size=(count, columns)).round(1)
    path = place / "a.bin"
    path.write_bytes(struct.pack(f"<{cloud.size}d", *cloud.ravel()))
    result = as_array(BinaryPoints(columns, points)(path))
    assert result.shape == (columns, points)
    for k in range(points):
        wanted = cloud[math.floor(k * count / points)] if count else np.zeros(columns)
        np.testing.assert_allclose(result[:, k], wanted, rtol=1e-6)


@FEW
@given(st.text("0123456789.- \n", min_size=1, max_size=10))
def test_text_is_never_taken_for_binary_points(place: Path, text: str) -> None:
    path = place / "text.bin"
    path.write_bytes(text.encode() * 24)
    with pytest.raises(BadFileError, match="it must be little-endian float64"):
        BinaryPoints(3, 16)(path)


# ---- radar ---------------------------------------------------------------------------------------
def target(
    shape: tuple[int, int, int], sine: float, distance: int, speed: int, noise: float = 1e-3
) -> Array:
    """A cube of one target, `distance` and `speed` in bins of its transforms.

    Antennas are half a wavelength apart.
    """
    antenna, sample, chirp = (np.arange(size) for size in shape)
    phase = (
        np.pi * sine * antenna[:, None, None]
        + 2 * np.pi * distance / shape[1] * sample[None, :, None]
        + 2 * np.pi * speed / shape[2] * chirp[None, None, :]
    )
    rng = np.random.default_rng(0)
    cube: Array = np.exp(1j * phase) + noise * (
        rng.normal(size=shape) + 1j * rng.normal(size=shape)
    )
    return cube


@pytest.mark.parametrize(
    "shape", [(4, 256, 250), (4, 64, 32), (2, 64, 64), (8, 100, 16), (4, 128, 65)]
)
@pytest.mark.parametrize(
    ("sine", "distance", "speed"), [(0.0, 10, 0), (0.5, 30, 5), (-0.25, 50, -7), (0.75, 1, 3)]
)
def test_a_single_target_peaks_where_it_is(
    shape: tuple[int, int, int], sine: float, distance: int, speed: int, tmp_path: Path
) -> None:
    path = tmp_path / "cube.npy"
    np.save(path, target(shape, sine, distance, speed).astype(np.complex64))
    angle_map, doppler_map = as_array(RadarMaps()(path))
    assert angle_map.shape == doppler_map.shape == (64, 64)
    at, angle = np.unravel_index(angle_map.argmax(), (64, 64))
    assert at == distance
    assert abs(angle - (32 + 32 * sine)) <= 1
    at, doppler = np.unravel_index(doppler_map.argmax(), (64, 64))
    assert at == distance
    assert abs(doppler - (speed + shape[2] // 2) * 64 / shape[2]) <= max(1.0, 64 / shape[2])
    assert min(angle_map.max(), doppler_map.max()) > 20


@FEW
@given(st.integers(-36, 36), SEEDS)
def test_radar_maps_do_not_depend_on_the_gain(power: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cube = target((4, 32, 16), 0.3, 7, 2, noise=0.3).astype(np.complex64)
    gain = 10.0**power * rng.uniform(1, 9)
    np.testing.assert_allclose(
        maps((cube * gain).astype(np.complex64), 16, 16), maps(cube, 16, 16), atol=0.02
    )


def test_half_of_a_radar_map_is_below_its_median_of_nothing() -> None:
    for image in maps(target((4, 32, 16), 0.3, 7, 2, noise=0.3), 16, 16):
        assert abs(np.median(image)) < 0.5


def test_ranges_that_a_short_cube_lacks_are_noise_and_not_its_last_range() -> None:
    short = maps(target((4, 16, 16), 0.0, 15, 0), 24, 16)
    np.testing.assert_array_equal(short[:, 16:], 0.0)
    np.testing.assert_array_equal(short[:, :16], maps(target((4, 16, 16), 0.0, 15, 0), 16, 16))
    assert np.isfinite(maps(np.zeros((4, 16, 16), dtype=complex), 24, 16)).all()


@pytest.mark.parametrize(
    ("cube", "reason"),
    [
        (np.ones((4, 16, 8)), "it has dtype float64; it must be complex numbers"),
        (np.ones((4, 16), dtype=complex), r"it has shape \(4, 16\); it must have 3 axes"),
        (np.ones((1, 16, 8), dtype=complex), "it must be antennas"),
        (np.ones((16, 4, 8), dtype=complex), "it must be antennas"),
        (np.full((4, 16, 8), np.nan + 0j), "holds NaN or infinity"),
    ],
)
def test_a_bad_radar_cube_says_what_is_wrong(cube: Array, reason: str, tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", cube)
    with pytest.raises(BadFileError, match=reason):
        RadarMaps()(tmp_path / "cube.npy")


# ---- radio links and positions -------------------------------------------------------------------
@FEW
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=70))
def test_beam_power_is_in_decibels(place: Path, powers: list[float]) -> None:
    path = place / "power.txt"
    path.write_text("\n".join(map(repr, powers)) + "\n")
    wanted = [10 * math.log10(power) if power > 1e-12 else -120.0 for power in powers]
    np.testing.assert_allclose(as_array(BeamPower(len(powers))(path)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "reason", "known"),
    [
        ("1\nNaN\n2\nnan\n", r"has no power \(NaN\) in 2 of 4 beams", True),
        ("1\n2\n3\n", "has 3 powers; it must have 4", False),
        ("1\n2\n3\n4\n5\n", "has 5 powers; it must have 4", False),
        ("", "has 0 powers", False),
        ("1\n2\n-3\n4\n", "negative or infinite", False),
        ("1\n2\ninf\n4\n", "negative or infinite", False),
        ("1\n2\nthree\n4\n", "something else than numbers", False),
        ("1\n2\n3\n4 µW\n", "is no readable text", False),
    ],
)
def test_a_bad_sweep_says_what_is_wrong(
    text: str, reason: str, known: bool, tmp_path: Path
) -> None:
    path = tmp_path / "power.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadFileError, match=reason) as error:
        BeamPower(4)(path)
    assert error.value.known is known


def haversine(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Metres between two places on a sphere, by the formula in books."""
    (a, b), (c, d) = (map(math.radians, place) for place in (first, second))
    h = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(math.sqrt(h))


def coordinates(path: Path, latitude: float, longitude: float) -> Path:
    path.write_text(f"{latitude!r}\n{longitude!r}\n")
    return path


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-60, 60),
    st.one_of(st.floats(-180, 180), st.sampled_from([180.0, -180.0, 179.9999, -179.9999])),
    st.floats(-100, 100),
    st.floats(-100, 100),
)
def test_a_position_is_east_and_north_of_the_unit_within_centimetres(
    place: Path, latitude: float, longitude: float, east: float, north: float
) -> None:
    metres = 6_371_008.8 * math.pi / 180
    user_latitude = latitude + north / metres
    user_longitude = longitude + east / (metres * math.cos(math.radians(latitude)))
    user_longitude = (user_longitude + 180) % 360 - 180
    unit = coordinates(place / "unit.txt", latitude, longitude)
    user = coordinates(place / "user.txt", user_latitude, user_longitude)
    result = as_array(Position()(user, unit))
    assert abs(abs(result[1]) - haversine((latitude, longitude), (user_latitude, longitude))) < 0.02
    assert abs(abs(result[0]) - haversine((latitude, longitude), (latitude, user_longitude))) < 0.02
    np.testing.assert_allclose(result, [east, north], atol=0.02)


def test_a_position_without_the_unit_is_in_metres_within_its_degree(tmp_path: Path) -> None:
    first = as_array(Position()(coordinates(tmp_path / "a.txt", 33.4201, -111.9302)))
    second = as_array(Position()(coordinates(tmp_path / "b.txt", 33.4203, -111.9305)))
    assert 0 <= first.min() < first.max() < 112_000
    north = haversine((33.4201, -111.9302), (33.4203, -111.9302))
    east = haversine((33.0, -111.9302), (33.0, -111.9305))
    np.testing.assert_allclose(second - first, [-east, north], atol=0.05)


@pytest.mark.parametrize(
    "text", ["33.4\n", "33.4\n-111\n5\n", "91\n0\n", "0\n361\n", "nan\n0\n", "north\nwest\n", ""]
)
def test_the_file_without_coordinates_is_named_of_the_two(text: str, tmp_path: Path) -> None:
    good, bad = coordinates(tmp_path / "good.txt", 1.0, 2.0), tmp_path / "bad.txt"
    bad.write_text(text)
    for files in ((good, bad), (bad, good), (bad,)):
        with pytest.raises(BadFileError, match=r"must hold two lines|something else than numbers"):
            Position()(*files)
        fault = prepare(Position(), [files, (good, good)], "positions", cache=False).faults[0]
        assert fault.file == str(bad)


@FEW
@given(SEEDS, st.floats(0.0, 0.6))
def test_bad_values_are_interpolated_along_the_second_axis(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(1, 50, (2, 9, 3))
    bad = rng.random(values.shape) < share
    bad[0, :, 1] = True
    bad[1, 4, 0] = False
    dirty = np.where(bad, rng.choice([np.nan, np.inf, -np.inf], values.shape), values)
    wanted = values.copy()
    for link, place, sample in np.argwhere(bad):
        good = [k for k in range(9) if not bad[link, k, sample]]
        below, above = [k for k in good if k < place], [k for k in good if k > place]
        if not good:
            wanted[link, place, sample] = np.median(values[~bad])
        elif below and above:
            a, b = max(below), min(above)
            left, right = values[link, a, sample], values[link, b, sample]
            wanted[link, place, sample] = left + (right - left) * (place - a) / (b - a)
        else:
            wanted[link, place, sample] = values[link, max(below) if below else min(above), sample]
    np.testing.assert_allclose(interpolated(dirty, bad), wanted)


def test_channel_state_is_what_the_file_holds_and_says_where_it_was_mended(tmp_path: Path) -> None:
    reader, path = ChannelState(2, 5, 2), tmp_path / "csi.mat"
    amplitude = np.arange(20.0).reshape(2, 5, 2)
    savemat(path, {"CSIamp": amplitude})
    wanted = list(range(20))
    np.testing.assert_allclose(as_array(reader(path)).ravel(), wanted, rtol=1e-5, atol=1e-5)
    amplitude[1, 2, 1] = np.nan
    savemat(path, {"CSIamp": amplitude})
    mended = reader(path)
    assert isinstance(mended, Mended)
    np.testing.assert_allclose(mended.values.ravel(), wanted, rtol=1e-5, atol=1e-5)
    amplitude[0] = np.inf
    savemat(path, {"CSIamp": amplitude})
    with pytest.raises(BadFileError, match="in 55% of its amplitudes") as error:
        reader(path)
    assert error.value.known


# ---- pictures ------------------------------------------------------------------------------------
@FEW
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.integers(1, 8), SEEDS)
def test_shrunk_depth_is_the_mean_of_what_was_measured(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 5, (height, width)) * (rng.random((height, width)) < 0.6)
    wanted = np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            cell = [
                depth[y, x]
                for y in range(height)
                for x in range(width)
                if y * rows // height == row and x * columns // width == column and depth[y, x] > 0
            ]
            wanted[row, column] = sum(cell) / len(cell) if cell else 0.0
    np.testing.assert_allclose(shrunk_depth(depth, rows, columns), wanted, rtol=1e-6)


def test_a_depth_picture_is_in_metres(tmp_path: Path) -> None:
    pixels = np.zeros((48, 64), dtype=np.uint16)
    pixels[:24] = 1500
    pixels[0, 0] = 65535
    Image.fromarray(pixels).save(tmp_path / "depth.png")
    result = as_array(DepthPicture(4, 8)(tmp_path / "depth.png"))
    assert result.shape == (1, 4, 8)
    np.testing.assert_allclose(result[0, 0, 0], (1.5 * 95 + 65.535) / 96, rtol=1e-6)
    np.testing.assert_allclose(result[0, 1], 1.5)
    np.testing.assert_array_equal(result[0, 2:], 0)
    assert as_array(DepthPicture(96, 64)(tmp_path / "depth.png")).shape == (1, 96, 64)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("jpg", mode) for mode in ("RGB", "L", "CMYK")),
        *(("png", mode) for mode in ("RGB", "L", "P", "RGBA", "1")),
        *(("tiff", mode) for mode in ("RGB", "L", "CMYK", "P", "RGBA", "1")),
    ],
)
def test_a_camera_picture_is_the_mean_of_each_cell(mode: str, suffix: str, tmp_path: Path) -> None:
    colours = np.array(
        [[[250, 20, 20], [20, 250, 20]], [[20, 20, 250], [250, 250, 250]]], dtype=np.uint8
    )
    picture = Image.fromarray(np.kron(colours, np.ones((32, 32, 1), dtype=np.uint8)))
    path = tmp_path / f"a.{suffix}"
    picture.convert(mode).save(path)
    with Image.open(path) as stored:
        full = np.asarray(stored.convert("RGB"), dtype=np.float64) / 255
        grey = np.asarray(stored.convert("L"), dtype=np.float64) / 255
    wanted = full.reshape(2, 32, 2, 32, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(as_array(CameraPicture(2, 2, grey=False)(path)), wanted, atol=0.02)
    wanted = grey.reshape(1, 2, 32, 2, 32).mean(axis=(2, 4))
    np.testing.assert_allclose(as_array(CameraPicture(2, 2)(path)), wanted, atol=0.02)
    assert as_array(CameraPicture(100, 3, grey=False)(path)).shape == (3, 100, 3)


def saved(save: Callable[..., object], *content: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, *content)
    return stream.getvalue()


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 40)).astype(np.uint16)
    (
        Image.fromarray(pixels)
        if suffix == "png"
        else Image.fromarray((pixels >> 8).astype(np.uint8))
    ).save(stream, {"png": "png", "jpg": "jpeg"}[suffix])
    return stream.getvalue()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["png", "jpg"]), st.floats(0, 0.9))
def test_a_truncated_picture_is_refused(place: Path, suffix: str, share: float) -> None:
    content = encoded(suffix)
    path = place / f"short.{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadFileError, match="is no picture that can be read"):
        (DepthPicture() if suffix == "png" else CameraPicture())(path)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["png", "jpg", "npy", "ply", "cube"]),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=8),
)
def test_a_damaged_file_is_read_or_refused_but_nothing_else(
    place: Path, kind: str, share: float, damage: bytes
) -> None:
    whole: dict[str, tuple[bytes, Reader]] = {
        "png": (encoded("png"), DepthPicture()),
        "jpg": (encoded("jpg"), CameraPicture()),
        "npy": (saved(np.save, np.random.default_rng(0).normal(size=(17, 2))), Keypoints()),
        "ply": (GOOD_PLY, RangeImage()),
        "cube": (saved(np.save, target((4, 16, 8), 0, 3, 1).astype(np.complex64)), RadarMaps()),
    }
    content, reader = whole[kind]
    start = int(share * (len(content) - len(damage)))
    path = place / f"damaged.{kind}"
    path.write_bytes(content[:start] + damage + content[start + len(damage) :])
    try:
        result = reader(path)
    except BadFileError as error:
        reason = error.reason
    else:
        reason = ""
        assert np.isfinite(as_array(result)).all()
    assert "\n" not in reason


@FEW
@given(st.booleans(), st.floats(0, 0.99))
def test_a_shortened_mat_file_is_refused(place: Path, compressed: bool, share: float) -> None:
    # Other damage can make scipy's own reader crash, so only what an interrupted copy leaves is
    # tried.
    path = place / "short.mat"
    savemat(
        path, {"d_iner": np.random.default_rng(0).normal(size=(30, 6))}, do_compression=compressed
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadFileError, match=r"is no readable \.mat file|lacks the array 'd_iner'"):
        InertialRecording()(path)


def test_a_picture_is_no_depth_unless_it_has_16_bits(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "1"):
        Image.new(mode, (8, 8)).save(tmp_path / "a.png")
        with pytest.raises(
            BadFileError, match=f"is a picture of mode {mode}; depth must be one channel of 16 bits"
        ):
            DepthPicture()(tmp_path / "a.png")
    (tmp_path / "a.png").write_text("no picture")
    for reader in (DepthPicture(), CameraPicture()):
        with pytest.raises(BadFileError, match="is no picture that can be read"):
            reader(tmp_path / "a.png")


# ---- bodies --------------------------------------------------------------------------------------
@FEW
@given(SEEDS, st.floats(-1000, 1000), st.floats(0.01, 100))
def test_keypoints_depend_on_neither_place_nor_size(
    place: Path, seed: int, shift: float, scale: float
) -> None:
    body = np.random.default_rng(seed).normal(size=(17, 2))
    results = []
    for name, values in (("a", body), ("b", body * scale + [shift, -shift])):
        np.save(place / f"{name}.npy", np.column_stack([values, np.ones(17)]))
        results.append(as_array(Keypoints()(place / f"{name}.npy")))
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    assert results[0].shape == (2, 17)
    np.testing.assert_allclose(results[0].mean(axis=1), 0, atol=1e-5)
    assert math.isclose(sum(math.hypot(x, y) ** 2 for x, y in results[0].T) / 17, 1.0, rel_tol=1e-4)
    np.testing.assert_allclose(centred(np.random.default_rng(seed).normal(size=(3, 1))), 0)


@FEW
@given(st.integers(1, 40), st.integers(1, 60), SEEDS)
def test_resampling_is_linear_interpolation(length: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2, 3, length))
    result = resampled(values, count)
    assert result.shape == (2, 3, count)
    for i in range(2):
        for j in range(3):
            wanted = np.interp(np.linspace(0, length - 1, count), np.arange(length), values[i, j])
            np.testing.assert_allclose(result[i, j], wanted, atol=1e-6)


@FEW
@given(st.integers(2, 50), st.integers(2, 30), SEEDS)
def test_an_inertial_recording_keeps_its_units_and_its_ends(
    place: Path, length: int, samples: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(length, 6)) * [1, 1, 1, 200, 200, 200]
    savemat(place / "a.mat", {"d_iner": values})
    result = as_array(InertialRecording(samples)(place / "a.mat"))
    assert result.shape == (6, samples)
    np.testing.assert_allclose(result[:, [0, -1]], values[[0, -1]].T, rtol=1e-5)


@FEW
@given(st.integers(2, 20), st.floats(-10, 10), st.floats(0.1, 10), SEEDS)
def test_a_skeleton_keeps_its_steps_but_neither_its_place_nor_its_size(
    place: Path, length: int, shift: float, scale: float, seed: int
) -> None:
    body = np.random.default_rng(seed).normal(size=(20, 3, 1))
    step = np.linspace(0, 2, length) * np.array([1, 0, 0])[:, None]
    results = []
    for values in (body + step, (body + step + shift) * scale):
        savemat(place / "b.mat", {"d_skel": values})
        results.append(as_array(SkeletonRecording(12)(place / "b.mat")))
    np.testing.assert_allclose(results[1], results[0], atol=1e-4)
    size = math.sqrt(
        sum(math.dist(joint, body[:, :, 0].mean(axis=0)) ** 2 for joint in body[:, :, 0]) / 20
    )
    middle = results[0].mean(axis=1)
    np.testing.assert_allclose(middle[0], np.linspace(-1, 1, 12) / size, atol=1e-4)
    np.testing.assert_allclose(middle[1:], 0, atol=1e-4)


@FEW
@given(st.integers(2, 12), st.integers(1, 9))
def test_a_depth_recording_shows_frames_at_even_steps(
    place: Path, length: int, frames: int
) -> None:
    savemat(
        place / "c.mat",
        {"d_depth": np.broadcast_to(1000 + np.arange(length, dtype=np.uint16), (6, 8, length))},
    )
    result = as_array(DepthRecording(frames, 3, 4)(place / "c.mat"))
    wanted = [1 + math.floor(k * (length - 1) / max(frames - 1, 1)) / 1000 for k in range(frames)]
    np.testing.assert_allclose(
        result, np.broadcast_to(np.array(wanted)[:, None, None], (frames, 3, 4)), rtol=1e-6
    )


def test_pickled_content_is_never_run(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadFileError, match=r"is no readable \.npy file"):
        read_npy(tmp_path / "a.npy", 1)
    np.savez(tmp_path / "b.npz", a=np.ones(3))
    with pytest.raises(BadFileError, match="is an archive, not one array"):
        read_npy(tmp_path / "b.npz", 1)
    savemat(tmp_path / "c.mat", {"d_iner": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(BadFileError, match="it must be numbers"):
        read_mat(tmp_path / "c.mat", "d_iner", 2)
