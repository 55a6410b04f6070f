"""The mmWave link at 60 GHz: the user's received power in 64 beams of a uniform linear array."""

import numpy as np

from sheafalign_fl.data.scenes.geometry import clearance
from sheafalign_fl.data.scenes.world import UNIT_HEIGHT, WALL, Array, World

ANTENNAS, BEAMS = 32, 64
SINES = np.linspace(-0.93, 0.93, BEAMS)
"""Sine of the direction that each beam points to."""
WAVELENGTH = 0.005
_WALL_LOSS_DB, _VEHICLE_LOSS_DB, _SIGN_LOSS_DB = 12.0, 22.0, 9.0
_NOISE_DB = -112.0
SECTORS = 8


def sweep(world: World, rng: np.random.Generator) -> Array:
    """Return measured power (E, 64): dB, about zero mean and unit scale."""
    measured = 10 * np.log10(received(world, rng))
    return ((measured + 100.0) / 12.0).astype(np.float32)


def received(world: World, rng: np.random.Generator) -> Array:
    """Return measured power, with fading and noise, (E, 64), linear, relative to what was sent."""
    noise = 10 ** (_NOISE_DB / 10) * rng.exponential(1.0, (len(world), BEAMS))
    fading = 10 ** (rng.normal(0.0, 0.4, (len(world), BEAMS)) / 10)
    return np.asarray(power(world) * fading + noise)


def power(world: World) -> Array:
    """Return the noiseless power received in each beam, (E, 64), linear, relative to that sent."""
    sines, gains = paths(world)
    received = np.zeros((len(world), BEAMS))
    for path in range(sines.shape[1]):  # a loop over some ten paths keeps memory at one beam map
        received += gains[:, path, None] * array_gain(sines[:, path, None])
    return received


def best_sector(world: World) -> Array:
    """Return which eighth of the beams holds the strongest, (E,)."""
    return np.asarray(power(world).argmax(axis=1) * SECTORS // BEAMS, dtype=np.int64)


def paths(world: World) -> tuple[Array, Array]:
    """Return paths' sine of arrival and power gain, (E, P): direct, wall, sign, other vehicles'."""
    antenna = world.antenna.astype(np.float64)
    x, y = antenna[:, 0], antenna[:, 1]
    direct = np.sqrt(x**2 + y**2 + (antenna[:, 2] - UNIT_HEIGHT) ** 2)
    direct_gain = _free_space(direct) * 10 ** (-blockage_loss_db(world) / 10)
    mirrored = np.hypot(x, 2 * WALL - y)
    others = world.centre[:, 1:].astype(np.float64)
    to_vehicle = np.hypot(others[..., 0], others[..., 1])
    onward = np.hypot(others[..., 0] - x[:, None], others[..., 1] - y[:, None])
    vehicle_gain = (
        _free_space(to_vehicle + onward) * 10 ** (-_VEHICLE_LOSS_DB / 10) * world.exists[:, 1:]
    )
    sign_x = np.nan_to_num(world.reflector[:, 0].astype(np.float64))
    to_sign = np.hypot(sign_x, WALL)
    sign_gain = _free_space(to_sign + np.hypot(sign_x - x, WALL - y)) * 10 ** (-_SIGN_LOSS_DB / 10)
    sign_gain = np.where(np.isfinite(world.reflector[:, 0]), sign_gain, 0.0)
    wall_gain = _free_space(mirrored) * 10 ** (-_WALL_LOSS_DB / 10)
    sines = [x / direct, x / mirrored, sign_x / to_sign, *(others[..., 0] / to_vehicle).T]
    gains = [direct_gain, wall_gain, sign_gain, *vehicle_gain.T]
    return np.stack(sines, axis=1), np.stack(gains, axis=1)


def blockage_loss_db(world: World) -> Array:
    """Return the direct path's loss over vehicles, (E,), dB: knife edges (ITU-R P.526), added."""
    above, crossed = clearance(world.antenna, world.centre[:, 1:], world.size[:, 1:], UNIT_HEIGHT)
    whole = np.hypot(world.antenna[:, 0], world.antenna[:, 1])[:, None].astype(np.float64)
    near = np.clip(np.hypot(world.centre[:, 1:, 0], world.centre[:, 1:, 1]), 0.5, whole - 0.5)
    parameter = above * np.sqrt(2 * whole / (WAVELENGTH * near * (whole - near)))
    shifted = parameter - 0.1
    loss = 6.9 + 20 * np.log10(np.sqrt(shifted**2 + 1) + shifted)
    counts = crossed & world.exists[:, 1:] & (parameter > -0.78)
    return np.asarray(np.where(counts, np.minimum(loss, 35.0), 0.0).sum(axis=1))


def array_gain(sine: Array) -> Array:
    """Return every beam's gain for a wave from `sine`: |sum of phasors|^2 / antennas, (..., 64)."""
    phase = np.pi * (sine - SINES)
    half = np.sin(phase / 2)
    ratio = np.where(
        np.abs(half) < 1e-9, ANTENNAS, np.sin(ANTENNAS * phase / 2) / np.where(half == 0, 1.0, half)
    )
    return np.square(ratio) / ANTENNAS


def _free_space(distance: Array) -> Array:
    return np.square(WAVELENGTH / (4 * np.pi * np.maximum(distance, 1.0)))
