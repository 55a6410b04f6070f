"""`utd-mhad`: UTD-MHAD, 27 actions of 8 subjects, inertial and Kinect (Chen et al., ICIP 2015).

Files of the user's: ``a1_s1_t1_inertial.mat``, ``a1_s1_t1_skeleton.mat``, ``a1_s1_t1_depth.mat``
and so on, in any folders below. An event is a recording. Subjects are split, never recordings.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.description import Labels, Modality, SourceInfo
from sheafalign_fl.data.readers.bodies import DepthRecording, InertialRecording, SkeletonRecording
from sheafalign_fl.data.sensor_frames import (
    OPTIONS,
    Sensor,
    SensorFrames,
    check_options,
    load_sensor_frames,
)
from sheafalign_fl.errors import DataError
from sheafalign_fl.listing import listed

ACTIONS = (
    "swipe left", "swipe right", "wave", "clap", "throw", "arm cross", "basketball shoot",
    "draw x", "draw circle CW", "draw circle CCW", "draw triangle", "bowling", "boxing",
    "baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch",
    "pickup throw", "jog", "walk", "sit to stand",
    "stand to sit", "lunge", "squat",
)  # fmt: skip
SUBJECTS, TRIALS, RECORDINGS = 8, 4, 861
_NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)_(\w+)\.mat")
_SENSORS = {
    "inertial": Sensor(
        InertialRecording(), "inertial", shape="(6, 128)", meaning="acceleration, angular velocity"
    ),
    "skeleton": Sensor(
        SkeletonRecording(), "skeleton", "frames", "(3, 20, 48)", "20 joints in 48 frames"
    ),
    "depth": Sensor(
        DepthRecording(), "depth", shape="(8, 48, 64)", meaning="depth (m) in 8 frames"
    ),
}

INFO = SourceInfo(
    name="utd-mhad",
    summary=(
        "UTD-MHAD: 27 actions of 8 subjects with an inertial sensor, skeletons and depth; "
        "split by subject."
    ),
    origin="your files, from https://personal.utdallas.edu/~kehtar/UTD-MHAD.html",
    modalities=tuple(
        Modality(name, sensor.shape, sensor.meaning) for name, sensor in _SENSORS.items()
    ),
    options=OPTIONS,
    labels=(Labels("action", ACTIONS, "what the subject does"),),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return one modality of all recordings in the folder, resampled to one length.

    Raises
    ------
    ConfigError
        An option is out of range.
    DataError
        There are no recordings with the modality, or its files are not as they should be.
    """
    check_options(options, INFO.name)
    frames = _frames(Path(str(options["path"])), modality)
    return load_sensor_frames(
        frames, _SENSORS[modality], modality, seed, options, window=1, stride=1
    )


def present(folder: Path) -> list[str]:
    """Return the modalities of which there is a recording."""
    return [name for name in _SENSORS if listed(folder, f"**/a*_s*_t*_{name}.mat")]


def _frames(folder: Path, modality: str) -> SensorFrames:
    if not folder.is_dir():
        raise DataError(f"data.options.path: there is no folder {folder}")
    found: dict[tuple[int, int, int], Path] = {}
    for path in listed(folder, f"**/a*_s*_t*_{modality}.mat"):
        match = _NAME.fullmatch(path.name)
        if match is None or match[4] != modality:
            continue
        key = (int(match[1]), int(match[2]), int(match[3]))
        if not (1 <= key[0] <= len(ACTIONS) and 1 <= key[1] <= SUBJECTS and 1 <= key[2] <= TRIALS):
            raise DataError(
                f"{path}: UTD-MHAD has actions a1 to a27, subjects s1 to s8 and trials t1 to t4"
            )
        if key in found:
            raise DataError(f"{path}: is there twice, also as {found[key]}")
        found[key] = path
    if not found:
        raise DataError(f"{folder}: there is no a*_s*_t*_{modality}.mat in it or below")
    action, subject, trial = np.array(list(found), dtype=np.int64).T
    ids = action * 100 + subject * 10 + trial
    absent = RECORDINGS - len(found)
    return SensorFrames(
        files=[(path,) for path in found.values()],
        where=[f"action {a}, subject {s}, trial {t}" for a, s, t in found],
        event_ids=ids,
        recording=ids,
        position=np.zeros_like(ids),
        group=np.array([f"s{number}" for number in subject.tolist()]),
        groups=[f"s{number}" for number in range(1, SUBJECTS + 1)],
        labels={"action": action - 1},
        classes={"action": ACTIONS},
        notes=(f"{absent} of the {RECORDINGS} recordings are not here",) if absent > 0 else (),
    )
