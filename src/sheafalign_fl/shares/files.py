"""Events from files, and results to files, for the command line."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.npz_file import read_arrays
from sheafalign_fl.data.own.arrays import is_label
from sheafalign_fl.data.sequences import ended
from sheafalign_fl.data.tables.recordings import read_recording
from sheafalign_fl.data.windows import JOIN, cut, stack
from sheafalign_fl.errors import DataError, UserError
from sheafalign_fl.extras import require
from sheafalign_fl.files import write_atomically
from sheafalign_fl.shares.comparison import Comparison

FORMATS = (".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class Events:
    """What a file holds of one client.

    Attributes
    ----------
    path
        The file.
    arrays
        x, or h and the z of `sheafalign embed`; labels; event_id.
    count
        How many events.
    """

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    count: int

    @property
    def ids(self) -> NDArray[Any]:
        """Event ids, shape (N,): those of the file, else the rows."""
        return self.arrays.get("event_id", np.arange(self.count))

    def given(self, client: str, target: str | None = None) -> NDArray[Any]:
        """Return raw events; or z of `client` for `target`, if that is what the file holds.

        Raises
        ------
        DataError
            It holds neither.
        """
        if "x" in self.arrays and "length" in self.arrays:
            return ended(self.arrays["x"], self.arrays["length"], str(self.path))
        if "x" in self.arrays:
            return self.arrays["x"]
        if target is not None and (z := self.arrays.get(f"z_{target}")) is not None:
            made_by, run = (str(self.arrays.get(name, "")) for name in ("client", "run"))
            return Comparison.of(z, made_by, target if made_by else "", run)
        wanted = "x" if target is None else f"x or 'z_{target}'"
        raise DataError(
            f"{self.path}: holds no array {wanted} of '{client}'; it has {', '.join(self.arrays)}"
        )

    def cut(self, window: int, stride: int) -> "Events":
        """Return windows of the samples as events, cut and joined as the source `folder` does.

        A window is of samples that follow each other: whose ids, if they are whole numbers, or rows
        grow by 1, in one `sequence`, if the file says what belongs together. Its event is that of
        its last sample.

        Raises
        ------
        DataError
            The file holds no samples, or no `window` of them follow each other.
        ConfigError
            Window or stride is below 1.
        """
        if "x" not in self.arrays or "length" in self.arrays:
            raise DataError(f"{self.path}: windows are cut from an array x without 'length'")
        ids, count = self.ids, self.count
        numbered = ids.dtype.kind in "iu" and bool((np.abs(ids.astype(np.float64)) < 2**62).all())
        position = ids.astype(np.int64) if numbered else np.arange(count)
        belongs = self.arrays.get("sequence", np.zeros(count, np.int64))
        usable = np.ones(count, dtype=bool)
        rows = cut(belongs, position, usable, window=window, stride=stride)
        if not len(rows):
            raise DataError(f"{self.path}: no {window} samples follow each other")
        last = self.take(rows[:, -1])
        x = self.arrays["x"]
        arrays = {**last.arrays, "event_id": ids[rows[:, -1]]}
        if window > 1:
            arrays["x"] = stack(x, rows, JOIN.get(x.ndim, "frames"))
        return Events(self.path, arrays, len(rows))

    def labels(self, name: str | None = None) -> NDArray[Any]:
        """Return the labels called `name`, or the only ones, shape (N,)."""
        found = {key: values for key, values in self.arrays.items() if is_label(key)}
        wanted = f"label_{name}" if name is not None and f"label_{name}" in found else name
        if wanted is None and len(found) == 1:
            return next(iter(found.values()))
        if wanted is None or wanted not in found:
            known = ", ".join(key.removeprefix("label_") for key in found) or "none"
            raise DataError(f"{self.path}: which labels? it has {known}; choose with --label")
        return found[wanted]

    def take(self, rows: NDArray[np.intp]) -> "Events":
        """Return some of the events, in that order."""
        arrays = {
            name: values[rows] if values.ndim and len(values) == self.count else values
            for name, values in self.arrays.items()
        }
        return Events(self.path, arrays, len(rows))


def read_events(path: Path) -> Events:
    """Return what a file holds: `.npz`, `.npy` (x alone), or a table or sound as training reads it.

    Raises
    ------
    DataError
        It cannot be read, or is not as it should be.
    """
    if not path.exists():
        raise DataError(f"there is no file {path}")
    arrays = _arrays(path)
    first = next((name for name in ("x", "h", *arrays) if name in arrays), None)
    if first is None or arrays[first].ndim == 0:
        raise DataError(f"{path}: holds no events")
    return Events(path, arrays, len(arrays[first]))


def _arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    if path.suffix.lower() == ".npz":
        return read_arrays(path, ())
    if path.suffix.lower() == ".npy":
        try:
            return {"x": np.load(path, allow_pickle=False)}
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: is no readable .npy file of numbers ({error})") from None
    name = path.name if path.is_dir() else path.name.split(".")[0]
    return read_recording(path.parent, name).arrays


def together(events: Mapping[str, Events]) -> dict[str, Events]:
    """Return the events that all files have, in one order: by event id where every file has them.

    Raises
    ------
    DataError
        They have none in common, an id occurs twice, or there are no ids and other lengths.
    """
    if not all("event_id" in each.arrays for each in events.values()):
        counts = {client: each.count for client, each in events.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"'{client}' {count}" for client, count in counts.items())
            raise DataError(
                f"events differ in number ({told}); give every file the array event_id, or the "
                "same events in the same order"
            )
        return dict(events)
    common = next(iter(events.values())).ids
    for each in events.values():
        if len(np.unique(each.ids)) != len(each.ids):
            raise DataError(f"{each.path}: some event ids occur more than once")
        common = common[np.isin(common, each.ids)]
    if not len(common):
        files = ", ".join(str(each.path) for each in events.values())
        raise DataError(f"no event is in all of {files}")
    return {client: each.take(_rows(each.ids, common)) for client, each in events.items()}


def _rows(ids: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.intp]:
    order = np.argsort(ids, kind="stable")
    return order[np.searchsorted(ids, wanted, sorter=order)].astype(np.intp)


def check_output(path: Path) -> Path:
    """Return `path` if results can be written to it; raise `UserError` before work is done."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--out {path}: its name has to end in {', '.join(FORMATS)}")
    if path.suffix.lower() == ".parquet":
        require("pyarrow", f"--out {path}")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder")
    return path


def write_results(
    path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, str] | None = None
) -> None:
    """Write arrays whose first axis is the same to an `.npz`, `.csv` or `.parquet` file, whole.

    In tables an array (N, d) becomes the columns NAME_0, NAME_1, ...

    Parameters
    ----------
    about
        Facts for the `.npz` file alone, as scalar arrays of text.
    """
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npz":
        facts = {name: np.array(text) for name, text in (about or {}).items()}
        whole: dict[str, Any] = {**arrays, **facts}
        np.savez(buffer, **whole)
    elif path.suffix.lower() == ".csv":
        columns = _columns(arrays)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
        buffer.write(text.getvalue().encode())
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(_columns(arrays)), buffer)
    write_atomically(path, buffer.getvalue())


def _columns(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for name, values in arrays.items():
        if values.ndim == 1:
            columns[name] = values
        else:
            flat = values.reshape(len(values), -1)
            columns |= {f"{name}_{index}": flat[:, index] for index in range(flat.shape[1])}
    return columns
