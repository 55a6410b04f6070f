"""`physiology`: ECG, skin conductance and respiration of one person, from the package systole.

About 26 minutes at 1 kHz, while the person looked at neutral and disgusting pictures (Legrand et
al., Scientific Reports 10, 2020; 72 of them in two series). The recordings are GPL-3: they are read
from the user's own installation (``pip install --no-deps --no-binary systole systole==0.3.1``; only
the source distribution has them) and never copied.

One person at one time: time is split in blocks, and blocks of one split lie between those of
others. The label is confounded with time (series 2 comes after series 1), so it says little beyond
it.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS, ModalityData, assign_splits, check_fractions
from sheafalign_fl.data.description import Labels, Modality, Option, SourceInfo
from sheafalign_fl.data.normalisation import Scaling, scaled
from sheafalign_fl.data.readers.base import BadFileError, read_npy
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.labels import UNLABELLED

RATE = 1000
_FILES = {"ecg": "ECG", "eda": "EDA", "respiration": "Respiration"}
_STIMULUS = "Stim"
_INSTALL = "pip install --no-deps --no-binary systole systole==0.3.1"
CLASSES = ("rest", "series 1", "series 2")

INFO = SourceInfo(
    name="physiology",
    summary="ECG, skin conductance and respiration of one person who looks at pictures; by blocks.",
    origin=f"the package systole (GPL-3), of your own: {_INSTALL}",
    modalities=(
        Modality("ecg", "(1, window × rate)", "electrocardiogram"),
        Modality("eda", "(1, window × rate)", "skin conductance"),
        Modality("respiration", "(1, window × rate)", "respiration belt"),
    ),
    options=(
        Option("path", "str", "", "a folder with Task1_ECG.npy and so on; empty: the package's"),
        Option("window", "float", 4.0, "seconds of an event"),
        Option("stride", "float", 2.0, "seconds from one event to the next"),
        Option("rate", "int", 100, "samples a second, means of the recording's; it divides 1000"),
        Option("after", "float", 8.0, "seconds after a picture that have the label of its series"),
        Option("block", "float", 60.0, "seconds that are in one split together"),
        Option("test", "float", 0.2, "fraction of the blocks for testing"),
        Option("validation", "float", 0.1, "fraction of the blocks for validation"),
    ),
    labels=(Labels("stimulus", CLASSES, "which series the last picture before its end was of"),),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return one modality's windows; an event's id is the number of its first sample.

    Windows that reach over the end of a block are left out, so that none is in two splits.

    Raises
    ------
    ConfigError
        An option is out of range.
    DataError
        The package systole is not installed, or was installed without its recordings.
    """
    folder = Path(str(options["path"])) if options["path"] else _package_folder()
    check_fractions(float(options["test"]), float(options["validation"]))
    window, stride, block = (_samples(options, name) for name in ("window", "stride", "block"))
    rate = int(options["rate"])
    if rate < 1 or RATE % rate or window % (RATE // rate):
        raise ConfigError(
            f"data.options.rate: must divide {RATE} and give whole samples in a window, not {rate}"
        )
    if window > block:
        raise ConfigError(
            f"data.options.window: {options['window']} s do not fit into a block of "
            f"{options['block']} s"
        )
    signal = _signal(folder, _FILES[modality])
    starts = np.arange(0, len(signal) - window + 1, stride, dtype=np.int64)
    starts = starts[starts // block == (starts + window - 1) // block]
    split = assign_splits(
        starts // block, seed, test=float(options["test"]), validation=float(options["validation"])
    )
    rows = np.lib.stride_tricks.sliding_window_view(signal, window)[starts]
    means = rows.reshape(len(starts), 1, -1, RATE // rate).mean(axis=3).astype(np.float32)
    scaling = Scaling.of(means, np.flatnonzero(split == SPLITS.index("train")))
    label = _labels(_signal(folder, _STIMULUS), starts + window, float(options["after"]))
    pictures = int((_signal(folder, _STIMULUS) > 0).sum())
    return ModalityData(
        scaled(means, scaling),
        starts,
        split,
        {"stimulus": label},
        {"stimulus": CLASSES},
        (f"one person, {len(signal) / RATE:.0f} s, {pictures} pictures",),
        scaling=scaling,
    )


def _samples(options: dict[str, Any], name: str) -> int:
    """Return an option in seconds as samples of the recording."""
    count = round(float(options[name]) * RATE)
    if count < 1:
        raise ConfigError(f"data.options.{name}: must be above 0 seconds, not {options[name]}")
    return count


def _labels(stimulus: NDArray[np.float64], ends: NDArray[np.int64], after: float) -> Any:
    """Return for each window's end which series the last picture within `after` seconds was of."""
    shown = np.flatnonzero(stimulus > 0)
    last = np.searchsorted(shown, ends) - 1
    since = ends - shown[np.maximum(last, 0)]
    recent = (last >= 0) & (since <= after * RATE)
    series = stimulus[shown[np.maximum(last, 0)]].astype(np.int64)
    series = np.where(series < len(CLASSES), series, UNLABELLED)
    return np.where(recent, series, 0).astype(np.int64)


def _package_folder() -> Path:
    spec = importlib.util.find_spec("systole")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"physiology: the package systole is not installed; {_INSTALL}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets"
    if not (folder / f"Task1_{_STIMULUS}.npy").is_file():
        raise DataError(
            f"physiology: {folder} has no recordings; install the source distribution: {_INSTALL}"
        )
    return folder


def _signal(folder: Path, name: str) -> NDArray[np.float64]:
    path = folder / f"Task1_{name}.npy"
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError:
        raise DataError(f"physiology: there is no {path}") from None
    except BadFileError as error:
        raise DataError(f"{path}: {error.reason}") from None


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> NDArray[np.float64]:
    """Return a channel once for all clients, until it is `changed`."""
    return read_npy(path, 1).astype(np.float64)
