"""Arrays in memory to a folder of recordings that every engine can read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sheafalign_fl.data.sequences import is_unequal, lengths, padded
from sheafalign_fl.errors import DataError


def save_arrays(
    folder: str | Path,
    modalities: Mapping[str, ArrayLike],
    *,
    labels: ArrayLike | Mapping[str, ArrayLike] | None = None,
    split: ArrayLike | None = None,
    event_id: ArrayLike | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write one ``MODALITY.npz`` for each modality and return the `data` section that reads them.

    Parameters
    ----------
    folder
        Where to write; made if it is not there.
    modalities
        Name -> inputs of shape (N, ...), row k of all of them the same event; or a list of
        sequences (C, T) of unequal length.
    labels
        Classes, shape (N,), integers or text; values, shape (N,), floating-point; several labels
        an event, shape (N, L), 0 and 1; or any of these by name. Unknown: -1, '' or NaN.
    split
        ``train``, ``validation`` or ``test`` for every event, shape (N,); default: drawn from the
        seed.
    event_id
        Names of the events, shape (N,); default: 0 to N - 1.
    options
        Options of the source `folder` (``sheafalign data describe folder``).

    Raises
    ------
    DataError
        There are fewer than two modalities, or arrays of different lengths.
    """
    if len(modalities) < 2:
        raise DataError("save_arrays: a federation needs two modalities at least")
    inputs, lasting = _inputs(modalities)
    count = len(next(iter(inputs.values())))
    common = _common(labels, split, event_id, count)
    for name, array in {**inputs, **common}.items():
        if array.ndim == 0 or len(array) != count:
            first = next(iter(inputs))
            raise DataError(
                f"save_arrays: '{name}' has shape {array.shape}, but '{first}' has {count} events"
            )
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    for name, x in inputs.items():
        arrays: dict[str, Any] = {"x": x, **common}
        if name in lasting:
            arrays["length"] = lasting[name]
        np.savez(where / f"{name}.npz", **arrays)
    return {"source": "folder", "path": str(where.resolve()), "options": options}


def _inputs(
    modalities: Mapping[str, ArrayLike],
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]]]:
    """Return name -> array, and name -> lengths where events are of unequal length."""
    inputs, lasting = {}, {}
    for name, x in modalities.items():
        if is_unequal(x):
            made = padded(x, f"save_arrays: '{name}'")
            lasting[name] = lengths(made, f"save_arrays: '{name}'")
            inputs[name] = np.nan_to_num(made)
        else:
            inputs[name] = np.asarray(x)
    return inputs, lasting


def _common(
    labels: ArrayLike | Mapping[str, ArrayLike] | None,
    split: ArrayLike | None,
    event_id: ArrayLike | None,
    count: int,
) -> dict[str, NDArray[Any]]:
    """Return the arrays that every modality's file holds."""
    arrays = {"event_id": np.arange(count) if event_id is None else np.asarray(event_id)}
    if split is not None:
        arrays["split"] = np.asarray(split)
    if isinstance(labels, Mapping):
        arrays.update({f"label_{name}": np.asarray(values) for name, values in labels.items()})
    elif labels is not None:
        arrays["label"] = np.asarray(labels)
    return arrays
