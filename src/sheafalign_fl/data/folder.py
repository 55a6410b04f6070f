"""`folder`: the user's own recordings, one `.npz` file for each modality.

Tables (CSV, TSV, Parquet), sounds and folders with a file for each event become the same arrays;
see `data.tables.recordings`.

Arrays of a file: `x` (N, ...); `event_id` (N,), or `time` (N,); and optionally `label` or
`label_NAME` (N,), `sequence` (N,), and `split` (N,), as text or as 0 = train, 1 = validation, 2 =
test. With `length` (N,) events are sequences of unequal length. Files are read without pickle, so
they can hold data and nothing else; an array of another name is an error, because it may be a
misspelt one.

With times instead of ids, an event is a tick of a clock that all sensors share: the sample nearest
to it within a tolerance. With windows, an event is the last of several samples that follow each
other. Samples of one sequence are in one split, so that windows never reach from training into
testing; times without sequences are cut in blocks (`own.splits`).

Text labels become numbers in the order of all names in the folder, so that a class has one number
for all clients even where one of them has never seen it. Where every machine has a folder of its
own, use numbers for labels, and name all sequences in the option `sequences`.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS, ModalityData, check_fractions
from sheafalign_fl.data.description import Option, SourceInfo
from sheafalign_fl.data.normalisation import Scaling, scaled
from sheafalign_fl.data.own.arrays import file_of, numbers, present, recording_of, stand_in
from sheafalign_fl.data.own.axes import (
    arranged,
    as_float32,
    channel_axis,
    layout_of,
    suspected,
    understood,
)
from sheafalign_fl.data.own.division import splits_of
from sheafalign_fl.data.own.labels import labels_of
from sheafalign_fl.data.own.samples import Samples, samples_of
from sheafalign_fl.data.own.unread import MEND, beside, shown
from sheafalign_fl.data.sensor_frames import BAD_POLICIES
from sheafalign_fl.data.sequences import ENCODER, behind, ended, masked, scaling_of
from sheafalign_fl.data.tables.recordings import Recording
from sheafalign_fl.data.windows import JOIN, cut, stack, stacked_scaling
from sheafalign_fl.errors import ConfigError, DataError

_LOST = 0.01

INFO = SourceInfo(
    name="folder",
    summary="Your own recordings: a folder with one MODALITY.npz per modality (x, event_id; "
    "optional label, split).",
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
        Option(
            "layout",
            "str or mapping",
            "",
            "axes of an event where channels are not first, such as {imu: TC, camera: HWC}",
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
            0.0,
            "seconds (or ids) after which the splits of a recording without sequences come round "
            "again; 0: 60 s, or longer if windows need it",
        ),
        Option(
            "sequences",
            "str",
            "",
            "all sequences that there are, with commas, for machines that lack some",
        ),
        Option(
            "time_unit",
            "str or mapping",
            "auto",
            "of times that are numbers: auto, s, ms, us or ns; or of each modality",
        ),
        Option(
            "time_zone",
            "str or mapping",
            "UTC",
            "of dates without one, such as Europe/Berlin; or of each modality",
        ),
        Option(
            "clocks",
            "mapping",
            {},
            "what to add to a modality's times: {imu: {offset: s, drift: ppm, at: s}}",
        ),
        Option(
            "minus_one", "str", "ask", "what -1 is among labels of -1 and 1: ask, unknown or class"
        ),
        Option(
            "labels",
            "str or mapping",
            "auto",
            "what labels are: classes, values (numbers) or multi (several an event), for all or "
            "{NAME: KIND}; auto: by their arrays",
        ),
    ),
    labels=(),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return the modality that ``PATH/MODALITY.npz`` holds.

    Raises
    ------
    ConfigError
        The option `path` is not given, or another one is out of range.
    DataError
        The folder or file is missing, or the file is not as it should be.
    """
    check_options(options)
    recording = _recording(Path(str(options["path"])), modality)
    path, arrays = recording.path, recording.arrays
    _check_modalities(path, modality, options)
    x, finite = _values(arrays, modality, path, options)
    unequal = "length" in arrays
    samples = samples_of(arrays, modality, len(x), path, options)
    labels, classes = labels_of(
        arrays, len(x), path, str(options["minus_one"]), options["labels"], recording.blank
    )
    samples, left_out = _without_bad(samples, finite, path, options)
    split, unit, short = splits_of(arrays, samples, seed, path, options)
    rows = _windows(samples, unit, split, path, options)
    last = rows[:, -1]
    split = split[last]
    notes = (
        *_beside_note(path, modality),
        *left_out,
        *samples.notes,
        *_layout_note(x.shape[1:], modality),
        *_stand_in_note(x),
    )
    train = samples.row[np.unique(rows[split == 0])]
    scaling = _scaling(x, train, unequal=unequal) if options["standardise"] else None
    lost = () if options["standardise"] else _lost_note(x)
    x, join, window = scaled(x, scaling), JOIN.get(x.ndim, "frames"), rows.shape[1]
    x = masked(x, x.shape[2]) if unequal else x
    return ModalityData(
        stack(x, samples.row[rows], join) if window > 1 else x[samples.row[last]],
        samples.event_id[last],
        split,
        {name: values[samples.row[last]] for name, values in labels.items()},
        classes,
        (*recording.notes, *notes, *lost, *short),
        ENCODER if unequal else recording.encoder,
        span=window,
        scaling=stacked_scaling(scaling, x.shape[1:], window, join) if window > 1 else scaling,
        layout=layout_of(modality, options["layout"]) if window == 1 else "",
        unequal=unequal,
    )


