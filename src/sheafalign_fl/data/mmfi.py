"""`mmfi`: MM-Fi, activities of 40 subjects before Wi-Fi, radar, LiDAR and cameras.

The data set is that of Yang et al. (arXiv 2305.10345).

Files of the user's: ``E01/S01/A01/wifi-csi/frame001.mat`` and so on. Copies that begin at
``S01/A01`` or at ``A01/S01`` (the older toolbox), or lie one or two folders deeper, are the same
recordings: the environment follows from the subject. A machine needs the folders of its own
modality only. Subjects are split, never recordings.
"""

import re
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.description import Labels, Modality, Option, SourceInfo
from sheafalign_fl.data.readers.bodies import BinaryPoints, Keypoints
from sheafalign_fl.data.readers.links import ChannelState
from sheafalign_fl.data.readers.pictures import DepthPicture
from sheafalign_fl.data.sensor_frames import (
    OPTIONS,
    Sensor,
    SensorFrames,
    check_options,
    load_sensor_frames,
)
from sheafalign_fl.errors import DataError
from sheafalign_fl.listing import listed

_PLACE, _SUBJECT, _ACTIVITY = "E[0-9][0-9]", "S[0-9][0-9]", "A[0-9][0-9]"
_LAYOUTS = (
    f"{_PLACE}/{_SUBJECT}/{_ACTIVITY}",
    f"{_PLACE}/{_ACTIVITY}/{_SUBJECT}",
    f"{_SUBJECT}/{_ACTIVITY}",
    f"{_ACTIVITY}/{_SUBJECT}",
)
_DEEPER = ("", "*/", "*/*/")
_SUBJECTS_OF_A_PLACE = 10
SUBJECTS = tuple(f"S{number:02d}" for number in range(1, 41))
ACTIVITIES = tuple(f"A{number:02d}" for number in range(1, 28))
_MOST_FRAMES = 10_000
"""Of a recording; they have 297. Event ids have room for so many."""
_SENSORS: dict[str, tuple[str, tuple[str, ...], Sensor]] = {
    "csi": (
        "mat",
        ("wifi-csi",),
        Sensor(
            ChannelState(),
            "csi",
            "samples",
            "(3, 114, 10 window)",
            "Wi-Fi amplitudes: antenna, subcarrier, time",
        ),
    ),
    "mmwave": (
        "bin",
        ("mmwave",),
        Sensor(
            BinaryPoints(5, 64),
            "points",
            "frames",
            "(window, 5, 64)",
            "x, y, z, Doppler and intensity of 64 points",
        ),
    ),
    "lidar": (
        "bin",
        ("lidar",),
        Sensor(
            BinaryPoints(3, 256), "points", "frames", "(window, 3, 256)", "x, y and z of 256 points"
        ),
    ),
    "depth": (
        "png",
        ("depth",),
        Sensor(DepthPicture(48, 64), "depth", "channels", "(window, 48, 64)", "depth (m)"),
    ),
    "rgb": (
        "npy",
        ("rgb",),
        Sensor(
            Keypoints(),
            "skeleton",
            "time",
            "(2, 17, window)",
            "keypoints of the body in the colour camera",
        ),
    ),
    "infra": (
        "npy",
        ("infra", "infra1"),
        Sensor(
            Keypoints(),
            "skeleton",
            "time",
            "(2, 17, window)",
            "keypoints in the (first) infrared camera",
        ),
    ),
    "infra2": (
        "npy",
        ("infra2",),
        Sensor(
            Keypoints(),
            "skeleton",
            "time",
            "(2, 17, window)",
            "keypoints in the second infrared camera",
        ),
    ),
}
"""Modality -> the ending of its files, the folders that they may lie in, and how they are read."""

