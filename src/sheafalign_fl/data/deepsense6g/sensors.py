"""The modalities of DeepSense 6G: which columns each is read from, and how files become arrays."""

from sheafalign_fl.data.deepsense6g.labels import BEAMS
from sheafalign_fl.data.readers.clouds import AngleScan, CloudPoints, RangeImage
from sheafalign_fl.data.readers.links import BeamPower, Position
from sheafalign_fl.data.readers.pictures import CameraPicture
from sheafalign_fl.data.readers.radar import RadarMaps
from sheafalign_fl.data.sensor_frames import Sensor

SENSORS: dict[str, tuple[tuple[str, ...], Sensor]] = {
    "camera": (
        ("camera",),
        Sensor(CameraPicture(64, 64), "camera", "channels", "(window, 64, 64)", "grey picture"),
    ),
    "camera-colour": (
        ("camera",),
        Sensor(
            CameraPicture(64, 112, grey=False),
            "camera",
            "channels",
            "(3 window, 64, 112)",
            "colour picture",
        ),
    ),
    "lidar": (
        ("lidar",),
        Sensor(
            RangeImage(),
            "range-image",
            "channels",
            "(2 window, 16, 128)",
            "range (m) and intensity, all round",
        ),
    ),
    "lidar-points": (
        ("lidar",),
        Sensor(
            CloudPoints(),
            "points",
            "frames",
            "(window, 4, 256)",
            "x, y, z and intensity of 256 points",
        ),
    ),
    "lidar-scan": (
        ("scan",),
        Sensor(
            AngleScan(),
            "scan",
            "channels",
            "(window, 216)",
            "range (m) in 216 directions; authors' variant, older series",
        ),
    ),
    "radar": (
        ("radar",),
        Sensor(
            RadarMaps(),
            "radar",
            "channels",
            "(2 window, 64, 64)",
            "range-angle and range-Doppler maps, dB",
        ),
    ),
    "beam": (
        ("power",),
        Sensor(
            BeamPower(BEAMS), "beam", "frames", "(window, 64)", "received power in 64 beams, dB"
        ),
    ),
    "gps": (
        ("user", "unit"),
        Sensor(
            Position(),
            "vector",
            "channels",
            "(2 window,)",
            "the user's metres east and north of the unit",
        ),
    ),
}
"""Modality -> the roles of its columns (see `columns.ALIASES`), and how its files are read."""