def _values(
    arrays: Mapping[str, NDArray[Any]], modality: str, path: Path, options: Mapping[str, Any]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return x with channels first, NaN behind the ends of its events, and which can be used."""
    layout = layout_of(modality, options["layout"])
    if "length" not in arrays:
        x, finite = numbers(arrays["x"], path)
        return arranged(x, layout, path), finite
    if layout or int(options["window"]) > 1:
        raise ConfigError(
            f"{path}: has events of unequal length (the array 'length'), which have channels first "
            "and are not cut: leave data.options.layout and window out, or the array"
        )
    x = ended(arrays["x"], arrays["length"], str(path))
    there = np.where(behind(arrays["length"], x.shape[2])[:, None], 0, x)
    return x, numbers(there, path)[1]


def _scaling(x: NDArray[np.floating], train: NDArray[np.intp], *, unequal: bool) -> Scaling | None:
    return scaling_of(x, train) if unequal else Scaling.of(x, train, channel_axis(x.ndim))


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where an option that needs no file has no possible value."""
    if options["path"] is None:
        raise ConfigError("data.options.path: the source 'folder' needs the path of the folder")
    if options["bad"] not in BAD_POLICIES:
        raise ConfigError(
            f"data.options.bad: must be {' or '.join(BAD_POLICIES)}, not '{options['bad']}'"
        )
    check_fractions(float(options["test"]), float(options["validation"]))


def _recording(folder: Path, modality: str) -> Recording:
    if not folder.is_dir():
        raise DataError(f"data.options.path: there is no folder {folder}")
    path = folder / f"{modality}.npz"
    if path.parent != folder or not modality.isprintable():
        raise DataError(f"a modality is a file of {folder}, which {modality!a} cannot name")
    if modality not in present(folder) and not file_of(folder, modality).is_file():
        there = ", ".join(present(folder)) or "no .npz file, nor a table or a folder of files"
        others = beside(folder, modality, path)
        mend = f"; {shown(others)} is not read: {MEND}" if others else ""
        raise DataError(f"{folder} has no {modality}.npz; it has {there}{mend}")
    return recording_of(folder, modality)


def _beside_note(path: Path, modality: str) -> tuple[str, ...]:
    """Say which recordings of the same name were passed over; one is read for a modality."""
    others = beside(path.parent, modality, path)
    return (f"read from {path.name}; not read: {shown(others)}",) if others else ()


def _check_modalities(path: Path, modality: str, options: Mapping[str, Any]) -> None:
    """Refuse an option for a modality that a folder with several of them does not have."""
    known = present(path.parent)
    if len(known) < 2:  # a machine with its own sensor alone does not know the others
        return
    for option in ("clocks", "layout", "time_unit", "time_zone"):
        given: Iterable[str] = options[option] if isinstance(options[option], Mapping) else ()
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(known)}"
                raise ConfigError(
                    f"data.options.{option}: {path.parent} has no modality '{name}'; {hint}"
                )