INFO = SourceInfo(
    name="mmfi",
    summary=(
        "MM-Fi: 27 activities of 40 subjects in Wi-Fi, mmWave radar, LiDAR, depth, keypoints; "
        "split by subject."
    ),
    origin="your files, from https://ntu-aiot-lab.github.io/mm-fi",
    modalities=tuple(
        Modality(name, sensor.shape, sensor.meaning) for name, (_, _, sensor) in _SENSORS.items()
    ),
    options=(
        *OPTIONS,
        Option("window", "int", 10, "frames of an event, ten a second"),
        Option("stride", "int", 10, "frames from one event to the next"),
        Option("phase", "bool", False, "csi: phases as 3 further links, (6, 114, 10 window)"),
    ),
    labels=(Labels("activity", ACTIVITIES, "what the subject does"),),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return one modality of all recordings in the folder.

    Raises
    ------
    ConfigError
        An option is out of range.
    DataError
        There are no recordings with the modality, or its files are not as they should be.
    """
    check_options(options, INFO.name)
    frames = _frames(Path(str(options["path"])), modality)
    sensor = _SENSORS[modality][2]
    if modality == "csi" and options["phase"]:
        sensor = replace(sensor, reader=ChannelState(phase=True))
    window, stride = int(options["window"]), int(options["stride"])
    return load_sensor_frames(frames, sensor, modality, seed, options, window=window, stride=stride)


def present(folder: Path) -> list[str]:
    """Return the modalities of which there is a folder in some recording."""
    recordings = _recordings(folder)
    there = {path.name for recording in recordings for path in listed(recording) if path.is_dir()}
    return [name for name, (_, folders, _) in _SENSORS.items() if there & set(folders)]


def _recordings(folder: Path) -> list[Path]:
    """Return the folders of all recordings, in whichever layout they lie highest."""
    known = {name for _, names, _ in _SENSORS.values() for name in names}
    for deeper in _DEEPER:
        for layout in _LAYOUTS:
            found = [path for path in listed(folder, deeper + layout) if path.is_dir()]
            if any((path / name).is_dir() for path in found for name in known):
                return found
    return []


def _named(recording: Path) -> tuple[int, int, int]:
    """Return the numbers of a recording's place, subject and activity, from its folder's path."""
    place, *last = recording.parts[-3:]
    subject, activity = sorted(last, reverse=True)  # S after A
    if subject not in SUBJECTS or activity not in ACTIVITIES:
        raise DataError(f"{recording}: MM-Fi has subjects S01 to S40 and activities A01 to A27")
    number = int(subject[1:])
    if fnmatch(place, _PLACE):
        return int(place[1:]), number, int(activity[1:])
    return (number - 1) // _SUBJECTS_OF_A_PLACE + 1, number, int(activity[1:])


def _frames(folder: Path, modality: str) -> SensorFrames:
    if not folder.is_dir():
        raise DataError(f"data.options.path: there is no folder {folder}")
    ending, names, _ = _SENSORS[modality]
    found: dict[tuple[int, int, int, int], Path] = {}
    for recording in _recordings(folder):
        numbers = _named(recording)
        for path in (path for name in names for path in listed(recording / name, f"*.{ending}")):
            key = (*numbers, _number(path))
            if key in found:
                raise DataError(f"{path}: is there twice, also as {found[key]}")
            found[key] = path
    if not found:
        raise DataError(
            f"{folder}: there is no E??/S??/A??/{names[0]}/*.{ending} "
            "(nor S??/A??, nor A??/S??) in it or up to two folders below; "
            "is it the root of MM-Fi?"
        )
    place_, subject_, activity_, frame = np.array(list(found), dtype=np.int64).T
    recording_ = (place_ * 100 + subject_) * 100 + activity_
    return SensorFrames(
        files=[(path,) for path in found.values()],
        where=[str(path.parent.relative_to(folder)) for path in found.values()],
        event_ids=recording_ * _MOST_FRAMES + frame,
        recording=recording_,
        position=frame - 1,
        group=np.array([SUBJECTS[number - 1] for number in subject_.tolist()]),
        groups=SUBJECTS,
        labels={"activity": activity_ - 1},
        classes={"activity": ACTIVITIES},
        notes=(f"{len(np.unique(recording_))} recordings of {len(np.unique(subject_))} subjects",),
    )


def _number(path: Path) -> int:
    """Return the number of a frame, the last in its file's name."""
    match = re.search(r"(\d+)(?!.*\d)", path.stem)
    if match is None or int(match.group()) >= _MOST_FRAMES:
        raise DataError(
            f"{path}: the name of a frame must hold its number (below {_MOST_FRAMES}), "
            f"such as frame001{path.suffix}"
        )
    return int(match.group())
