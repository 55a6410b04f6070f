"""What a label may be: one class an event, several at once, or a value.

========  ================  =================================================  ============
kind      shape             dtype                                              unknown
========  ================  =================================================  ============
classes   (N,)              integers, the number of the class                  -1
values    (N,)              floating-point                                     NaN
multi     (N, L)            integers, 1 where the event has a label, 0 else    -1
========  ================  =================================================  ============
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.errors import ProtocolError

Kind = Literal["classes", "values", "multi"]
UNLABELLED = -1
_MOST_VALUE = 1e100
_WIRE: Mapping[Kind, str] = {"classes": "<i4", "values": "<f8", "multi": "<i1"}


def kind_of(labels: NDArray[Any]) -> Kind:
    """Return what kind of label an array holds."""
    if labels.ndim == 2:
        return "multi"
    return "values" if labels.dtype.kind == "f" else "classes"


def told(kind: Kind, width: int = 1) -> str:
    """Return what a label is, for people."""
    return f"{width} labels an event" if kind == "multi" else kind


def width_of(labels: NDArray[Any]) -> int:
    """Return how many labels an event has: L of several at once, else 1."""
    return int(labels.shape[1]) if labels.ndim == 2 else 1


def known(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which events, shape (N,), have a label; of several at once all have to be known."""
    there = np.isfinite(labels) if kind_of(labels) == "values" else labels >= 0
    return np.asarray(there if labels.ndim == 1 else there.all(axis=1), dtype=np.bool_)


def unknown(kind: Kind, count: int, width: int = 1) -> NDArray[Any]:
    """Return labels of `count` events of which nothing is known."""
    if kind == "values":
        return np.full(count, np.nan)
    return np.full((count, width) if kind == "multi" else count, UNLABELLED, dtype=np.int64)


def can_be_fitted(labels: NDArray[Any]) -> bool:
    """Return whether the known ones differ, so that something can be told from them."""
    there = labels[known(labels)]
    return bool((there != there[:1]).any())


def to_wire(labels: NDArray[Any]) -> bytes:
    """Return labels as bytes, little-endian."""
    return labels.astype(_WIRE[kind_of(labels)]).tobytes()


def from_wire(data: bytes, kind: Kind, count: int, width: int) -> NDArray[Any]:
    """Return the labels of `count` events that `to_wire` packed.

    Raises
    ------
    ProtocolError
        They are of another number of events, or cannot be labels.
    """
    dtype = np.dtype(_WIRE[kind])
    if len(data) != dtype.itemsize * count * width:
        raise ProtocolError(f"{len(data)} bytes of labels for {count} events")
    values = np.frombuffer(data, dtype=dtype)
    if kind == "values":
        if np.isinf(values).any() or (np.abs(values[~np.isnan(values)]) > _MOST_VALUE).any():
            raise ProtocolError("a label that is infinite, or too large")
        return values.astype(np.float64)
    if (values < UNLABELLED).any():
        raise ProtocolError("a label below -1")
    if kind == "multi" and (values > 1).any():
        raise ProtocolError("a label of several above 1")
    return (values.reshape(count, width) if kind == "multi" else values).astype(np.int64)
