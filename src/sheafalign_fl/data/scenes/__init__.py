"""`scenes`: a simulated roadside unit with camera, LiDAR, radar, mmWave beams and the user's GPS.

No files are needed. What a modality knows, and what it cannot know:

============================================  ======  =====  =====  ========  ===
factor                                        camera  lidar  radar  beam      gps
============================================  ======  =====  =====  ========  ===
where all vehicles are, their shapes          yes     yes    rough  echoes    --
brightness of their paint                     yes     yes    --     --        --
colour, night                                 yes     --     --     --        --
fog                                           yes     yes    --     --        --
trees                                         yes     yes    --     --        yes
which vehicle is the user, its direction      yes     --     --     yes       yes
the user's distance (lane)                    rough   --     --     in sight  yes
speeds                                        --      --     yes    --        own
standing still (brake lights)                 yes     --     yes    --        own
a metal sign on the wall (radio only)         --      --     yes    yes       --
whether the line to the user is blocked       infer   infer  infer  yes       --
============================================  ======  =====  =====  ========  ===

"infer", and "--" for the user, mean: the sensor sees vehicles but not which of them is the user,
who drives a car or a van and never in the nearest lane, so a little can be guessed. Every pair
shares something that a third lacks:

==============  =================================  =======
pair            shares                             lacking
==============  =================================  =======
camera, lidar   fog; brightness of paint           radar
camera, radar   vehicles that stand still          lidar
camera, beam    the direction of a user in sight   radar
camera, gps     the direction of a user in sight   radar
lidar, radar    how many vehicles are near         gps
lidar, beam     whether the user is blocked        gps
lidar, gps      the trees                          beam
radar, beam     the metal sign                     camera
radar, gps      the user's speed                   lidar
beam, gps       the user's direction               lidar
==============  =================================  =======

tests/data/test_scenes_probes.py measures each line with a linear probe.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from sheafalign_fl.data.base import ModalityData, assign_splits, check_fractions
from sheafalign_fl.data.description import Labels, Modality, Option, SourceInfo
from sheafalign_fl.data.scenes import beam, camera, gps, lidar, radar
from sheafalign_fl.data.scenes.world import Array, World, build_world
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.seeding import numpy_generator

_SENSORS: dict[str, Callable[[World, np.random.Generator], Array]] = {
    "camera": camera.render,
    "lidar": lidar.scan,
    "radar": radar.measure,
    "beam": beam.sweep,
    "gps": gps.read,
}
_DROPOUT = {"camera": 0.02, "lidar": 0.02, "radar": 0.01, "beam": 0.0, "gps": 0.08}

INFO = SourceInfo(
    name="scenes",
    summary=(
        "Simulated roadside unit: camera, LiDAR, radar, 64 mmWave beams, GPS; "
        "vehicles, occlusion, night, fog."
    ),
    origin="simulated here from the seed; no files",
    modalities=(
        Modality("camera", "(3, 24, 48)", "colour picture across the road, 100 degrees wide"),
        Modality("lidar", "(2, 6, 64)", "range and reflectivity of 6 rings of 64 rays"),
        Modality("radar", "(2, 32, 24)", "range-Doppler map and range-angle map, dB"),
        Modality("beam", "(64,)", "received power in 64 beams at 60 GHz, dB"),
        Modality(
            "gps",
            "(5,)",
            "the user's x, y, velocity, speed, and the accuracy that the receiver reports",
        ),
    ),
    options=(
        Option("events", "int", 10000, "number of events"),
        Option("frames", "int", 20, "frames of a sequence, ten a second"),
        Option("horizon", "int", 5, "frames that blockage_ahead looks ahead"),
        Option("night", "float", 0.25, "fraction of sequences at night"),
        Option("fog", "float", 0.2, "fraction of sequences in fog"),
        Option("traffic", "float", 0.75, "probability of each of eleven other vehicles"),
        Option(
            "trees",
            "float",
            0.5,
            "fraction of sequences with trees, whose leaves make the user's GPS worse",
        ),
        Option(
            "dropout",
            "float",
            1.0,
            "factor on how often sensors miss an event (camera 2 %, gps 8 %, ...)",
        ),
        Option("test", "float", 0.2, "fraction of sequences for testing"),
        Option("validation", "float", 0.1, "fraction of sequences for validation"),
    ),
    labels=(
        Labels(
            "blockage", ("clear", "blocked"), "a vehicle cuts the line from the unit to the user"
        ),
        Labels("blockage_ahead", ("clear", "blocked"), "... in any of the next `horizon` frames"),
        Labels(
            "beam_sector",
            tuple(f"sector {k}" for k in range(beam.SECTORS)),
            "eighth of the beams with the best",
        ),
    ),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return what one sensor sees of the world of `seed`; its noise has a generator of its own.

    Raises
    ------
    ConfigError
        An option is out of range.
    """
    _check(options)
    keys = ("events", "frames", "horizon", "night", "fog", "traffic", "trees")
    world = _world(seed, *(options[key] for key in keys))
    x = _SENSORS[modality](world, numpy_generator(seed, "scenes", modality))
    split = assign_splits(
        world.sequence, seed, test=float(options["test"]), validation=float(options["validation"])
    )
    labels = {
        "blockage": world.blocked.astype(np.int64),
        "blockage_ahead": world.blocked_ahead.astype(np.int64),
        "beam_sector": beam.best_sector(world),
    }
    classes = {label.name: label.classes for label in INFO.labels}
    missed = numpy_generator(seed, "scenes", "dropout", modality).random(len(world))
    kept = np.flatnonzero(missed >= _DROPOUT[modality] * float(options["dropout"]))
    lost = len(world) - len(kept)
    notes = (f"the sensor missed {lost} of {len(world)} events",) if lost else ()
    return ModalityData(x, world.event_ids, split, labels, classes, notes).take(kept)


@lru_cache(maxsize=2)
def _world(
    seed: int,
    events: int,
    frames: int,
    horizon: int,
    night: float,
    fog: float,
    traffic: float,
    trees: float,
) -> World:
    return build_world(
        seed,
        events=events,
        frames=frames,
        horizon=horizon,
        night=night,
        fog=fog,
        traffic=traffic,
        trees=trees,
    )


def _check(options: dict[str, Any]) -> None:
    for name in ("events", "frames", "horizon"):
        if options[name] < 1:
            raise ConfigError(f"data.options.{name}: must be 1 or more, not {options[name]}")
    if options["frames"] > 1000:
        raise ConfigError(f"data.options.frames: at most 1000, not {options['frames']}")
    for name in ("night", "fog", "traffic", "trees"):
        if not 0 <= options[name] <= 1:
            raise ConfigError(f"data.options.{name}: must be between 0 and 1, not {options[name]}")
    most = 1 / max(_DROPOUT.values())
    if not 0 <= options["dropout"] <= most:
        raise ConfigError(
            f"data.options.dropout: must be between 0 and {most:g}, not {options['dropout']}"
        )
    check_fractions(float(options["test"]), float(options["validation"]))
