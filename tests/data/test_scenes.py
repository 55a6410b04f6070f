"""The simulator against slow, scalar physics."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.data.base import SPLITS, ModalityData
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.data.scenes import INFO, beam, camera, gps, lidar, radar
from sheafalign_fl.data.scenes.geometry import cast, clearance
from sheafalign_fl.data.scenes.world import (
    FRAME_SECONDS,
    TREES,
    UNIT_HEIGHT,
    WALL,
    World,
    build_world,
)
from sheafalign_fl.errors import ConfigError

MODALITIES = tuple(modality.name for modality in INFO.modalities)
SMALL = {"events": 1200}


def load(modality: str, seed: int = 0, **options: Any) -> ModalityData:
    return load_modality("scenes", modality, seed, {**SMALL, **options}, "test")


@pytest.fixture
def world() -> World:
    """A world of the test's own, since some tests change theirs."""
    return build_world(
        0, events=1200, frames=20, horizon=5, night=0.25, fog=0.2, traffic=0.75, trees=0.5
    )


def ray_box(direction: Any, low: Any, high: Any, origin: Any) -> float:
    """Distance along a ray to a box, by testing its six faces one after the other."""
    best = math.inf
    for axis in range(3):
        for face in (low[axis], high[axis]):
            if abs(direction[axis]) < 1e-12:
                continue
            t = (face - origin[axis]) / direction[axis]
            point = [origin[k] + t * direction[k] for k in range(3)]
            others = [k for k in range(3) if k != axis]
            if t > 0 and all(low[k] - 1e-9 <= point[k] <= high[k] + 1e-9 for k in others):
                best = min(best, t)
    return best


coordinate = st.floats(-20, 20)
extent = st.floats(0.5, 8)


@settings(deadline=None, max_examples=150)
@given(
    coordinate, st.floats(5, 30), extent, extent, extent, st.floats(-1.2, 1.2), st.floats(-0.4, 0.2)
)
def test_cast_equals_a_slow_ray_box_test(
    x: float, y: float, length: float, width: float, height: float, azimuth: float, elevation: float
) -> None:
    direction = [
        math.cos(elevation) * math.sin(azimuth),
        math.cos(elevation) * math.cos(azimuth),
        math.sin(elevation),
    ]
    distance, _ = cast(
        np.array([direction]),
        np.array([[[x, y]]]),
        np.array([[[length, width, height]]]),
        np.ones((1, 1), dtype=bool),
        UNIT_HEIGHT,
    )
    low, high = [x - length / 2, y - width / 2, 0.0], [x + length / 2, y + width / 2, height]
    inside = all(low[k] <= origin <= high[k] for k, origin in enumerate([0.0, 0.0, UNIT_HEIGHT]))
    slow = ray_box(direction, low, high, [0.0, 0.0, UNIT_HEIGHT])
    if inside or math.isinf(slow) != math.isinf(distance[0, 0]):
        # A ray that only grazes an edge may be judged either way.
        assert inside or _grazes(direction, low, high)
    elif math.isfinite(slow):
        assert distance[0, 0] == pytest.approx(slow, rel=1e-4)


def _grazes(direction: list[float], low: list[float], high: list[float]) -> bool:
    shrunk = ray_box(
        direction, [v + 1e-3 for v in low], [v - 1e-3 for v in high], [0.0, 0.0, UNIT_HEIGHT]
    )
    grown = ray_box(
        direction, [v - 1e-3 for v in low], [v + 1e-3 for v in high], [0.0, 0.0, UNIT_HEIGHT]
    )
    return math.isinf(shrunk) != math.isinf(grown)


def test_blockage_equals_a_slow_walk_along_the_line(world: World) -> None:
    differing = 0
    for event in range(0, len(world), 7):
        antenna = world.antenna[event]
        points = [0, 0, UNIT_HEIGHT] + np.linspace(0, 1, 4001)[:, None] * (
            antenna - [0, 0, UNIT_HEIGHT]
        )
        inside = (
            np.abs(world.centre[event] - points[:, None, :2]) < world.size[event, :, :2] / 2
        ).all(axis=2)
        inside &= (world.size[event, :, 2] > points[:, 2:]) & world.exists[event]
        differing += bool(inside[:, 1:].any()) != world.blocked[event]
    assert differing <= 1  # a line that cuts less than a step's length off a corner


def test_blocked_ahead_is_blocked_in_any_of_the_next_frames(world: World) -> None:
    for event in range(0, len(world) - 5):
        if world.sequence[event] == world.sequence[event + 5]:
            assert world.blocked_ahead[event] == world.blocked[event + 1 : event + 6].any()


