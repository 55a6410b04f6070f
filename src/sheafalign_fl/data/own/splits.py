"""Training, validation and test events of the user's recordings: machines agree without a word.

Single events fall by a hash of (seed, id). So do sequences; where a split would be left without
any, one is moved to it, as the set of all sequences says. A recording in one piece is cut in time:
blocks of one length, each with its parts at the same places, so that whatever is as long as a
block has events of every split, wherever it begins.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.data.npz_file import check_length
from sheafalign_fl.errors import ConfigError, DataError

Codes = NDArray[np.uint8]
_TRAIN, _VALIDATION, _TEST = range(3)
_BLOCK_SECONDS = 60.0
_LEAST_TICKS = 100


def given_split(given: NDArray[Any], count: int, path: Path) -> Codes:
    """Return the split that the file itself gives; raise `DataError` where it is not clear."""
    check_length("split", given, count, path)
    if given.dtype.kind == "U":
        unknown = sorted(set(given.tolist()) - set(SPLITS))
        if unknown:
            raise DataError(f"{path}: unknown split '{unknown[0]}'; use {', '.join(SPLITS)}")
        return np.array([SPLITS.index(name) for name in given.tolist()], dtype=np.uint8)
    if given.dtype.kind not in "iub" or not np.isin(given, (0, 1, 2)).all():
        raise DataError(f"{path}: split must be train, validation, test, or 0, 1, 2")
    if np.array_equal(np.unique(given), (0, 1)):
        raise DataError(
            f"{path}: split is 0 or 1 and never 2; 0 is training, 1 is validation and 2 is test: "
            "write 2 for test events, or train, validation, test"
        )
    return given.astype(np.uint8)


def hashed_split(names: NDArray[Any], seed: int, test: float, validation: float) -> Codes:
    """Split by a hash of (seed, name): the same for clients that load apart."""
    share = _shares(names, seed)
    return np.where(
        share < test, _TEST, np.where(share < test + validation, _VALIDATION, _TRAIN)
    ).astype(np.uint8)


def sequence_split(names: NDArray[Any], seed: int, test: float, validation: float) -> Codes:
    """Split whole sequences by `hashed_split`, and let no split go without any that can have one.

    Parameters
    ----------
    names
        (N,), all sequences that there are, each once. Two of them can only train and test.
    """
    codes = hashed_split(names, seed, test, validation)
    order = np.argsort(_shares(names, seed), kind="stable")
    for split, wanted in ((_TRAIN, 1.0), (_TEST, test), (_VALIDATION, validation)):
        if wanted <= 0 or (codes == split).any():
            continue
        # The largest share is furthest from testing, the smallest the next that would be tested.
        # A split's only sequence stays, but for that of validation, which matters least.
        for row in order[::-1] if split == _TRAIN else order:
            if (codes == codes[row]).sum() > 1 or codes[row] == _VALIDATION:
                codes[row] = split
                break
    return codes


def least_ticks(window: int, stride: int, test: float, validation: float) -> int:
    """Return how many ticks a block needs for a whole event in its smallest part."""
    smallest = min((part for part in (test, validation) if part > 0), default=1.0)
    return math.ceil((window + stride - 1) / smallest - 1e-9)


def block_ticks(
    period: float, block: float, window: int, stride: int, test: float, validation: float
) -> int:
    """Return how many ticks a block has.

    Parameters
    ----------
    period, block
        Seconds; block 0: 60 s, or longer where its smallest part would have no whole window.

    Raises
    ------
    ConfigError
        The block is too short for each split to have a part of it.
    """
    needed = least_ticks(window, stride, test, validation)
    if block == 0:
        return max(round(_BLOCK_SECONDS / period), _LEAST_TICKS, needed)
    if not block > 0 or not math.isfinite(block):
        raise ConfigError(f"data.options.block: must be above 0 seconds, not {block}")
    if (ticks := round(block / period)) < needed:
        raise ConfigError(
            f"data.options.block: {block:g} s are {ticks} ticks, of which the smallest split would "
            f"have no whole event; make it {needed * period:g} s or longer"
        )
    return ticks


def block_split(
    tick: NDArray[np.int64], ticks: int, seed: int, test: float, validation: float
) -> Codes:
    """Split a recording in time.

    Every block begins with its test part, then comes validation, then training; where blocks
    begin follows from the seed. So two parts of one split never touch.
    """
    shift = int(_shares(np.array(["block"]), seed)[0] * ticks)
    place = (tick + shift) % ticks
    tested = max(1, round(test * ticks)) if test > 0 else 0
    validated = max(1, round(validation * ticks)) if validation > 0 else 0
    codes = np.where(
        place < tested, _TEST, np.where(place < tested + validated, _VALIDATION, _TRAIN)
    )
    return codes.astype(np.uint8)


def _shares(names: NDArray[Any], seed: int) -> NDArray[np.float64]:
    return np.array(
        [
            int.from_bytes(hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()[:8], "big") / 2**64
            for name in names.tolist()
        ],
        dtype=np.float64,
    )
