"""The camera: a pinhole that looks across the road. Nearer vehicles hide farther ones."""

import numpy as np

from sheafalign_fl.data.scenes.world import (
    CROWN,
    LANES,
    TREES,
    UNIT_HEIGHT,
    VEHICLES,
    WALL,
    Array,
    World,
)

HEIGHT, WIDTH = 24, 48
FOCAL = WIDTH / 2 / np.tan(np.radians(50.0))
"""Focal length in pixels: 100 degrees across."""
HORIZON = 9.0
"""Row of the horizon."""
MEAN, SCALE = 0.4, 0.25
"""What `render` subtracts from brightness (0 to 1, and a little beyond), and divides it by."""
_CHUNK = 100
_FOG_GREY = 0.65


def project(x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    """Return column and row of points (x, y, z) by the pinhole formula; y > 0."""
    return WIDTH / 2 + FOCAL * x / y, HORIZON + FOCAL * (UNIT_HEIGHT - z) / y


def render(world: World, rng: np.random.Generator) -> Array:
    """Return pictures (E, 3, HEIGHT, WIDTH), about zero mean and unit scale."""
    pictures = np.empty((len(world), 3, HEIGHT, WIDTH), dtype=np.float32)
    noise = np.where(world.night, 0.05, 0.02).astype(np.float32)[:, None, None, None]
    for start in range(
        0, len(world), _CHUNK
    ):  # some pictures at a time keep memory at one copy of them
        rows = slice(start, start + _CHUNK)
        painted = _paint(world, rows)
        painted += noise[rows] * rng.standard_normal(painted.shape, dtype=np.float32)
        pictures[rows] = (painted - MEAN) / SCALE
    return pictures


def _paint(world: World, rows: slice) -> Array:
    """Paint background, then vehicles from far to near."""
    fog, night = world.fog[rows], world.night[rows]
    leaves = _crowns() * world.trees[rows, None, None, None]
    green = np.array([0.16, 0.36, 0.14], dtype=np.float32)[:, None, None]
    picture = _background() * (1 - leaves) + green * leaves
    picture = _light(picture, night)
    picture = _fogged(picture, fog, _background_distance()[None, None])
    order = np.argsort(-world.centre[rows, :, 1], axis=1)
    for rank in range(VEHICLES):
        chosen = order[:, rank]
        _paint_vehicle(picture, world, np.arange(rows.start, rows.start + len(fog)), chosen)
    return picture


def _paint_vehicle(picture: Array, world: World, events: Array, vehicle: Array) -> None:
    """Paint one vehicle of every event: body, window band, lights, and the user's antenna box."""
    centre, size = world.centre[events, vehicle], world.size[events, vehicle]
    exists, is_user = world.exists[events, vehicle], vehicle == 0
    near, far = centre[:, 1] - size[:, 1] / 2, centre[:, 1] + size[:, 1] / 2
    left, right = _span(centre[:, 0] - size[:, 0] / 2, centre[:, 0] + size[:, 0] / 2, near, far)
    _, top = project(near, near, size[:, 2])
    _, bottom = project(near, near, np.zeros_like(near))
    distance = np.hypot(centre[:, 0], near)
    night, fog = world.night[events], world.fog[events]
    body = world.colour[events, vehicle]
    _fill(picture, left, right, top, bottom, body, exists, night, fog, distance)
    glass = top + 0.12 * (bottom - top), top + 0.42 * (bottom - top)
    inset = 0.12 * (right - left)
    dark = np.full_like(body, 0.08)
    _fill(picture, left + inset, right - inset, *glass, dark, exists, night, fog, distance)
    rightwards = centre[:, 1] < (LANES[1] + LANES[2]) / 2
    low, high = top + 0.6 * (bottom - top), top + 0.85 * (bottom - top)
    lamp = np.maximum(1.0, 0.1 * (right - left))
    ends = {
        "front": np.where(rightwards, right - lamp, left),
        "back": np.where(rightwards, left, right - lamp),
    }
    bright = np.zeros_like(night)
    white = np.tile(np.array([1.0, 1.0, 0.85], dtype=np.float32), (len(events), 1))
    red = np.tile(np.array([1.0, 0.1, 0.05], dtype=np.float32), (len(events), 1))
    _fill(
        picture,
        ends["front"],
        ends["front"] + lamp,
        low,
        high,
        white,
        exists & night,
        bright,
        fog,
        distance,
    )
    braking = exists & world.braking[events, vehicle]
    _fill(
        picture, ends["back"], ends["back"] + lamp, low, high, red, braking, bright, fog, distance
    )
    middle = (left + right) / 2
    yellow = np.tile(np.array([1.0, 0.9, 0.1], dtype=np.float32), (len(events), 1))
    _fill(
        picture,
        middle - 0.8,
        middle + 0.8,
        top - 1.6,
        top,
        yellow,
        exists & is_user,
        night,
        fog,
        distance,
    )


def _span(low: Array, high: Array, near: Array, far: Array) -> tuple[Array, Array]:
    """Return the leftmost and rightmost column of a box."""
    corners = np.stack([project(x, y, y)[0] for x in (low, high) for y in (near, far)])
    return corners.min(axis=0), corners.max(axis=0)


def _fill(
    picture: Array,
    left: Array,
    right: Array,
    top: Array,
    bottom: Array,
    colour: Array,
    where: Array,
    night: Array,
    fog: Array,
    distance: Array,
) -> None:
    """Paint a rectangle in every picture of `where`, each pixel by how much of it is covered."""
    columns, rows = np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)
    across = np.clip(
        np.minimum(right[:, None], columns + 1) - np.maximum(left[:, None], columns), 0, 1
    )
    down = np.clip(np.minimum(bottom[:, None], rows + 1) - np.maximum(top[:, None], rows), 0, 1)
    cover = (down[:, :, None] * across[:, None, :] * where[:, None, None])[:, None].astype(
        np.float32
    )
    lit = _light(colour[:, :, None, None], night)
    seen = _fogged(lit, fog, distance[:, None, None, None])
    picture += cover * (seen - picture)