def test_vehicles_move_with_their_velocity_and_never_meet(world: World) -> None:
    same = world.sequence[1:] == world.sequence[:-1]
    moved = (world.centre[1:, :, 0] - world.centre[:-1, :, 0])[same]
    np.testing.assert_allclose(moved, world.velocity[:-1][same] * FRAME_SECONDS, atol=1e-4)
    for a in range(world.exists.shape[1]):
        for b in range(a):
            gap = (
                np.abs(world.centre[:, a] - world.centre[:, b])
                - (world.size[:, a, :2] + world.size[:, b, :2]) / 2
            )
            assert not ((gap < 0).all(axis=1) & world.exists[:, a] & world.exists[:, b]).any()


def test_a_vehicle_is_in_the_picture_where_the_pinhole_formula_says(world: World) -> None:
    """Paint one bright vehicle alone and compare the painted box with the projected one."""
    picture = np.zeros((1, 3, camera.HEIGHT, camera.WIDTH), dtype=np.float32)
    event, vehicle = np.array([5]), np.array([1])
    world.centre[5, 1] = [2.0, 9.5]
    world.size[5, 1] = [4.5, 1.8, 1.5]
    world.exists[5, 1], world.night[5], world.fog[5], world.colour[5, 1] = True, False, 0.0, 1.0
    camera._paint_vehicle(picture, world, event, vehicle)
    rows, columns = np.nonzero(picture[0, 0] > 0.5)
    focal = camera.WIDTH / 2 / math.tan(math.radians(50))
    near, far = 9.5 - 0.9, 9.5 + 0.9
    left = camera.WIDTH / 2 + focal * min((2 - 2.25) / near, (2 - 2.25) / far)
    right = camera.WIDTH / 2 + focal * (2 + 2.25) / near
    top = camera.HORIZON + focal * (UNIT_HEIGHT - 1.5) / near
    bottom = camera.HORIZON + focal * UNIT_HEIGHT / near
    assert abs(columns.min() - left) <= 1
    assert abs(columns.max() + 1 - right) <= 1
    assert abs(rows.min() - top) <= 1
    assert abs(rows.max() + 1 - bottom) <= 1


def test_near_vehicles_hide_far_ones_for_lidar() -> None:
    centre, size = (
        np.array([[[0.0, 14.0], [0.0, 6.0]]]),
        np.array([[[4.5, 1.8, 1.5], [9.0, 2.5, 3.4]]]),
    )
    distance, hit = cast(
        np.array([[0.0, 1.0, -0.05]]), centre, size, np.ones((1, 2), dtype=bool), UNIT_HEIGHT
    )
    assert hit[0, 0] == 1
    assert distance[0, 0] == pytest.approx(6.0 - 1.25, rel=1e-3)


def test_near_vehicles_hide_far_ones_for_the_camera() -> None:
    """A red van stands before a blue bus: between them no blue is left where the van is."""
    world = build_world(
        0, events=1, frames=1, horizon=1, night=0.0, fog=0.0, traffic=0.0, trees=0.0
    )
    world.exists[:, :3] = True
    world.centre[0, :3] = [[-18.0, 17.5], [0.0, 14.0], [0.0, 6.0]]
    world.size[0, 1:3] = [[11.5, 2.5, 3.2], [2.0, 2.0, 2.3]]
    world.colour[0, 1:3] = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    picture = camera._paint(world, slice(0, 1))[0]
    row, column = int(camera.HORIZON + camera.FOCAL * (UNIT_HEIGHT - 0.8) / 5.0), camera.WIDTH // 2
    assert picture[:, row, column] == pytest.approx([1.0, 0.0, 0.0], abs=0.02)
    aside = int(camera.WIDTH / 2 + camera.FOCAL * 4.0 / 12.75)
    row = int(camera.HORIZON + camera.FOCAL * (UNIT_HEIGHT - 1.6) / 12.75)
    assert picture[2, row, aside] > picture[0, row, aside] + 0.5


def test_fog_takes_contrast_by_distance_and_night_takes_light(world: World) -> None:
    grey = np.array([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9]], dtype=np.float32)[:, :, None, None]
    fog = np.array([0.05, 0.05], dtype=np.float32)
    for distance in (5.0, 20.0):
        dark, bright = camera._fogged(grey, fog, np.full((2, 1, 1, 1), distance))[:, 0, 0, 0]
        assert bright - dark == pytest.approx(0.8 * math.exp(-0.05 * distance), rel=1e-4)
    still = {name: np.random.default_rng(0) for name in ("day", "night")}
    day = camera.render(replace(world, night=np.zeros_like(world.night)), still["day"])
    night = camera.render(replace(world, night=np.ones_like(world.night)), still["night"])
    assert night.mean() < day.mean() - 0.5


