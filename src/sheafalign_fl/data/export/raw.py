"""What the sensors of `scenes` would record, unprocessed: the bytes of one file for each event.

Each function takes the part of a world to record, the generator of its noise, and `light`: small
files instead of the real sensor's size.
"""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.io import savemat

from sheafalign_fl.data.scenes import beam, camera, gps, lidar, radar
from sheafalign_fl.data.scenes.world import Array, World

PICTURE, PICTURE_LIGHT = (960, 540), (96, 54)
"""Width and height in pixels."""
_JPEG_QUALITY = 90

_RINGS, _AZIMUTHS = (
    np.radians(np.linspace(3.0, -15.0, 37)),
    np.radians(np.linspace(-65.0, 65.0, 500)),
)
_SCAN = 512
INTENSITY = 1000
"""Intensity in a point cloud of a surface that reflects everything."""
_PLY_HEADER = """ply
format ascii 1.0
element vertex {count}
property double x
property double y
property double z
property ushort intensity
end_header
"""
_MAT_TEXT = b"MATLAB 5.0 MAT-file, sheafalign-fl".ljust(116)
"""In place of the text that `savemat` writes, which has the date in it."""

ANTENNAS = 4
CUBE, CUBE_LIGHT = (256, 250), (64, 32)
"""Samples of a chirp, and chirps."""
MAX_DISTANCE, MAX_SPEED = 64.0, 25.0
"""Where the beat frequency reaches the sampling rate (m), and the phase between chirps half a turn
(m/s)."""
_RADAR_GAIN = 1000.0

POWER_GAIN = 1e7
"""What the mmWave receiver multiplies power by, so that it is near 1 at its strongest."""

LATITUDE, LONGITUDE = 33.4, -111.9
"""Of the unit, degrees. The world's x points east, y north."""
METRES_PER_DEGREE = 111_320.0


