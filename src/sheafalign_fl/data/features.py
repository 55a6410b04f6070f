"""Pre-computed features instead of an encoder's input, for users with a frozen foundation model."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from sheafalign_fl.data.base import SPLITS, ModalityData
from sheafalign_fl.data.normalisation import Scaling, scaled
from sheafalign_fl.data.npz_file import check_length, check_values, read_arrays
from sheafalign_fl.data.own.arrays import check_names
from sheafalign_fl.errors import DataError


def with_features(data: ModalityData, path: Path, client: str) -> ModalityData:
    """Return `data` with a file's features as input; ids, splits and labels stay the source's.

    Parameters
    ----------
    path
        An `.npz` file: `x` (N, F) or larger, and `event_id` (N,). Events of the data that it lacks
        are left out; events of other data may be in it. Features are scaled by their training mean
        and deviation.
    client
        For messages.

    Raises
    ------
    DataError
        The file is absent or not as it should be, or has no event of the data.
    """
    if not path.is_file():
        raise DataError(f"clients.{client}.features: there is no file {path}")
    arrays = read_arrays(path, ("x", "event_id"))
    check_names(arrays, path)
    x, ids = check_values(arrays["x"], path), arrays["event_id"]
    check_length("event_id", ids, len(x), path)
    if ids.dtype.kind not in "iuU" or (ids.dtype.kind == "U") != (data.event_ids.dtype.kind == "U"):
        raise DataError(
            f"{path}: event_id has dtype {ids.dtype}, "
            f"but the data's ids have {data.event_ids.dtype}"
        )
    if len(np.unique(ids)) != len(ids):
        raise DataError(f"{path}: some event ids occur more than once")
    _, rows, places = np.intersect1d(data.event_ids, ids, return_indices=True)
    if not len(rows):
        raise DataError(
            f"{path}: has none of the {len(data)} events of client '{client}' "
            f"(first: {data.event_ids[0]})"
        )
    order = np.argsort(rows)
    kept = data.take(rows[order])
    raw = x[places[order]]
    scaling = Scaling.of(raw, kept.split == SPLITS.index("train"))
    features = scaled(raw, scaling)
    if not (finite := np.isfinite(features).reshape(len(features), -1).all(axis=1)).all():
        first = kept.event_ids[int(np.argmin(finite))]
        raise DataError(
            f"{path}: {int((~finite).sum())} events hold NaN or infinity (first: event {first})"
        )
    lacking = len(data) - len(kept)
    note = (f"{lacking} of {len(data)} events have no features in {path.name}",) if lacking else ()
    return replace(
        kept, x=features, notes=(*data.notes, *note), encoder=None, scaling=scaling, layout="",
        unequal=False,
    )  # fmt: skip
