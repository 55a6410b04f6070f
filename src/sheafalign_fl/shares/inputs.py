"""What a user hands to a share, checked before anything is computed of it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sheafalign_fl.data.normalisation import Scaling, scaled
from sheafalign_fl.data.npz_file import raw_values
from sheafalign_fl.data.own.axes import arranged
from sheafalign_fl.data.sequences import lengths, masked, padded
from sheafalign_fl.errors import DataError
from sheafalign_fl.shares.facts import ShareFacts

_FAR = 4.0
"""How many times beyond what training saw the size of a typical input may lie."""
_FEW = 5
"""Fewer events than these may all be odd, in whatever units."""


class UnitsWarning(UserWarning):
    """Values are of another size than training's, and too few to say that their units are wrong."""


@contextmanager
def careful() -> Iterator[list[str]]:
    """Keep what a `UnitsWarning` says inside the block for the list; other warnings stay such."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnitsWarning)
        yield told
    for one in caught:
        if one.category is UnitsWarning:
            told.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def encoder_input(
    x: ArrayLike, facts: ShareFacts, scaling: Scaling | None, *, units: bool = True
) -> NDArray[np.float32]:
    """Return raw events as the encoder takes them, (N, *input_shape), scaled as in training.

    Parameters
    ----------
    x
        Raw values, (N, ...), in the units and the layout that training read.
    units
        Refuse values whose size says that they are in other units; fewer than 5 events are taken
        with a `UnitsWarning`, because one reading may be odd.

    Raises
    ------
    DataError
        They are no numbers, of another shape, not finite, none, or in other units.
    """
    where = f"client '{facts.client}'"
    given = x
    if facts.unequal and isinstance(x, list | tuple) and x:
        given = padded(x, where, facts.event_shape[1])
    try:
        values = _numbers(np.asarray(given), where)
    except ValueError:  # ragged
        raise DataError(
            f"{where}: events differ in shape, and this share takes those of one: "
            f"{facts.event_shape}"
        ) from None
    layout = facts.layout
    if facts.unequal:
        values = _lengthened(values, facts)
    elif layout and values.ndim == 1 + len(layout):
        values = arranged(values, layout, Path(where))
    if values.shape[1:] != facts.event_shape:
        raise DataError(f"{where}: {_wrong_shape(np.shape(given), facts)}")
    if len(values) == 0:
        raise DataError(f"{where}: x holds no events")
    made = scaled(raw_values(values), scaling)
    if facts.unequal:
        lengths(values, where)
        made = masked(made, facts.input_shape[1])
    sizes = _sizes(made)
    if not np.isfinite(sizes).all():
        bad = ~np.isfinite(made).reshape(len(made), -1).all(axis=1)
        first = int(np.argmax(bad if bad.any() else ~np.isfinite(sizes)))
        raise DataError(
            f"{where}: x holds NaN or infinity (first: row {first}); leave these events out"
        )
    if units:
        _check_units(sizes, facts, where)
    return made


def embeddings_of(z: ArrayLike, dim: int, where: str) -> NDArray[np.float32]:
    """Return given embeddings (N, dim); raise `DataError` unless they are N finite rows."""
    values = _numbers(np.asarray(z), where)
    if values.ndim != 2 or values.shape[1] != dim:
        raise DataError(f"{where}: z has shape {values.shape}, not (N, {dim})")
    if len(values) == 0:
        raise DataError(f"{where}: z holds no events")
    if not (finite := np.isfinite(values).all(axis=1)).all():
        first = int(np.argmin(finite))
        raise DataError(f"{where}: z holds NaN or infinity (first: row {first})")
    return values.astype(np.float32)


def _numbers(x: NDArray[Any], where: str) -> NDArray[Any]:
    if x.dtype.kind not in "fiub":
        raise DataError(f"{where}: dtype {x.dtype} is none of real numbers")
    return x


def _lengthened(values: NDArray[Any], facts: ShareFacts) -> NDArray[Any]:
    """Return shorter events (N, C, T') padded to the length that the encoder takes."""
    channels, steps = facts.event_shape
    if values.ndim != 3 or values.shape[1] != channels or values.shape[2] >= steps:
        return values
    missing = ((0, 0), (0, 0), (0, steps - values.shape[2]))
    return np.pad(
        values.astype(np.result_type(values, np.float32)), missing, constant_values=np.nan
    )


def _wrong_shape(shape: tuple[int, ...], facts: ShareFacts) -> str:
    event = facts.event_shape
    wanted = f"(N, {', '.join(map(str, event))})" + (
        f", or with the axes of an event as {facts.layout}" if facts.layout else ""
    )
    hint = "; one event is x[None]" if shape == event else ""
    wanted += " or shorter, with NaN behind their ends" if facts.unequal else ""
    return f"x has shape {shape}, but events of the modality '{facts.modality}' are {wanted}{hint}"


def _sizes(made: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the root mean square of every event, shape (N,)."""
    flat = made.reshape(len(made), -1)
    with np.errstate(over="ignore"):
        squares = np.einsum("nf,nf->n", flat, flat, dtype=np.float64)
    sizes: NDArray[np.float64] = np.sqrt(squares / max(1, flat.shape[1]))
    return sizes


def _check_units(sizes: NDArray[np.float64], facts: ShareFacts, where: str) -> None:
    """Refuse events that are typically much larger or smaller than any that training saw."""
    least, largest = facts.input_range
    size = float(np.median(sizes))
    if least / _FAR <= size <= largest * _FAR:
        return
    unit = f" ({facts.units})" if facts.units else ""
    found = (
        f"{where}: the values of x are of size {size:.3g} once scaled, where training saw "
        f"{least:.3g} to {largest:.3g}"
    )
    wanted = f"give raw values in the units that it read{unit}"
    if len(sizes) >= _FEW:
        raise DataError(f"{found}; {wanted}, or pass check_units=False")
    count = "one event" if len(sizes) == 1 else f"{len(sizes)} events"
    told = f"{found}; {count} cannot show whether that is odd, or in other units: {wanted}"
    warnings.warn(told, UnitsWarning, stacklevel=4)
