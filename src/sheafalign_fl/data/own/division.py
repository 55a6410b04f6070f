"""Which sample of the user's recordings is in which split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.data.clocks.rates import rounded
from sheafalign_fl.data.own.arrays import array_of, present
from sheafalign_fl.data.own.samples import Samples
from sheafalign_fl.data.own.splits import (
    block_split,
    block_ticks,
    given_split,
    hashed_split,
    least_ticks,
    sequence_split,
)
from sheafalign_fl.errors import ConfigError

_ROUNDED = 0.9
"""A block that is rounded down to two digits is at least so much of the recording."""


def splits_of(
    arrays: Mapping[str, NDArray[Any]],
    samples: Samples,
    seed: int,
    path: Path,
    options: Mapping[str, Any],
) -> tuple[NDArray[np.uint8], NDArray[Any], tuple[str, ...]]:
    """Return the split of each sample, the recording that its windows stay in, and notes.

    Raises
    ------
    ConfigError
        The options block or sequences do not fit the file.
    DataError
        The split that the file gives is malformed, or has to be asked about.
    """
    test, validation = float(options["test"]), float(options["validation"])
    whole = np.zeros(len(samples.row), dtype=np.int64)
    if "split" in arrays:
        given = given_split(arrays["split"], len(arrays["x"]), path)[samples.row]
        return given, whole if samples.sequence is None else samples.sequence, ()
    if samples.sequence is None and not samples.timed:
        return hashed_split(samples.event_id, seed, test, validation), whole, ()
    if samples.sequence is not None:
        names = _sequences(samples.sequence, path, str(options["sequences"]))
        if len(names) > 1:
            codes = sequence_split(names, seed, test, validation)
            split = codes[np.searchsorted(names, samples.sequence)]
            few = _few(names, samples.sequence)
            return split, samples.sequence, _lacking(split, options, few)
    period = float(options["period"]) if samples.timed else 1.0
    cuts = (int(options["window"]), int(options["stride"]), test, validation)
    length = block_ticks(period, float(options["block"]), *cuts)
    split = block_split(samples.position, length, seed, test, validation)
    span = int(samples.position.max()) - int(samples.position.min()) + 1
    unit = " s" if samples.timed else " ids"
    mend = (
        f"a block of {rounded(span * period, up=False):g} or less gives each its own"
        if span * _ROUNDED >= least_ticks(*cuts)
        else "it is too short for all of them"
    )
    why = (
        f"the recording is {span * period:.4g}{unit} long, and of each data.options.block of "
        f"{length * period:g}{unit} every split takes a part; {mend}"
    )
    return split, whole, _lacking(split, options, why)


def _sequences(own: NDArray[Any], path: Path, named: str) -> NDArray[Any]:
    """Return all sequences that there are: those named, or those of all files of the folder."""
    numbered = own.dtype.kind in "iu"
    if named:
        texts = [text.strip() for text in named.split(",")]
        try:
            names = np.unique(np.array([int(text) for text in texts]) if numbered else texts)
        except ValueError:
            raise ConfigError(
                f"data.options.sequences: {path} numbers its sequences, so name integers"
            ) from None
        if len(other := np.setdiff1d(own, names)):
            raise ConfigError(f"data.options.sequences: lacks '{other[0]}', which {path} has")
        return names
    found = [np.unique(own)]
    for modality in present(path.parent):
        values = array_of(path.parent, modality, "sequence")
        if values is not None and values.dtype.kind in ("iu" if numbered else "U"):
            found.append(np.unique(values))
    return np.unique(np.concatenate(found))


def _few(names: NDArray[Any], own: NDArray[Any]) -> str:
    mine = len(np.unique(own))
    return f"there are {len(names)} sequences, of which it has {mine}, and each is in one split"


def _lacking(split: NDArray[np.uint8], options: Mapping[str, Any], why: str) -> tuple[str, ...]:
    """Return a note on each split that should have samples and has none."""
    wanted = {"train": 1.0, "validation": options["validation"], "test": options["test"]}
    return tuple(
        f"no {name} events: {why}"
        for code, name in enumerate(SPLITS)
        if wanted[name] > 0 and not (split == code).any()
    )
