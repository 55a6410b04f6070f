"""`folder`: the user's own recordings, one `.npz` file for each modality.

Tables (CSV, TSV, Parquet), sounds and folders with a file for each event become the same arrays; see
`data.tables.recordings`.

Arrays of a file: `x` (N, ...); `event_id` (N,), or `time` (N,) in seconds; and optionally `label` or `label_NAME` (N,),
`sequence` (N,), and `split` (N,), as text or as 0 = train, 1 = validation, 2 = test. Files are read without pickle, so
they can hold data and nothing else.

With times instead of ids, an event is a tick of a clock that all sensors share: the sample nearest to it within a
tolerance. With windows, an event is the last of several samples that follow each other. Samples of one sequence are in
one split, so that windows never reach from training into testing; times without sequences are split in blocks.

Text labels become numbers in the order of all names in the folder, so that a class has one number for all clients even
where one of them has never seen it. Where every machine has a folder of its own, use numbers for labels.
"""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS, UNLABELLED, ModalityData, check_fractions
from sheafalign_fl.data.clock import ticks
from sheafalign_fl.data.description import Option, SourceInfo
from sheafalign_fl.data.frames import BAD_POLICIES
from sheafalign_fl.data.normalisation import standardised
from sheafalign_fl.data.npz_file import check_length, check_values, read_arrays, read_texts
from sheafalign_fl.data.tables import recordings as tables
from sheafalign_fl.data.tables.recordings import Recording, find_recordings, read_recording
from sheafalign_fl.data.windows import cut, stack
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.listing import listed

_JOIN = {2: "time", 3: "samples", 4: "channels"}
"""Number of axes of x -> where the samples of a window go: vectors become signals, signals longer, images deeper."""

