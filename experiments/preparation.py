"""Time and memory of preparing recordings: to read each format, and to load it from the cache.

``python -m experiments.preparation [--events 10000] [--only camera,radar]`` makes one file of every
format in its full size, links it as often as there are events, and reads them all in a process of
its own. The files lie in the page cache, so this is the processor's part; a slow disk adds its own.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image
from rich.console import Console
from rich.table import Table

from sheafalign_fl.data.preparation import prepare
from sheafalign_fl.data.readers import Reader
from sheafalign_fl.data.readers.bodies import (
    BinaryPoints,
    DepthRecording,
    InertialRecording,
    Keypoints,
    SkeletonRecording,
)
from sheafalign_fl.data.readers.clouds import AngleScan, CloudPoints, RangeImage
from sheafalign_fl.data.readers.links import BeamPower, ChannelState
from sheafalign_fl.data.readers.pictures import CameraPicture, DepthPicture
from sheafalign_fl.data.readers.radar import RadarMaps

_rng = np.random.default_rng(0)


def _jpeg(path: Path) -> None:
    smooth = Image.fromarray(_rng.integers(0, 256, (27, 48, 3), dtype=np.uint8)).resize((960, 540))
    smooth.save(path, quality=90)


def _ply(path: Path) -> None:
    header = (
        "ply\nformat ascii 1.0\nelement vertex 18000\n"
        "property double x\nproperty double y\nproperty double z\n"
    )
    rows = "\n".join(
        f"{x:.6f} {y:.6f} {z:.6f} {int(abs(x) * 9)}" for x, y, z in _rng.normal(0, 9, (18_000, 3))
    )
    path.write_text(f"{header}property ushort intensity\nend_header\n{rows}\n")


def _depth(path: Path) -> None:
    ramp = np.linspace(800, 4000, 480)[:, None] + 3 * _rng.integers(0, 5, (480, 640))
    Image.fromarray(ramp.astype(np.uint16)).save(path)


def _mat(key: str, values: np.ndarray[Any, Any]) -> Callable[[Path], None]:
    return lambda path: scipy.io.savemat(path, {key: values})


def _binary(points: int, columns: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(_rng.normal(size=(points, columns)).tobytes())

    return write


def _complex(path: Path) -> None:
    np.save(
        path,
        (_rng.normal(size=(4, 256, 250)) + 1j * _rng.normal(size=(4, 256, 250))).astype(
            np.complex64
        ),
    )


FORMATS: Mapping[str, tuple[Reader, str, Callable[[Path], None]]] = {
    "DeepSense 6G camera": (CameraPicture(), "jpg", _jpeg),
    "DeepSense 6G LiDAR, range image": (RangeImage(), "ply", _ply),
    "DeepSense 6G LiDAR, points": (CloudPoints(), "ply", _ply),
    "DeepSense 6G LiDAR, authors' scan": (
        AngleScan(),
        "mat",
        _mat("data", _rng.uniform(0, 3, (460, 2))),
    ),
    "DeepSense 6G radar": (RadarMaps(), "npy", _complex),
    "DeepSense 6G beam power": (BeamPower(), "txt", lambda path: np.savetxt(path, _rng.random(64))),
    "MM-Fi Wi-Fi CSI": (ChannelState(), "mat", _mat("CSIamp", _rng.uniform(1, 30, (3, 114, 10)))),
    "MM-Fi mmWave": (BinaryPoints(5, 64), "bin", _binary(60, 5)),
    "MM-Fi LiDAR": (BinaryPoints(3, 256), "bin", _binary(1200, 3)),
    "MM-Fi depth": (DepthPicture(48, 64), "png", _depth),
    "MM-Fi keypoints": (Keypoints(), "npy", lambda path: np.save(path, _rng.normal(size=(17, 2)))),
    "UTD-MHAD inertial": (InertialRecording(), "mat", _mat("d_iner", _rng.normal(size=(180, 6)))),
    "UTD-MHAD skeleton": (
        SkeletonRecording(),
        "mat",
        _mat("d_skel", _rng.normal(size=(20, 3, 60))),
    ),
    "UTD-MHAD depth": (
        DepthRecording(),
        "mat",
        _mat("d_depth", _rng.integers(0, 4000, (240, 320, 60)).astype(np.uint16)),
    ),
}


def _peak_kilobytes() -> int:
    """Return the most memory that this process has had; `getrusage` counts its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def _measure(name: str, events: int, folder: str, answers: Any) -> None:
    os.environ["XDG_CACHE_HOME"] = folder
    reader, ending, write = FORMATS[name]
    original = Path(folder) / f"0.{ending}"
    write(original)
    files = [(original,)]
    for number in range(1, events):
        path = original.with_name(f"{number}.{ending}")
        path.hardlink_to(original)
        files.append((path,))
    before, start = _peak_kilobytes(), time.perf_counter()
    prepared = prepare(reader, files, name)
    read, peak = time.perf_counter() - start, _peak_kilobytes()
    start = time.perf_counter()
    again = prepare(reader, files, name)
    answers.put(
        {
            "format": name,
            "events": events,
            "file_kilobytes": round(original.stat().st_size / 1e3, 1),
            "seconds": round(read, 4),
            "seconds_again": round(time.perf_counter() - start, 4),
            "megabytes_more": round((peak - before) / 1e3),
            "megabytes_of_result": round(prepared.x.nbytes / 1e6),
            "read_again": again.read,
        }
    )


def main() -> None:
    """Measure every format and print a table, or one JSON object a line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--only", default="", help="parts of names, comma-separated")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    wanted = [
        name
        for name in FORMATS
        if any(part.lower() in name.lower() for part in given.only.split(","))
    ]
    context = multiprocessing.get_context(
        "spawn"
    )  # a process of its own for each, so that its peak memory is its own
    table = Table(
        "format",
        "file",
        "read",
        "again",
        "memory",
        "of it the result",
        title=f"{given.events} events",
    )
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="sheafalign-preparation-") as folder:
            answers = context.SimpleQueue()
            process = context.Process(target=_measure, args=(name, given.events, folder, answers))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{name}: failed")
            row = answers.get()
        if given.json:
            print(json.dumps(row), flush=True)
        table.add_row(
            name,
            f"{row['file_kilobytes']} kB",
            f"{row['seconds']:.1f} s",
            f"{row['seconds_again']:.2f} s",
            f"{row['megabytes_more']} MB",
            f"{row['megabytes_of_result']} MB",
        )
    if not given.json:
        Console().print(table)


if __name__ == "__main__":
    main()
