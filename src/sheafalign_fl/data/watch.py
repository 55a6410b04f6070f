"""`watch`: smartwatch exercises from the installed package seglearn, real and never downloaded.

140 recordings of 7 shoulder exercises by 10 subjects at 50 Hz (Burns et al., 2018). The file is a
pickle; it is trusted only because it is part of that package.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS, ModalityData, assign_splits, check_fractions
from sheafalign_fl.data.description import Labels, Modality, Option, SourceInfo
from sheafalign_fl.data.normalisation import Scaling
from sheafalign_fl.errors import ConfigError, DataError

RATE = 50
EXERCISES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
_RECORDING_IDS = 1_000_000

INFO = SourceInfo(
    name="watch",
    summary="Smartwatch exercises: accelerometer, gyroscope and their spectrum, split by subject.",
    origin="the package seglearn (BSD-3), an extra: pip install 'sheafalign-fl[watch]'",
    modalities=(
        Modality(
            "accelerometer",
            "(3, window)",
            "acceleration in x, y, z; unit variance over training subjects",
        ),
        Modality(
            "gyroscope",
            "(3, window)",
            "angular velocity about x, y, z; unit variance over training subjects",
        ),
        Modality(
            "spectrum",
            "(6, window // 2)",
            "log power spectrum of all six channels, without the mean",
        ),
    ),
    options=(
        Option("window", "int", 128, "samples of a window; 50 are a second"),
        Option("stride", "int", 64, "samples from one window to the next"),
        Option("test", "float", 0.3, "fraction of subjects held out for testing"),
        Option("validation", "float", 0.1, "fraction of subjects held out for validation"),
    ),
    labels=(Labels("exercise", EXERCISES, "which exercise is done"),),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return one modality's windows; see `INFO` for what there is.

    Raises
    ------
    DataError
        The package seglearn is not installed.
    ConfigError
        The window is longer than every recording, or shorter than 8 samples; or no subject is left
        to train on.
    """
    window, stride = int(options["window"]), int(options["stride"])
    if window < 8 or stride < 1:
        raise ConfigError(
            f"watch: window must be 8 or more and stride 1 or more, not {window} and {stride}"
        )
    test, validation = float(options["test"]), float(options["validation"])
    check_fractions(test, validation)
    x, event_ids, recording = _windows(window, stride)
    content = _recordings()
    subjects = np.asarray(content["subject"])[recording]
    split = assign_splits(subjects, seed, test=test, validation=validation)
    values = _view(modality, x)
    fit = values[split == SPLITS.index("train")]
    if not len(fit):
        count = len(np.unique(subjects))
        raise ConfigError(
            f"data.options: test {test} and validation {validation} "
            f"take all of the {count} subjects"
        )
    mean, scale = fit.mean(axis=(0, 2), keepdims=True), fit.std(axis=(0, 2), keepdims=True)
    scaling = Scaling(mean[0], scale[0])
    return ModalityData(
        scaling.apply(values),
        event_ids,
        split,
        {"exercise": np.asarray(content["y"], dtype=np.int64)[recording]},
        {"exercise": tuple(content["y_labels"])},
        (
            f"{len(np.unique(subjects))} subjects; tested on "
            f"{sorted(set(subjects[split == 2].tolist()))}",
        ),
        scaling=scaling,
    )


def _view(modality: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    if modality == "accelerometer":
        return x[:, :3]
    if modality == "gyroscope":
        return x[:, 3:]
    centred = x - x.mean(axis=2, keepdims=True)
    tapered = centred * np.hanning(x.shape[2])
    power = np.square(np.abs(np.fft.rfft(tapered, axis=2)))[:, :, 1 : x.shape[2] // 2 + 1]
    log_power: NDArray[np.float64] = np.log(power + 1e-6)
    return log_power


@lru_cache(maxsize=2)
def _windows(
    window: int, stride: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return windows (N, 6, window), their event ids and their recordings."""
    parts, ids, recordings = [], [], []
    for index, recording in enumerate(_recordings()["X"]):
        starts = np.arange(0, len(recording) - window + 1, stride)
        if len(starts) == 0:
            continue
        view = np.lib.stride_tricks.sliding_window_view(recording, window, axis=0)[starts]
        parts.append(view)
        ids.append(index * _RECORDING_IDS + starts)
        recordings.append(np.full(len(starts), index))
    if not parts:
        raise ConfigError(f"watch: no recording is as long as the window of {window} samples")
    return (
        np.concatenate(parts),
        np.concatenate(ids).astype(np.int64),
        np.concatenate(recordings).astype(np.int64),
    )


@lru_cache(maxsize=1)
def _recordings() -> dict[str, Any]:
    spec = importlib.util.find_spec("seglearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "watch: the package seglearn is not installed; pip install 'sheafalign-fl[watch]'"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / "watch_dataset.npy"
    if not path.is_file():
        raise DataError(f"watch: seglearn is installed but lacks {path}")
    content: dict[str, Any] = np.load(path, allow_pickle=True).item()
    return content