INFO = SourceInfo(
    name="folder",
    summary="Your own recordings: a folder with one MODALITY.npz per modality (x, event_id; optional label, split).",
    origin="your files",
    modalities=(),
    options=(
        Option("path", "str", None, "the folder; relative to the configuration's own folder"),
        Option("test", "float", 0.2, "fraction of events for testing, where a file has no split"),
        Option(
            "validation",
            "float",
            0.1,
            "fraction of events for validation, where a file has no split",
        ),
        Option(
            "standardise",
            "bool",
            True,
            "subtract the training mean and divide by the training deviation",
        ),
        Option(
            "bad",
            "str",
            "stop",
            "samples with NaN or infinity: stop with an error, or drop them and say how many",
        ),
        Option("window", "int", 1, "samples of an event; more than one needs 'sequence' or 'time'"),
        Option("stride", "int", 1, "samples (or ticks) from one event to the next"),
        Option(
            "period",
            "float",
            0.0,
            "seconds between events, for files with 'time'; 0: events have ids",
        ),
        Option(
            "tolerance",
            "float",
            0.0,
            "seconds that a sample may lie beside its tick; 0: half the period",
        ),
        Option(
            "block",
            "float",
            60.0,
            "seconds that are in one split together, for files with 'time' and no 'sequence'",
        ),
    ),
    labels=(),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return the modality that ``PATH/MODALITY.npz`` holds.

    Raises
    ------
    ConfigError
        The option `path` is not given.
    DataError
        The folder or file is missing, or the file is not as it should be.
    """
    if options["path"] is None:
        raise ConfigError("data.options.path: the source 'folder' needs the path of the folder")
    if options["bad"] not in BAD_POLICIES:
        raise ConfigError(
            f"data.options.bad: must be {' or '.join(BAD_POLICIES)}, not '{options['bad']}'"
        )
    check_fractions(float(options["test"]), float(options["validation"]))
    recording = _recording(Path(str(options["path"])), modality)
    path, arrays = recording.path, recording.arrays
    x = check_values(arrays["x"], path)
    samples = _samples(arrays, len(x), path, options)
    labels, classes = _labels(arrays, len(x), path, Path(str(options["path"])))
    samples, notes = _without_bad(samples, x, options)
    split = _splits(arrays, samples, seed, path, options)
    rows = _windows(samples, split, path, options)
    last = rows[:, -1]
    split = split[last]
    if options["standardise"]:
        train = samples.row[np.unique(rows[split == SPLITS.index("train")])]
        x = standardised(x, train)
    return ModalityData(
        stack(x, samples.row[rows], _JOIN.get(x.ndim, "frames"))
        if rows.shape[1] > 1
        else x[samples.row[last]],
        samples.event_id[last],
        split,
        {name: values[samples.row[last]] for name, values in labels.items()},
        classes,
        (*recording.notes, *notes),
        recording.encoder,
    )


@dataclass(frozen=True)
class _Samples:
    """The samples that can be (parts of) events, S of them."""

    row: NDArray[np.intp]
    """Of the file's arrays."""
    event_id: NDArray[Any]
    recording: NDArray[Any]
    """Windows stay in one."""
    position: NDArray[np.int64]
    """Grows by 1 from a sample to the next."""
    group: NDArray[Any]
    """What is in one split together."""

    def take(self, kept: NDArray[Any]) -> "_Samples":
        return _Samples(*(getattr(self, item.name)[kept] for item in fields(self)))


def _samples(
    arrays: dict[str, NDArray[Any]], count: int, path: Path, options: dict[str, Any]
) -> _Samples:
    sequence = arrays.get("sequence")
    if sequence is not None:
        check_length("sequence", sequence, count, path)
        if sequence.dtype.kind not in "iuU":
            raise DataError(f"{path}: sequence has dtype {sequence.dtype}; use integers or text")
    if float(options["period"]) != 0:
        return _samples_by_time(arrays, sequence, count, path, options)
    if "event_id" not in arrays:
        hint = "; it has 'time', which needs data.options.period" if "time" in arrays else ""
        raise DataError(f"{path}: lacks the array 'event_id'; it has {', '.join(arrays)}{hint}")
    ids = arrays["event_id"]
    check_length("event_id", ids, count, path)
    rows = np.arange(count)
    whole = (
        ids.dtype.kind in "iu"
        and count > 0
        and int(ids.max()) < 2**62
        and int(ids.min()) > -(2**62)
    )
    return _Samples(
        row=rows,
        event_id=ids,
        recording=np.zeros(count, dtype=np.int64) if sequence is None else sequence,
        # Where ids are numbers they say what follows what, also for a sensor that has missed some.
        position=ids.astype(np.int64) if whole else rows.astype(np.int64),
        group=ids if sequence is None else sequence,
    )


def _samples_by_time(
    arrays: dict[str, NDArray[Any]],
    sequence: NDArray[Any] | None,
    count: int,
    path: Path,
    options: dict[str, Any],
) -> _Samples:
    if "time" not in arrays:
        raise DataError(
            f"{path}: lacks the array 'time', which data.options.period needs; it has {', '.join(arrays)}"
        )
    period, block = float(options["period"]), float(options["block"])
    if not block > 0:
        raise ConfigError(f"data.options.block: must be above 0 seconds, not {block}")
    times = _seconds(arrays["time"], count, path)
    row, tick = ticks(times, period, float(options["tolerance"]) or period / 2)
    if not len(row):
        raise DataError(
            f"{path}: no sample lies within data.options.tolerance of a multiple of {period:g} s; make it larger"
        )
    group = np.floor(tick * period / block).astype(np.int64) if sequence is None else sequence[row]
    return _Samples(row, tick, group, tick, group)


def _seconds(times: NDArray[Any], count: int, path: Path) -> NDArray[np.float64]:
    """Return times in seconds: as they are, or since 1970 if they are dates."""
    check_length("time", times, count, path)
    if times.dtype.kind == "M":
        seconds = (times - np.datetime64(0, "s")) / np.timedelta64(1, "s")
    elif times.dtype.kind in "fiu":
        seconds = times.astype(np.float64)
    else:
        raise DataError(
            f"{path}: time has dtype {times.dtype}; it must be seconds, or dates (datetime64)"
        )
    if (bad := ~np.isfinite(seconds)).any():
        raise DataError(
            f"{path}: time of sample {int(np.argmax(bad))} is not known; leave such samples out"
        )
    return np.asarray(seconds, dtype=np.float64)


def _without_bad(
    samples: _Samples, x: NDArray[np.float32], options: dict[str, Any]
) -> tuple[_Samples, tuple[str, ...]]:
    """Leave samples with NaN or infinity out, if the user wants that; else `check_modality` names them."""
    if options["bad"] != "drop":
        return samples, ()
    good = np.asarray(np.isfinite(x).reshape(len(x), -1).all(axis=1))[samples.row]
    if good.all():
        return samples, ()
    first = samples.event_id[int(np.argmin(good))]
    note = f"{int((~good).sum())} of {len(good)} samples left out, as they hold NaN or infinity (first: event {first})"
    return samples.take(good), (note,)


def _windows(
    samples: _Samples, split: NDArray[np.uint8], path: Path, options: dict[str, Any]
) -> NDArray[np.intp]:
    window, stride = int(options["window"]), int(options["stride"])
    if (window, stride) == (1, 1):
        return np.arange(len(samples.row))[:, None]
    usable = np.ones(len(samples.row), dtype=bool)
    if window > 1 and samples.group is samples.event_id:
        raise DataError(
            f"{path}: windows need to know which samples follow each other: add the array 'sequence', or 'time'"
        )
    # A split that the file gives may divide a recording; then windows end where it does.
    _, code = np.unique(samples.recording, return_inverse=True)
    rows = cut(code * len(SPLITS) + split, samples.position, usable, window=window, stride=stride)
    if not len(rows):
        raise DataError(
            f"{path}: no {window} samples follow each other; choose a smaller data.options.window"
        )
    return rows


def _splits(
    arrays: dict[str, NDArray[Any]],
    samples: _Samples,
    seed: int,
    path: Path,
    options: dict[str, Any],
) -> NDArray[np.uint8]:
    if "split" in arrays:
        return _given_split(arrays["split"], len(arrays["x"]), path)[samples.row]
    groups, place = np.unique(samples.group, return_inverse=True)
    return _hashed_split(groups, seed, float(options["test"]), float(options["validation"]))[place]


def _recording(folder: Path, modality: str) -> Recording:
    if not folder.is_dir():
        raise DataError(f"data.options.path: there is no folder {folder}")
    path = folder / f"{modality}.npz"
    if path.is_file():
        return Recording(path, read_arrays(path, ("x",)))
    if modality in find_recordings(folder):
        return read_recording(folder, modality)
    there = ", ".join(present(folder)) or "no .npz file, nor a table or a folder of files"
    raise DataError(f"{folder} has no {modality}.npz; it has {there}")


def present(folder: Path) -> list[str]:
    """Return the modalities that a folder has, sorted."""
    return sorted({path.stem for path in listed(folder, "*.npz")} | {*find_recordings(folder)})


def _given_split(given: NDArray[Any], count: int, path: Path) -> NDArray[np.uint8]:
    check_length("split", given, count, path)
    if given.dtype.kind == "U":
        unknown = sorted(set(given.tolist()) - set(SPLITS))
        if unknown:
            raise DataError(f"{path}: unknown split '{unknown[0]}'; use {', '.join(SPLITS)}")
        return np.array([SPLITS.index(name) for name in given.tolist()], dtype=np.uint8)
    if given.dtype.kind not in "iu" or not np.isin(given, (0, 1, 2)).all():
        raise DataError(f"{path}: split must be train, validation, test, or 0, 1, 2")
    return given.astype(np.uint8)


def _hashed_split(
    event_ids: NDArray[Any], seed: int, test: float, validation: float
) -> NDArray[np.uint8]:
    """Split by a hash of (seed, id), so that an event is in the same split for clients that load apart."""
    share = np.array(
        [
            int.from_bytes(hashlib.sha256(f"{seed}\x1f{event}".encode()).digest()[:8], "big")
            / 2**64
            for event in event_ids.tolist()
        ]
    )
    return np.where(share < test, 2, np.where(share < test + validation, 1, 0)).astype(np.uint8)


# ---- labels ----------------------------------------------------------------------------------------------------------


def _labels(
    arrays: dict[str, NDArray[Any]], count: int, path: Path, folder: Path
) -> tuple[dict[str, NDArray[np.int64]], dict[str, tuple[str, ...]]]:
    labels: dict[str, NDArray[np.int64]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for name, values in arrays.items():
        if not _is_label(name):
            continue
        label = name.removeprefix("label_")
        if label in labels:
            raise DataError(f"{path}: 'label' and 'label_label' would have one name; rename one")
        check_length(name, values, count, path)
        if values.dtype.kind == "U":
            classes[label] = _class_names(name, folder)
            labels[label] = _coded(values, classes[label])
        else:
            labels[label] = _class_numbers(name, values, path)
    return labels, classes


def _is_label(name: str) -> bool:
    return name == "label" or (name.startswith("label_") and name != "label_")


def _class_numbers(name: str, values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if values.dtype.kind not in "iub":
        raise DataError(
            f"{path}: {name} has dtype {values.dtype}; use integers (-1: unknown) or text ('': unknown)"
        )
    if len(values) and not UNLABELLED <= int(values.min()) <= int(values.max()) < 2**31:
        raise DataError(
            f"{path}: {name} must be class numbers from 0 to 2147483647, or -1 where unknown"
        )
    return values.astype(np.int64)


def _class_names(name: str, folder: Path) -> tuple[str, ...]:
    """Return the names of the classes of label `name` in all files of the folder, sorted."""
    known = set(tables.read_texts(folder, name))
    for file in listed(folder, "*.npz"):
        known.update(
            read_texts(file, name)
        )  # a file that cannot be read is reported by its own client
    return tuple(sorted(known - {""}))


def _coded(values: NDArray[Any], classes: tuple[str, ...]) -> NDArray[np.int64]:
    codes = {text: code for code, text in enumerate(classes)} | {"": UNLABELLED}
    return np.array([codes[text] for text in values.tolist()], dtype=np.int64)
