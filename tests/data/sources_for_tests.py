"""Data sources of a user's own, good and bad, that test_registry.py names by dotted path."""

from typing import Any

import numpy as np

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import DataError

KEPT = np.arange(8.0).reshape(4, 2)
not_callable = 3


def doubles(modality: str, seed: int, *, scale: float = 1.0) -> ModalityData:
    """Float64 values and small integers, which clients get as float32 and int64."""
    ids, split = np.arange(4, dtype=np.uint16), np.zeros(4, dtype=np.int32)
    x = KEPT if scale == 1.0 else KEPT * scale
    return ModalityData(
        x,  # type: ignore[arg-type]
        ids,
        split,  # type: ignore[arg-type]
        {"even": np.zeros(4, dtype=np.int8)},
    )


def wraps_a_built_in(modality: str, seed: int) -> ModalityData:
    return load_modality("scenes", modality, seed, {"events": 100}, "wrapper")


def returns_a_tuple(modality: str, seed: int) -> Any:
    return KEPT, np.arange(4)


def holds_lists(modality: str, seed: int) -> Any:
    return ModalityData([[1.0, 2.0]], [1], [0])  # type: ignore[arg-type]


def has_a_bug(modality: str, seed: int) -> Any:
    return len(modality) + len(seed)  # type: ignore[arg-type]


def refuses(modality: str, seed: int) -> Any:
    raise DataError(f"there is no {modality} today")


def splits_below_zero(modality: str, seed: int) -> Any:
    return ModalityData(KEPT.astype(np.float32), np.arange(4), np.full(4, -1))


def labels_that_are_no_classes(modality: str, seed: int) -> Any:
    labels: Any = {"a": np.full((4, 2), 0.5)}
    return ModalityData(KEPT.astype(np.float32), np.arange(4), np.zeros(4, dtype=np.uint8), labels)
