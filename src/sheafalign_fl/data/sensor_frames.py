"""From frames in files to one modality's events: what all data sets on a user's disk share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS, ModalityData, assign_splits, check_fractions
from sheafalign_fl.data.description import Option
from sheafalign_fl.data.normalisation import Scaling, scaled
from sheafalign_fl.data.preparation import Files, Prepared, check_faults, prepare
from sheafalign_fl.data.readers import Reader
from sheafalign_fl.data.windows import Array, check_window, cut, stack, stacked_scaling
from sheafalign_fl.errors import ConfigError, DataError

BAD_POLICIES = ("stop", "drop")
OPTIONS = (
    Option(
        "path",
        "str",
        None,
        "the folder of the data set; relative to the configuration's own folder",
    ),
    Option(
        "bad",
        "str",
        "stop",
        "files that cannot be used: stop with an error, or drop their frames and say how many",
    ),
    Option(
        "cache",
        "bool",
        True,
        "keep prepared arrays in $XDG_CACHE_HOME/sheafalign-fl, until a file changes",
    ),
    Option("test", "float", 0.2, "fraction of the groups (sequences or subjects) for testing"),
    Option("validation", "float", 0.1, "fraction of the groups for validation"),
)


@dataclass(frozen=True)
class Sensor:
    """How one modality's frames become an encoder's input."""

    reader: Reader
    encoder: str
    """The encoder that suits it."""
    join: Literal["channels", "frames", "time", "samples"] = "channels"
    """Where the frames of a window go; see `windows.stack`."""
    shape: str = ""
    """Of one event, for people."""
    meaning: str = ""


@dataclass(frozen=True)
class SensorFrames:
    """All frames of one modality, before a file is read. N frames.

    Attributes
    ----------
    files
        The files of each frame.
    where
        What names each frame in messages: table and row, or the recording.
    event_ids
        (N,): the id of the event whose last frame it is.
    recording, position
        (N,): which recording, and the frame's integer position in it; windows never leave a
        recording.
    group
        (N,): what is never divided between splits.
    groups
        All groups there can be, if a machine may lack some; default: those of `group`.
    labels, classes
        As in `ModalityData`, for each frame.
    notes
        What is worth reporting about the table itself.
    split
        (N,): splits that the data set gives itself; None: groups are split by the seed.
    """

    files: Sequence[Files]
    where: Sequence[str]
    event_ids: NDArray[Any]
    recording: Array
    position: Array
    group: Array
    groups: Sequence[str] | None = None
    labels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    split: NDArray[np.uint8] | None = None


def check_options(options: Mapping[str, Any], source: str) -> None:
    """Raise `ConfigError` where one of `OPTIONS` has no possible value."""
    if options["path"] is None:
        raise ConfigError(f"data.options.path: the source '{source}' needs the path of the folder")
    if options["bad"] not in BAD_POLICIES:
        raise ConfigError(
            f"data.options.bad: must be {' or '.join(BAD_POLICIES)}, not '{options['bad']}'"
        )
    check_fractions(float(options["test"]), float(options["validation"]))


def load_sensor_frames(
    frames: SensorFrames,
    sensor: Sensor,
    modality: str,
    seed: int,
    options: Mapping[str, Any],
    *,
    window: int,
    stride: int,
    read: Callable[[Sequence[Files]], Prepared] | None = None,
) -> ModalityData:
    """Read, cut, split and scale the frames of one modality.

    Splits depend on the seed and the groups alone, so machines that hold different modalities agree
    on them. `read` reads the frames where their files hold many frames each; default: `prepare`.

    Raises
    ------
    ConfigError
        An option is out of range, or no group is left to train on.
    DataError
        A file is bad and the policy is to stop; or no window is left.
    """
    # Options are checked before any file is read, which can take hours.
    check_window(window, stride)
    splits = _splits(frames, seed, options)
    # Windows of a table can overlap, so a file may be there several times; it is read once.
    number: dict[Files, int] = {}
    index = np.array([number.setdefault(files, len(number)) for files in frames.files])
    where = [frames.where[row] for row in np.unique(index, return_index=True)[1]]
    prepared = (
        prepare(sensor.reader, list(number), f"reading {modality}", cache=bool(options["cache"]))
        if read is None
        else read(list(number))
    )
    notes = check_faults(prepared, where, modality, str(options["bad"]))
    usable = ~np.isin(index, list(prepared.faults))
    rows = cut(frames.recording, frames.position, usable, window=window, stride=stride)
    if not len(rows):
        raise DataError(
            f"{modality}: no {window} usable frames follow each other in any recording "
            f"of {options['path']}; choose a smaller window"
        )
    last = rows[:, -1]
    split = splits[last]
    train = np.unique(index[rows[split == SPLITS.index("train")]])
    scaling = Scaling.of(prepared.x, train)
    x = stack(scaled(prepared.x, scaling), index[rows], sensor.join)
    return ModalityData(
        x,
        frames.event_ids[last],
        split,
        {name: values[last] for name, values in frames.labels.items()},
        frames.classes,
        (*frames.notes, *notes),
        encoder=sensor.encoder,
        scaling=stacked_scaling(scaling, prepared.x.shape[1:], window, sensor.join),
    )


def _splits(frames: SensorFrames, seed: int, options: Mapping[str, Any]) -> NDArray[np.uint8]:
    if frames.split is not None:
        return frames.split
    groups = np.unique(np.asarray(frames.group if frames.groups is None else frames.groups))
    test, validation = float(options["test"]), float(options["validation"])
    code = assign_splits(groups, seed, test=test, validation=validation)
    if not (code == SPLITS.index("train")).any():
        raise ConfigError(
            f"data.options: test {test} and validation {validation} take all of "
            f"the {len(groups)} groups"
        )
    result: NDArray[np.uint8] = code[np.searchsorted(groups, frames.group)]
    return result
