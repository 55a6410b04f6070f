"""What a data set gives a client: one modality, with event ids, splits and labels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.normalisation import Scaling
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.labels import UNLABELLED
from sheafalign_fl.seeding import numpy_generator

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class ModalityData:
    """All events that one client has seen with its one sensor.

    Attributes
    ----------
    x
        Float32, shape (N, ...): (N, F) for vectors, (N, C, T) for 1-D signals, (N, C, H, W) for
        images.
    event_ids
        Shape (N,), unique; int64 or unicode. Clients that saw the same event give it the same id.
    split
        Shape (N,), uint8, indices into `SPLITS`.
    labels
        Label name -> classes, int64 (N,); values, float64 (N,); or several labels an event, int64
        (N, L), 0 and 1. `UNLABELLED` (-1) or NaN where unknown. Used by evaluation only.
    classes
        Label name -> the names of its classes, for reports. May be empty.
    notes
        Facts about the data worth reporting, such as how many rows were dropped and why.
    encoder
        The encoder that the source recommends for this modality, by name or dotted path. It is used
        where the client's own is auto; None leaves auto to go by the input's shape.
    span
        Events whose ids (numbers) differ by less share samples, as windows that overlap do.
    scaling
        How `x` was made of raw values, so that what is learnt takes raw values later; None where
        raw values are `x` itself.
    layout
        Axes of a raw event where channels are not first, such as HWC; empty where they are.
    unequal
        Events are signals of unequal length, and the last channel of `x` says what is there
        (`data.sequences`).
    """

    x: NDArray[np.float32]
    event_ids: NDArray[Any]
    split: NDArray[np.uint8]
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    encoder: str | None = None
    span: int = 1
    scaling: Scaling | None = None
    layout: str = ""
    unequal: bool = False

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one event's input, without the event axis."""
        return tuple(self.x.shape[1:])

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.event_ids)

    def ids_of(self, split: Split) -> NDArray[Any]:
        """Return the event ids of `split`, sorted."""
        return np.sort(self.event_ids[self.split == SPLITS.index(split)])

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all events: equal digests mean the same inputs, splits and labels."""
        digest = hashlib.sha256()
        arrays = {"x": self.x, "event_ids": self.event_ids, "split": self.split, **self.labels}
        for name, values in arrays.items():
            digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
            digest.update(np.ascontiguousarray(values).data.cast("B"))
        return digest.digest()

    def take(self, rows: NDArray[np.intp]) -> "ModalityData":
        """Return the same data with only `rows`, in that order."""
        labels = {name: values[rows] for name, values in self.labels.items()}
        return replace(
            self,
            x=self.x[rows],
            event_ids=self.event_ids[rows],
            split=self.split[rows],
            labels=labels,
        )


class DataSource(Protocol):
    """A data set: a function from (modality, seed, options) to that modality's data.

    Built-in sources are registered in `sheafalign_fl.data.registry`; a dotted path
    ``package.module:factory`` names one of the user's own. A source must load each modality alone,
    since in a deployment a machine holds only its own.
    """

    def __call__(self, modality: str, seed: int, **options: Any) -> ModalityData:
        """Return the data of `modality`; raise `DataError` where it cannot be had."""
        ...


def check_modality(data: ModalityData, where: str) -> ModalityData:
    """Return `data` if it is well formed; raise `DataError` naming `where` and the first fault.

    Checks: all are arrays; `x` is floating-point, finite, not empty and at least 2-D; ids are
    one-dimensional, integers or text, and unique; split and labels have one integer for each event.
    """
    for name, array in {
        "x": data.x,
        "event_ids": data.event_ids,
        "split": data.split,
        **data.labels,
    }.items():
        if not isinstance(array, np.ndarray):
            raise DataError(
                f"{where}: {name} is a {type(array).__name__}; it must be a NumPy array"
            )
    _check_form(data.x, where)
    count = len(data.x)
    _check_ids(data.event_ids, count, where)
    if (
        data.split.shape != (count,)
        or data.split.dtype.kind not in "iu"
        or not np.isin(data.split, (0, 1, 2)).all()
    ):
        raise DataError(
            f"{where}: split must give one of {', '.join(SPLITS)} for each of the {count} events"
        )
    for name, values in data.labels.items():
        _check_label(name, values, count, where)
    bad = ~np.isfinite(data.x).reshape(count, -1).all(axis=1)
    if bad.any():
        raise DataError(
            f"{where}: x holds NaN or infinity in {int(bad.sum())} of {count} events (first: event "
            f"{data.event_ids[np.argmax(bad)]}); clean or drop these events"
        )
    return data


def _check_label(name: str, values: NDArray[Any], count: int, where: str) -> None:
    if values.ndim not in (1, 2) or len(values) != count or 0 in values.shape:
        raise DataError(
            f"{where}: label '{name}' has shape {values.shape} but x has {count} events"
        )
    if values.dtype.kind == "f" and values.ndim == 1:
        if np.isinf(values).any():
            raise DataError(f"{where}: label '{name}' is infinite; NaN stands for unknown")
    elif values.dtype.kind not in "iu":
        raise DataError(
            f"{where}: label '{name}' has dtype {values.dtype}; it must be integers, -1 where "
            "unknown, or one floating-point value an event"
        )
    elif values.ndim == 2 and not np.isin(values, (UNLABELLED, 0, 1)).all():
        raise DataError(
            f"{where}: label '{name}' is a matrix, which must hold 0 and 1, -1 where unknown"
        )


def _check_form(x: NDArray[Any], where: str) -> None:
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{where}: x has dtype {x.dtype}; it must be a floating-point array")
    if x.ndim < 2:
        raise DataError(
            f"{where}: x has shape {x.shape}; the first axis must be events, then at least one more"
        )
    if len(x) == 0:
        raise DataError(f"{where}: there are no events")


def _check_ids(event_ids: NDArray[Any], count: int, where: str) -> None:
    if event_ids.shape != (count,):
        raise DataError(f"{where}: event_id has shape {event_ids.shape} but x has {count} events")
    if event_ids.dtype.kind not in "iuU":
        raise DataError(f"{where}: event_id has dtype {event_ids.dtype}; use integers or text")
    if event_ids.dtype.kind == "u" and event_ids.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"{where}: event_id holds {event_ids.max()}, which int64 cannot hold; use text"
        )
    _check_unique(event_ids, where)


def _check_unique(event_ids: NDArray[Any], where: str) -> None:
    values, counts = np.unique(event_ids, return_counts=True)
    if (double := counts > 1).any():
        raise DataError(
            f"{where}: {int(double.sum())} event ids occur more than once "
            f"(first: {values[np.argmax(double)]}); "
            "an event id names one event of one modality"
        )


def check_fractions(test: float, validation: float) -> None:
    """Raise `ConfigError` unless `test` and `validation` are fractions that leave training data."""
    for name, value in (("test", test), ("validation", validation)):
        if not 0 <= value <= 1:
            raise ConfigError(f"data.options.{name}: must be between 0 and 1, not {value}")
    if test + validation >= 1:
        raise ConfigError(
            f"data.options: test {test} and validation {validation} leave nothing to train on"
        )


def assign_splits(
    groups: NDArray[Any], seed: int, *, test: float, validation: float
) -> NDArray[np.uint8]:
    """Assign whole groups (sequences, subjects, or single events) to train, validation and test.

    Parameters
    ----------
    groups
        Shape (N,): the group of each event. No group is ever divided between two splits.
    seed
        The split is a function of the seed and of the set of groups.
    test, validation
        Target fraction of the groups; at least one group each where the fraction is above 0.
    """
    names = np.unique(groups)
    order = numpy_generator(seed, "split").permutation(len(names))
    n_test = min(len(names), max(1, round(test * len(names)))) if test > 0 else 0
    n_validation = (
        min(len(names) - n_test, max(1, round(validation * len(names)))) if validation > 0 else 0
    )
    code = np.zeros(len(names), dtype=np.uint8)
    code[order[:n_test]] = SPLITS.index("test")
    code[order[n_test : n_test + n_validation]] = SPLITS.index("validation")
    result: NDArray[np.uint8] = code[np.searchsorted(names, groups)]
    return result


def drop_events(data: ModalityData, fraction: float, seed: int, client: str) -> ModalityData:
    """Return `data` without a random `fraction` of its events, as if the sensor had missed them.

    Which events are lost depends on (seed, client) alone.
    """
    if fraction <= 0:
        return data
    kept = numpy_generator(seed, "missing", client).random(len(data)) >= fraction
    return data.take(np.flatnonzero(kept))
