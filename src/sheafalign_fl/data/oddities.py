"""What is odd about loaded data though nothing is malformed: it would mislead whoever learns."""

import hashlib
from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS, ModalityData
from sheafalign_fl.data.own.axes import channel_axis
from sheafalign_fl.labels import can_be_fitted, kind_of, known, width_of


def oddities(modalities: Mapping[str, ModalityData]) -> list[str]:
    """Return lines for people on sensors that are constant, events that are equal, odd labels."""
    found = []
    for name, data in modalities.items():
        found += [f"{name}: {line}" for line in (*_constant(data), *_equal(data), *_labels(data))]
    for one, other in combinations(modalities, 2):
        found += [
            f"{one} – {other}: {line}"
            for line in _disagreements(modalities[one], modalities[other])
        ]
    return found


def _constant(data: ModalityData) -> list[str]:
    """Name a sensor, or channels of one, that says the same of all events."""
    first = data.x[:1]
    same = (data.x == first).reshape(len(data), -1)
    if len(data) < 2:
        return []
    if same.all():
        return ["x is the same for all events, so nothing can be told from it"]
    channel = channel_axis(data.x.ndim)
    axes = tuple(axis for axis in range(data.x.ndim) if axis != channel)
    channels = np.ptp(data.x, axis=axes) == 0
    what = "features" if data.x.ndim == 2 else "channels"
    count = int(channels.sum())
    return [f"{count} of {len(channels)} {what} are constant"] if count else []


def _equal(data: ModalityData) -> list[str]:
    """Name events with equal inputs: of two splits they leak, in one they are false negatives."""
    code = equal_rows(data.x)
    found = []
    train = data.split == SPLITS.index("train")
    for split in ("test", "validation"):
        held = data.split == SPLITS.index(split)
        leaked = held & np.isin(code, code[train])
        if leaked.any() and not _is_constant(code):
            row = int(np.argmax(leaked))
            twin = int(np.argmax(train & (code == code[row])))
            found.append(
                f"{int(leaked.sum())} of {int(held.sum())} {split} events are equal to training "
                f"events (first: {data.event_ids[row]} and {data.event_ids[twin]})"
            )
    _, counts = np.unique(code[train], return_counts=True)
    if (double := int(counts[counts > 1].sum())) and not _is_constant(code):
        found.append(
            f"{double} of {int(train.sum())} training events are equal to another one; in a batch "
            "they are taken for different: objective.false_negatives: mask leaves them out"
        )
    return found


def equal_rows(x: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return for each row of x the first row that is equal to it, bit for bit, shape (N,)."""
    first: dict[bytes, int] = {}
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
    return np.array(
        [first.setdefault(digest, index) for index, digest in enumerate(digests)], dtype=np.intp
    )


def _is_constant(code: NDArray[np.intp]) -> bool:
    return bool((code == 0).all())


def _labels(data: ModalityData) -> list[str]:
    found = []
    for label, values in data.labels.items():
        if not known(values).any():
            found.append(f"{label}: no event is labelled")
        elif not can_be_fitted(values):
            found.append(f"{label}: all labelled events are of one class, so nothing is told apart")
    return found


def _disagreements(one: ModalityData, other: ModalityData) -> list[str]:
    """Name labels that two modalities give differently to the events that both have."""
    if (one.event_ids.dtype.kind == "U") != (other.event_ids.dtype.kind == "U"):
        return []
    ids, here, there = np.intersect1d(one.event_ids, other.event_ids, return_indices=True)
    found = []
    for label in one.labels:
        if label not in other.labels:
            continue
        if bool(one.classes.get(label)) != bool(other.classes.get(label)):
            found.append(f"{label}: is text in one and numbers in the other")
            continue
        first, second = one.labels[label][here], other.labels[label][there]
        if kind_of(first) != kind_of(second) or width_of(first) != width_of(second):
            found.append(f"{label}: is {kind_of(first)} in one and {kind_of(second)} in the other")
            continue
        both = known(first) & known(second)
        unequal = first != second
        differ = both & (unequal if unequal.ndim == 1 else unequal.any(axis=1))
        if differ.any():
            found.append(
                f"{label}: {int(differ.sum())} of {int(both.sum())} events are labelled "
                f"differently (first: {ids[int(np.argmax(differ))]})"
            )
    return found