def _without_bad(
    samples: Samples, finite: NDArray[np.bool_], path: Path, options: Mapping[str, Any]
) -> tuple[Samples, tuple[str, ...]]:
    """Leave samples with NaN or infinity out if the user wants that, else refuse them."""
    good = finite[samples.row]
    if good.all():
        return samples, ()
    first = samples.event_id[int(np.argmin(good))]
    bad = int((~good).sum())
    if options["bad"] == "stop":
        raise DataError(
            f"{path}: x holds NaN or infinity in {bad} of {len(good)} events (first: event "
            f"{first}); mend them, or leave them out with data.options.bad: drop"
        )
    note = (
        f"{bad} of {len(good)} samples left out, as they hold NaN or infinity (first: event "
        f"{first})"
    )
    if not good.any():
        raise DataError(f"{path}: {note}; none is left")
    return samples.take(good), (note,)


def _windows(
    samples: Samples,
    recording: NDArray[Any],
    split: NDArray[np.uint8],
    path: Path,
    options: Mapping[str, Any],
) -> NDArray[np.intp]:
    window, stride = int(options["window"]), int(options["stride"])
    if (window, stride) == (1, 1):
        return np.arange(len(samples.row))[:, None]
    if window > 1 and samples.sequence is None and not samples.timed:
        raise DataError(
            f"{path}: windows need to know which samples follow each other: add the array "
            "'sequence', or 'time'"
        )
    usable = np.ones(len(samples.row), dtype=bool)
    # A split that the file gives may divide a recording; then windows end where it does.
    _, code = np.unique(recording, return_inverse=True)
    rows = cut(code * len(SPLITS) + split, samples.position, usable, window=window, stride=stride)
    if not len(rows):
        longest = _longest(code * len(SPLITS) + split, samples.position)
        why = f" ({samples.notes[-1]})" if samples.notes else ""
        raise DataError(
            f"{path}: no {window} samples follow each other, at most {longest} do{why}; choose a "
            "smaller data.options.window"
        )
    return rows


def _longest(code: NDArray[Any], position: NDArray[np.int64]) -> int:
    """Return how many samples follow each other at most."""
    order = np.lexsort((position, code))
    breaks = (np.diff(position[order]) != 1) | (np.diff(code[order]) != 0)
    ends = np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(order)]])
    return int(np.diff(ends).max())


def _lost_note(x: NDArray[Any]) -> tuple[str, ...]:
    _, lost = as_float32(x)
    if lost < _LOST:
        return ()
    return (
        f"float32 rounds away {lost:.1%} of how a channel varies, as its values are large; "
        "data.options.standardise: true scales before it rounds",
    )


def _stand_in_note(x: NDArray[Any]) -> tuple[str, ...]:
    if (value := stand_in(x)) is None:
        return ()
    count = int((x == value).sum())
    return (
        f"x is {value:g} in {count:,} places, far from all other values; if that stands for "
        "missing, write NaN and set data.options.bad: drop",
    )


def _layout_note(shape: tuple[int, ...], modality: str) -> tuple[str, ...]:
    if not (likely := suspected(shape)):
        return ()
    return (
        f"read as {understood(shape)}; if channels are last, say so with data.options.layout: "
        f"{{{modality}: {likely}}}",
    )
