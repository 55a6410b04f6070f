"""Two small public data sets of time series as data of your own: files of a package, read directly.

BasicMotions: a smartwatch on four people, 80 recordings of 10 s in four activities; its
accelerometer and gyroscope are two clients. JapaneseVowels: 640 utterances of nine speakers, twelve
cepstral coefficients in time; three bands of four are three clients.

The files are those of the package aeon (BSD-3; ``pip install --no-deps aeon==1.6.0``, which is not
imported), or of any folder in the archive's `.ts` format, named by the option `path`. Its own
training and test parts are kept; a fifth of the training part is for validation.

Utterances have 7 to 29 frames. They are resampled to one length, and not padded with a mask beside
them: a mask would tell all clients the same length, and they could align on that alone.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS, ModalityData
from sheafalign_fl.data.normalisation import standardised
from sheafalign_fl.data.readers.bodies import resampled
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.seeding import numpy_generator

CHANNELS = {
    "BasicMotions": {"accelerometer": slice(0, 3), "gyroscope": slice(3, 6)},
    "JapaneseVowels": {"low": slice(0, 4), "middle": slice(4, 8), "high": slice(8, 12)},
}
"""Data set -> client -> its channels."""
LENGTH = {"BasicMotions": 100, "JapaneseVowels": 24}
_VALIDATION = 0.2


def load(modality: str, seed: int, *, dataset: str, path: str = "") -> ModalityData:
    """Return the channels of one client: x (N, channels, length), event ids, splits, labels."""
    if dataset not in CHANNELS:
        raise ConfigError(f"data.options.dataset: must be {' or '.join(CHANNELS)}, not '{dataset}'")
    if modality not in CHANNELS[dataset]:
        raise ConfigError(f"{dataset} has no client '{modality}'; {', '.join(CHANNELS[dataset])}")
    folder = Path(path) if path else _package_folder() / dataset
    parts = [read_ts(folder / f"{dataset}_{part}.ts") for part in ("TRAIN", "TEST")]
    series = [values for part in parts for values, _ in part]
    names = [label for part in parts for _, label in part]
    classes = tuple(sorted(set(names)))
    split = np.repeat([SPLITS.index("train"), SPLITS.index("test")], [len(part) for part in parts])
    train = np.flatnonzero(split == SPLITS.index("train"))
    held_out = numpy_generator(seed, "aeon").permutation(train)[: int(_VALIDATION * len(train))]
    split[held_out] = SPLITS.index("validation")
    chosen = CHANNELS[dataset][modality]
    x = np.stack([resampled(values[chosen], LENGTH[dataset]) for values in series])
    return ModalityData(
        standardised(x, np.flatnonzero(split == SPLITS.index("train"))),
        np.arange(len(x)),
        split.astype(np.uint8),
        {"class": np.array([classes.index(name) for name in names], dtype=np.int64)},
        {"class": classes},
    )


def read_ts(path: Path) -> list[tuple[NDArray[np.float64], str]]:
    """Return the series (channels, frames) of a `.ts` file and their labels.

    A line is a series: channels between colons, values between commas, the label last.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    start = next((k for k, line in enumerate(lines) if line.strip().lower() == "@data"), len(lines))
    series = []
    for line in filter(None, map(str.strip, lines[start + 1 :])):
        *channels, label = line.split(":")
        values: list[Any] = [channel.split(",") for channel in channels]
        series.append((np.array(values, dtype=np.float64), label))
    if not series:
        raise DataError(f"{path}: holds no series")
    return series


def _package_folder() -> Path:
    spec = importlib.util.find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the package aeon is not installed; pip install --no-deps aeon==1.6.0")
    return Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