def pictures(world: World, rng: np.random.Generator, *, light: bool) -> Iterator[bytes]:
    """Yield JPEG pictures."""
    size = PICTURE_LIGHT if light else PICTURE
    bright = camera.render(world, rng) * camera.SCALE + camera.MEAN
    pixels = np.rint(255 * np.clip(bright, 0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)
    for picture in pixels:
        image = Image.fromarray(np.ascontiguousarray(picture)).resize(
            size, Image.Resampling.BICUBIC
        )
        with io.BytesIO() as file:
            image.save(file, "JPEG", quality=_JPEG_QUALITY)
            yield file.getvalue()


def point_clouds(world: World, rng: np.random.Generator, *, light: bool) -> Iterator[bytes]:
    """Yield ASCII PLY files of the rays that return: x, y, z from the sensor, and intensity.

    Coordinates are in metres, along the axes of the world.
    """
    rays = lidar.directions() if light else lidar.directions(_RINGS, _AZIMUTHS)
    for event in range(len(world)):
        distance, shine = (
            values[0] for values in lidar.returns(world, slice(event, event + 1), rays, rng)
        )
        there = distance < lidar.MAX_RANGE
        intensity = np.rint(INTENSITY * np.clip(shine[there], 0, 1))
        points = np.column_stack([rays[there] * distance[there, None], intensity])
        lines = "%.3f %.3f %.3f %d\n" * len(points) % tuple(points.ravel().tolist())
        yield (_PLY_HEADER.format(count=len(points)) + lines).encode("ascii")


def scans(world: World, rng: np.random.Generator, *, light: bool) -> Iterator[bytes]:
    """Yield MAT files with a level scan, `data` (rays, 2): range (m) and azimuth (rad).

    The maximum range stands for a ray that does not return.
    """
    angles = lidar.AZIMUTHS if light else np.linspace(lidar.AZIMUTHS[0], lidar.AZIMUTHS[-1], _SCAN)
    rays = lidar.directions(np.zeros(1), angles)
    for event in range(len(world)):
        distance, _ = lidar.returns(world, slice(event, event + 1), rays, rng)
        with io.BytesIO() as file:
            savemat(file, {"data": np.column_stack([distance[0], angles])})
            yield _MAT_TEXT + file.getvalue()[len(_MAT_TEXT) :]


def beat_signals(world: World, rng: np.random.Generator, *, light: bool) -> Iterator[bytes]:
    """Yield NPY files with an FMCW radar's cube (antennas, samples, chirps), complex64.

    A target's phase grows over samples with its distance (a full turn for each sample at
    `MAX_DISTANCE`), over chirps with its radial velocity (half a turn at `MAX_SPEED`, receding),
    and over antennas, half a wavelength apart, with the sine of its angle. It stays in its range
    bin for the length of a frame; farther targets are filtered out.
    """
    samples, chirps = CUBE_LIGHT if light else CUBE
    found = radar.targets(world)
    amplitude = np.sqrt(np.where(found.distance < MAX_DISTANCE, found.power, 0.0))
    # A Fourier transform over samples and chirps, divided by their number, has the noise of the
    # maps of `scenes`.
    noise = np.sqrt(10 ** (radar.FLOOR_DB / 10) * samples * chirps / 2)
    for event in range(len(world)):
        start = amplitude[event] * np.exp(2j * np.pi * rng.random(amplitude.shape[1]))
        over_antennas = _turning(found.sine[event] / 2, ANTENNAS)
        over_samples = _turning(found.distance[event] / MAX_DISTANCE, samples)
        over_chirps = _turning(found.radial[event] / (2 * MAX_SPEED), chirps)
        first = (
            (over_antennas[:, None] * over_samples * start)
            .reshape(-1, len(start))
            .astype(np.complex64)
        )
        cube = (first @ over_chirps.T.astype(np.complex64)).reshape(ANTENNAS, samples, chirps)
        parts = rng.standard_normal((*cube.shape, 2), dtype=np.float32)
        cube = np.float32(_RADAR_GAIN) * (
            cube + np.float32(noise) * parts.view(np.complex64)[..., 0]
        )
        with io.BytesIO() as file:
            np.save(file, cube)
            yield file.getvalue()


def _turning(turns: Array, steps: int) -> Array:
    """Return phasors (steps, targets) that turn by `turns` (targets,) each step."""
    return np.asarray(np.exp(2j * np.pi * np.arange(steps)[:, None] * turns.astype(np.float64)))


def sweeps(world: World, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return measured power (E, 64), linear, and the strongest beam (E,), counted from 0.

    The strongest is that of the noiseless sweep; where noise lets another beam seem stronger, the
    two change places, since in the data set a label is the strongest beam of its sweep.
    """
    measured, best = POWER_GAIN * beam.received(world, rng), beam.power(world).argmax(axis=1)
    rows, seeming = np.arange(len(world)), measured.argmax(axis=1)
    measured[rows, best], measured[rows, seeming] = measured[rows, seeming], measured[rows, best]
    return measured, best


def numbers(values: Array) -> bytes:
    """Return a text file of numbers, one a line."""
    return (
        "".join(f"{value:.9e}\n" for value in values.tolist()).replace("nan", "NaN").encode("ascii")
    )


def positions(world: World, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return the user's latitude and longitude (E, 2), velocity east, m/s, reported dilution."""
    position, velocity, reported = gps.fixes(world, rng)
    return degrees(position), velocity, np.exp(reported)


def degrees(position: Array) -> Array:
    """Return latitude and longitude, (..., 2), of x and y in metres."""
    east = METRES_PER_DEGREE * np.cos(np.radians(LATITUDE))
    return np.stack(
        [LATITUDE + position[..., 1] / METRES_PER_DEGREE, LONGITUDE + position[..., 0] / east],
        axis=-1,
    )


def location(place: Array) -> bytes:
    """Return a text file of two lines, latitude and longitude, to nine decimals.

    The last decimal is a tenth of a millimetre.
    """
    return "".join(f"{value:.9f}\n" for value in place.tolist()).encode("ascii")