def test_lidar_sees_the_wall_and_the_ground_where_there_is_nothing(world: World) -> None:
    world.exists[:] = False
    rays = lidar.directions()
    distance, _ = lidar._first_returns(world, slice(0, 1), rays)
    for ray, found in zip(rays.astype(float), distance[0], strict=True):
        candidates = [WALL / ray[1]] + ([UNIT_HEIGHT / -ray[2]] if ray[2] < 0 else [])
        assert found == pytest.approx(min(candidates), rel=1e-4)


def test_leaves_return_high_rays_at_the_distance_of_the_trees(world: World) -> None:
    world.exists[:] = False
    images = []
    for cover in (0.0, 0.9):
        world.trees[:] = cover
        images.append(
            lidar.scan(replace(world, fog=np.zeros_like(world.fog)), np.random.default_rng(1))[:, 0]
        )
    open_, leafy = (np.median(image, axis=0) * 10 + 20 for image in images)
    straight = np.abs(lidar.AZIMUTHS) < 0.5
    reach = 1 / (np.cos(lidar.RINGS[0]) * np.cos(lidar.AZIMUTHS[straight]))
    np.testing.assert_allclose(open_[0, straight], WALL * reach, atol=0.05)
    np.testing.assert_allclose(leafy[0, straight], TREES * reach, atol=0.05)
    np.testing.assert_allclose(leafy[1:, straight], open_[1:, straight], atol=0.05)


def test_trees_make_a_fix_worse_and_the_receiver_knows() -> None:
    world = build_world(
        0, events=4000, frames=20, horizon=5, night=0.25, fog=0.2, traffic=0.75, trees=0.5
    )
    reading = gps.read(world, np.random.default_rng(0))
    error = np.hypot(
        reading[:, 0] * 10 - world.centre[:, 0, 0], reading[:, 1] * 4 + 13.5 - world.centre[:, 0, 1]
    )
    under = world.trees > 0
    assert 1.3 < error[under].mean() / error[~under].mean() < 2.2
    assert reading[under, 4].mean() - reading[~under, 4].mean() > 1.0


def test_radar_peaks_at_the_vehicle_s_range_doppler_and_angle() -> None:
    lonely = build_world(
        3, events=40, frames=20, horizon=5, night=0.0, fog=0.0, traffic=0.0, trees=0.0
    )
    lonely.reflector[:] = np.nan
    maps = radar.measure(lonely, np.random.default_rng(0))
    for event in (0, 25):
        x, y = lonely.centre[event, 0]
        distance = math.hypot(x, y)
        row, column = np.unravel_index(maps[event, 0].argmax(), maps[event, 0].shape)
        assert abs(radar.RANGES[row] - distance) <= 1.3
        assert abs(radar.DOPPLERS[column] - lonely.velocity[event, 0] * x / distance) <= 1.4
        row, column = np.unravel_index(maps[event, 1].argmax(), maps[event, 1].shape)
        assert abs(radar.ANGLES[column] - x / distance) <= 0.09


def test_the_best_beam_points_at_a_user_in_sight(world: World) -> None:
    strongest = beam.SINES[beam.power(world).argmax(axis=1)]
    antenna = world.antenna
    sine = antenna[:, 0] / np.linalg.norm(antenna - [0, 0, UNIT_HEIGHT], axis=1)
    clear = beam.blockage_loss_db(world) == 0
    assert clear.sum() > 200
    assert np.abs(strongest - sine)[clear].max() <= 1.5 * (beam.SINES[1] - beam.SINES[0])


def test_array_gain_is_the_squared_sum_of_phasors() -> None:
    for sine in (-0.9, -0.2, 0.0, beam.SINES[40], 0.77):
        for index in (0, 17, 40, 63):
            phasors = sum(
                np.exp(1j * math.pi * element * (sine - beam.SINES[index]))
                for element in range(beam.ANTENNAS)
            )
            found = beam.array_gain(np.array([sine]))[index]
            assert found == pytest.approx(abs(phasors) ** 2 / beam.ANTENNAS, abs=1e-6)


def test_a_blocked_line_of_sight_costs_power(world: World) -> None:
    loss = beam.blockage_loss_db(world)
    assert loss[world.blocked].min() > 5.0
    assert np.median(loss[~world.blocked]) == 0.0