def _light(colour: Array, night: Array) -> Array:
    factor = np.where(night, 0.3, 1.0).astype(np.float32)
    return np.asarray(colour * factor[:, None, None, None])


def _fogged(colour: Array, fog: Array, distance: Array) -> Array:
    """Mix with the grey of the fog: contrast falls by exp(-extinction * distance) (Koschmieder)."""
    clear = np.exp(-fog[:, None, None, None] * distance).astype(np.float32)
    return np.asarray(colour * clear + _FOG_GREY * (1 - clear))


def _background() -> Array:
    """Return sky, building with windows, and road, (3, HEIGHT, WIDTH), by day."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    sky, wall, road = ([0.55, 0.7, 0.9], [0.5, 0.42, 0.36], [0.32, 0.32, 0.34])
    _, roof = project(np.zeros(()), np.asarray(WALL), np.asarray(9.0))
    _, foot = project(np.zeros(()), np.asarray(WALL), np.zeros(()))
    picture = np.empty((3, HEIGHT, WIDTH), dtype=np.float32)
    windows = ((columns.astype(int) % 5) < 2) & ((rows.astype(int) % 4) < 2)
    for channel in range(3):
        facade = np.where(windows, 0.25, wall[channel])
        ground = np.where((rows.astype(int) == 13) | (rows.astype(int) == 16), 0.6, road[channel])
        picture[channel] = np.where(
            rows < roof, sky[channel], np.where(rows < foot, facade, ground)
        )
    return picture


def _crowns() -> Array:
    """Return which pixels a row of trees covers, (HEIGHT, WIDTH), 1 or 0: adjacent half discs."""
    columns, rows = np.arange(WIDTH) + 0.5, np.arange(HEIGHT)[:, None] + 0.5
    _, foot = project(np.zeros(()), np.asarray(TREES), np.asarray(CROWN))
    across = (columns % 8 - 4) / 4
    top = foot - 6.5 * np.sqrt(1 - across**2)
    return ((rows > top) & (rows < foot)).astype(np.float32)


def _background_distance() -> Array:
    """Return how far the background is at every pixel, (HEIGHT, WIDTH), metres."""
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None] + 0.5
    ground = FOCAL * UNIT_HEIGHT / np.maximum(rows - HORIZON, 1e-3)
    return np.broadcast_to(np.minimum(ground, WALL), (HEIGHT, WIDTH)).astype(np.float32)
