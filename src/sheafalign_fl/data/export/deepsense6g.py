"""Scenes in the on-disk format of DeepSense 6G (scenarios 30 to 34), its traps included.

===========  ==============================================================================
variant      what it is like
===========  ==============================================================================
plain        scenarios 31 to 34, one row for each frame; `seq_index` starts at 1 in each
blockage     scenario 30: `unit1_blockage` besides
challenge    scenario 31, one row for each five frames that follow each other; no `seq_index`
authors      scenario 30 as the paper's authors prepared it: `blockage_label`, level
             LiDAR scans in MAT files
===========  ==============================================================================

In about 1 % of the power sweeps some lines are NaN. In half of these the strongest beam is among
them, and the label is the strongest of the others, which is wrong.
"""

import csv
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from sheafalign_fl.data.export import raw
from sheafalign_fl.data.scenes import INFO
from sheafalign_fl.data.scenes.beam import BEAMS
from sheafalign_fl.data.scenes.world import FRAME_SECONDS, Array, World, build_world
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.listing import is_free, remove_free
from sheafalign_fl.seeding import numpy_generator

Variant = Literal["plain", "blockage", "challenge", "authors"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
MODALITIES = ("camera", "beam", "lidar", "radar", "gps")
WINDOW = 5
"""Frames of a row of the challenge; the user's position is given for the first two."""
_MOST_FRAMES = 1000
_UNIT1_PLACE = "unit1/GPS_data/gps_location.txt"
_FAULTS = 0.01
_CLEAN, _FAULTY, _WRONG = 0, 1, 2
_FIRST_FRAME = datetime(2000, 1, 1, 11, 46, 31, 250_000)
_BETWEEN_SEQUENCES = 60.0

Row = dict[str, Any]


@dataclass(frozen=True)
class _Layout:
    """How a variant differs from the others; `files`: column and path of each modality's file."""

    scenarios: tuple[int, ...]
    files: dict[str, tuple[str, str]]
    least_frames: int = 1
    blockage: str | None = None


_FILES = {
    "camera": ("unit1_rgb", "unit1/camera_data/image_{}.jpg"),
    "beam": ("unit1_pwr_60ghz", "unit1/mmWave_data/mmwave_power_{}.txt"),
    "lidar": ("unit1_lidar", "unit1/lidar_data/lidar_frame_{}.ply"),
    "radar": ("unit1_radar", "unit1/radar_data/radar_data_{}.npy"),
    "gps": ("unit2_loc", "unit2/GPS_data/gps_location_{}.txt"),
}
_AUTHORS_FILES = {
    "camera": _FILES["camera"],
    "beam": ("unit1_pwr_60ghz", "unit1/mmWave_data/mmwave_power_{}_fixed.txt"),
    "lidar": ("unit1_lidar_SCR", "unit1/lidar_SCR_data/lidar_frame_{}.mat"),
    "gps": _FILES["gps"],
}
_LAYOUTS: dict[Variant, _Layout] = {
    "plain": _Layout((31, 32, 33, 34), _FILES),
    "blockage": _Layout((30,), _FILES, blockage="unit1_blockage"),
    "challenge": _Layout((31,), _FILES, least_frames=WINDOW),
    # Four frames are looked at, and the next two are to be foretold.
    "authors": _Layout((30,), _AUTHORS_FILES, least_frames=6, blockage="blockage_label"),
}


@dataclass(frozen=True)
class _Export:
    """What is asked for."""

    variant: Variant
    modalities: tuple[str, ...]
    frames: int
    seed: int
    light: bool

    @property
    def layout(self) -> _Layout:
        return _LAYOUTS[self.variant]

    def generator(self, purpose: str, sequence: int) -> np.random.Generator:
        """Return the generator of one sequence: files depend on no other sequence or modality."""
        return numpy_generator(self.seed, "export", purpose, sequence)


def export_deepsense6g(
    folder: Path,
    *,
    events: int,
    frames: int = 20,
    seed: int = 0,
    variant: Variant = "plain",
    modalities: Sequence[str] | None = None,
    light: bool = False,
    on_event: Callable[[int], None] | None = None,
) -> None:
    """Write scenes to `folder` in the format of DeepSense 6G; the same seed gives the same bytes.

    Parameters
    ----------
    folder
        Must not exist, or be empty. It appears when everything is written, and not before.
    events
        Number of frames, of all sequences together.
    frames
        Frames of a sequence; the last one may have fewer.
    seed
        Of the world (that of the source `scenes`, with its defaults) and of all noise.
    variant
        One of `VARIANTS`; the module says how they differ.
    modalities
        Which files and columns to write, of `MODALITIES`; default: all that the variant has.
    light
        Small files: pictures of 96 x 54, 384 LiDAR rays, radar cubes of (4, 64, 32).
    on_event
        Called with the number of events that are written.

    Raises
    ------
    ConfigError
        An argument is out of range or unknown.
    DataError
        `folder` is not empty, or cannot be written.
    """
    wanted = _Export(variant, _check(events, frames, variant, modalities), frames, seed, light)
    try:
        if not is_free(folder):
            raise DataError(
                f"{folder}: exists already; give a folder that does not, or an empty one"
            )
        target = folder.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as partial:
            written = Path(partial) / target.name
            _write(written, wanted, events, on_event or (lambda count: None))
            remove_free(target)
            written.rename(target)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _check(
    events: int, frames: int, variant: str, modalities: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the modalities to write, in the order of columns."""
    if variant not in VARIANTS:
        raise ConfigError(f"unknown variant '{variant}'; it must be one of {', '.join(VARIANTS)}")
    layout = _LAYOUTS[variant]
    for name, value in (("events", events), ("frames", frames)):
        if value < layout.least_frames:
            raise ConfigError(
                f"{name}: must be {layout.least_frames} or more for variant {variant}, not {value}"
            )
    if frames > _MOST_FRAMES:
        raise ConfigError(f"frames: at most {_MOST_FRAMES}, not {frames}")
    chosen = tuple(layout.files) if modalities is None else tuple(modalities)
    if not chosen or not set(chosen) <= set(layout.files):
        given = ", ".join(chosen) or "none"
        raise ConfigError(
            f"modalities: variant {variant} has {', '.join(layout.files)}; given: {given}"
        )
    return tuple(name for name in layout.files if name in chosen)


def _write(root: Path, wanted: _Export, events: int, on_event: Callable[[int], None]) -> None:
    """Write all scenarios sequence by sequence, so that memory holds the raw data of few frames."""
    options = {option.name: option.default for option in INFO.options}
    settings: dict[str, Any] = {
        name: options[name] for name in ("horizon", "night", "fog", "traffic", "trees")
    }
    world = build_world(wanted.seed, events=events, frames=wanted.frames, **settings)
    faults = _draw_faults(wanted.seed, events)
    sequences = np.arange(int(world.sequence[-1]) + 1)
    shares = np.array_split(sequences, min(len(wanted.layout.scenarios), len(sequences)))
    done = 0
    for scenario, share in zip(wanted.layout.scenarios, shares, strict=False):
        place = root / f"scenario{scenario}"
        _make_folders(place, wanted)
        table: list[Row] = []
        first = done
        for number, sequence in enumerate(share.tolist(), start=1):
            rows = slice(sequence * wanted.frames, min((sequence + 1) * wanted.frames, events))
            found = []
            for row in _write_frames(
                place, wanted, _part(world, rows), faults[rows], done - first, number
            ):
                found.append(row)
                done += 1
                on_event(done)
            table += list(_windows(found)) if wanted.variant == "challenge" else found
        _write_table(place / f"scenario{scenario}.csv", table)


def _make_folders(place: Path, wanted: _Export) -> None:
    for modality in wanted.modalities:
        (place / wanted.layout.files[modality][1]).parent.mkdir(parents=True)
    place.mkdir(parents=True, exist_ok=True)
    if "gps" in wanted.modalities:
        unit = place / _UNIT1_PLACE
        unit.parent.mkdir(parents=True)
        unit.write_bytes(raw.location(raw.degrees(np.zeros(2))))


def _part(world: World, rows: slice) -> World:
    return World(**{field.name: getattr(world, field.name)[rows] for field in fields(World)})


def _write_frames(
    place: Path, wanted: _Export, world: World, faults: Array, before: int, number: int
) -> Iterator[Row]:
    """Write a scenario's sequence `number`, after `before` frames; yield a row for each frame."""
    sequence = int(world.sequence[0])
    measured, beams = _beams(wanted, world, faults)
    alone = replace(
        world, sequence=np.zeros_like(world.sequence)
    )  # the receiver draws a bias for each sequence
    places, velocity, dilution = raw.positions(alone, wanted.generator("gps", sequence))
    clouds = raw.scans if wanted.variant == "authors" else raw.point_clouds
    contents: dict[str, Iterator[bytes]] = {
        "camera": raw.pictures(world, wanted.generator("camera", sequence), light=wanted.light),
        "beam": map(raw.numbers, measured),
        "lidar": clouds(world, wanted.generator("lidar", sequence), light=wanted.light),
        "radar": raw.beat_signals(world, wanted.generator("radar", sequence), light=wanted.light),
        "gps": map(raw.location, places),
    }
    for frame in range(len(world)):
        row = _write_files(place, wanted, contents, before + frame + 1)
        row["unit1_beam"] = int(beams[frame]) + 1
        if "beam" in wanted.modalities:
            row["unit1_max_pwr"] = f"{np.nanmax(measured[frame]):.9e}"
        row |= {"time_stamp": _time_stamp(sequence, frame, wanted.frames), "seq_index": number}
        if "gps" in wanted.modalities:
            row |= _quality(
                float(velocity[frame]), float(dilution[frame]), float(world.trees[frame])
            )
        if wanted.layout.blockage is not None:
            row[wanted.layout.blockage] = int(world.blocked[frame])
        yield row


def _write_files(
    place: Path, wanted: _Export, contents: dict[str, Iterator[bytes]], number: int
) -> Row:
    """Write the next file of each modality, with `number` in its name; return columns and paths."""
    row: Row = {}
    for modality in wanted.modalities:
        column, name = wanted.layout.files[modality]
        path = name.format(number)
        (place / path).write_bytes(next(contents[modality]))
        if modality == "gps":
            row["unit1_loc"] = f"./{_UNIT1_PLACE}"
        row[column] = f"./{path}"
    return row


def _draw_faults(seed: int, events: int) -> Array:
    """Return whether each event's sweep is clean, has NaN, or NaN and a wrong label, in turns."""
    rng = numpy_generator(seed, "export", "faults")
    rows = np.flatnonzero(rng.random(events) < _FAULTS)
    if not len(rows) and events >= 1 / _FAULTS:
        rows = rng.integers(0, events, 1)
    faults = np.full(events, _CLEAN)
    faults[rows[0::2]] = _WRONG
    faults[rows[1::2]] = _FAULTY
    return faults


def _beams(wanted: _Export, world: World, faults: Array) -> tuple[Array, Array]:
    """Return sweeps as written (E, 64) and labels (E,), counted from 0; faulty sweeps hold NaN."""
    sequence = int(world.sequence[0])
    measured, best = raw.sweeps(world, wanted.generator("beam", sequence))
    rng = wanted.generator("nan", sequence)
    for row in np.flatnonzero(faults != _CLEAN):
        others = np.setdiff1d(np.arange(BEAMS), best[row])
        measured[row, rng.choice(others, rng.integers(1, 9), replace=False)] = np.nan
        if faults[row] == _WRONG:
            measured[row, best[row]] = np.nan
    return measured, np.nanargmax(measured, axis=1)


def _quality(velocity: float, dilution: float, trees: float) -> Row:
    """Return the quality columns of the user's receiver."""
    satellites = round(18 - 8 * trees)
    return {
        "unit2_num_sat": satellites,
        "unit2_sat_used": satellites - 2,
        "unit2_fix_type": 3,
        "unit2_diff_mode": 2,
        "unit2_PDOP": f"{1.6 * dilution:.2f}",
        "unit2_HDOP": f"{dilution:.2f}",
        "unit2_VDOP": f"{1.25 * dilution:.2f}",
        "unit2_speed": f"{abs(velocity):.3f}",
        "unit2_direction": 90.0 if velocity >= 0 else 270.0,
    }


def _time_stamp(sequence: int, frame: int, frames: int) -> str:
    seconds = sequence * (frames * FRAME_SECONDS + _BETWEEN_SEQUENCES) + frame * FRAME_SECONDS
    return (_FIRST_FRAME + timedelta(seconds=round(seconds, 3))).strftime("%H-%M-%S-%f")


def _windows(rows: list[Row]) -> Iterator[Row]:
    """Yield the challenge's rows of one sequence.

    Each is a window of five frames, labelled by the last of them; windows overlap.
    """
    for end in range(WINDOW, len(rows) + 1):
        window, last = rows[end - WINDOW : end], rows[end - 1]
        row: Row = {}
        for column in ("unit1_rgb", "unit1_radar", "unit1_lidar", "unit2_loc"):
            if column in last:
                told = window[:2] if column == "unit2_loc" else window
                row |= {f"{column}_{k}": frame[column] for k, frame in enumerate(told, start=1)}
        yield row | {name: last[name] for name in ("unit1_pwr_60ghz", "unit1_beam") if name in last}


def _write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["index", *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"index": index, **row} for index, row in enumerate(rows, start=1))