def test_clearance_of_a_roof_is_measured_from_the_line() -> None:
    above, crossed = clearance(
        np.array([[0.0, 20.0, 1.0]]), np.array([[[0.0, 10.0]]]), np.array([[[4.0, 2.0, 3.0]]]), 2.0
    )
    assert crossed[0, 0]
    assert above[0, 0] == pytest.approx(3.0 - (2.0 - 11.0 / 20.0), abs=1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_modality_is_what_it_says(modality: str) -> None:
    data = load(modality)
    declared = next(item.shape for item in INFO.modalities if item.name == modality)
    assert str(data.input_shape) == declared
    assert np.isfinite(data.x).all()
    assert 0.3 < data.x.std() < 2.0
    assert data.x.dtype == np.float32


def test_every_value_comes_from_the_seed_and_each_modality_is_alone() -> None:
    from sheafalign_fl.data import scenes

    options = {option.name: option.default for option in INFO.options} | SMALL
    once = {modality: scenes.load(modality, 3, **options).x.copy() for modality in MODALITIES}
    scenes._world.cache_clear()
    for modality in reversed(MODALITIES):
        scenes._world.cache_clear()
        np.testing.assert_array_equal(scenes.load(modality, 3, **options).x, once[modality])
        assert not np.array_equal(scenes.load(modality, 4, **options).x[:50], once[modality][:50])


def test_sequences_are_never_divided_between_splits() -> None:
    data = load("beam")
    for sequence in np.unique(data.event_ids // 1000):
        assert len(np.unique(data.split[data.event_ids // 1000 == sequence])) == 1
    assert [int((data.split == index).sum() > 0) for index in range(len(SPLITS))] == [1, 1, 1]


def test_an_event_is_in_the_same_split_and_has_the_same_labels_for_every_client() -> None:
    first, second = load("camera"), load("gps")
    _, one, other = np.intersect1d(first.event_ids, second.event_ids, return_indices=True)
    assert len(one) > 800
    np.testing.assert_array_equal(first.split[one], second.split[other])
    for label in first.labels:
        np.testing.assert_array_equal(first.labels[label][one], second.labels[label][other])


def test_labels_are_balanced_enough_to_learn() -> None:
    labels = load("beam", events=6000).labels
    assert 0.25 <= labels["blockage"].mean() <= 0.5
    assert 0.3 <= labels["blockage_ahead"].mean() <= 0.65
    assert np.bincount(labels["beam_sector"], minlength=8).min() > 50


def test_sensors_miss_events() -> None:
    assert len(load("gps")) < len(load("beam")) == 1200
    assert len(load("gps", dropout=0.0)) == 1200


SENSORS = {
    "camera": camera.render,
    "lidar": lidar.scan,
    "radar": radar.measure,
    "beam": beam.sweep,
    "gps": gps.read,
}


def changed_by(world: World, **change: Any) -> set[str]:
    """Return the sensors that see a difference when the world alone is changed, not their noise."""
    other = replace(world, **change)
    return {
        name
        for name, sensor in SENSORS.items()
        if not np.array_equal(
            sensor(world, np.random.default_rng(1)), sensor(other, np.random.default_rng(1))
        )
    }


@pytest.mark.slow
def test_each_pair_shares_what_a_third_lacks() -> None:
    """The table in the package's docstring, by intervention: change one factor, see who notices."""
    world = build_world(
        0, events=400, frames=20, horizon=5, night=0.25, fog=0.2, traffic=0.75, trees=0.5
    )
    swapped = np.arange(world.exists.shape[1])
    swapped[[0, 1]] = swapped[[1, 0]]
    both = replace(world, exists=np.ones_like(world.exists), night=np.zeros_like(world.night))
    user_swap = {
        name: getattr(both, name)[:, swapped]
        for name in ("centre", "size", "velocity", "colour", "cross_section", "kind")
    }
    assert changed_by(world, reflector=np.full_like(world.reflector, np.nan)) == {"radar", "beam"}
    assert changed_by(world, colour=1 - world.colour) == {"camera", "lidar"}
    assert changed_by(world, fog=world.fog + 0.03) == {"camera", "lidar"}
    assert changed_by(world, trees=np.where(world.trees > 0, 0.0, 0.7)) == {
        "camera",
        "lidar",
        "gps",
    }
    assert changed_by(world, velocity=-world.velocity) == {"radar", "gps"}
    assert changed_by(world, braking=~world.braking) == {"camera"}
    assert changed_by(world, night=~world.night) == {"camera"}
    # Which vehicle is the user: nothing about the road differs, only who is served.
    assert changed_by(both, **user_swap) == {"camera", "beam", "gps"} | _reordered(both, user_swap)


def _reordered(world: World, change: dict[str, Any]) -> set[str]:
    """Return the sensors whose sums come out in another order.

    That they differ in rounding alone is checked first.
    """
    other = replace(world, **change)
    for name in ("lidar", "radar"):
        one, two = (SENSORS[name](each, np.random.default_rng(1)) for each in (world, other))
        np.testing.assert_allclose(one, two, atol=2e-4)
    return changed_by(world, **change) & {"lidar", "radar"}


@pytest.mark.parametrize(
    "options",
    [
        {"events": 0},
        {"frames": 2000},
        {"night": 1.5},
        {"trees": -0.1},
        {"dropout": -1.0},
        {"test": 0.7, "validation": 0.3},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.options"):
        load("camera", **options)
