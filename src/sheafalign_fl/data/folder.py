"""`folder`: the user's own recordings, one `.npz` file for each modality.

Arrays of a file: `x` (N, ...), `event_id` (N,), and optionally `label` or `label_NAME` (N,) and `split` (N,), as text
or as 0 = train, 1 = validation, 2 = test. Files are read without pickle, so they can hold data and nothing else.

Text labels become numbers in the order of all names in the folder, so that a class has one number for all clients even
where one of them has never seen it. Where every machine has a folder of its own, use numbers for labels.
"""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import SPLITS, UNLABELLED, ModalityData, check_fractions
from sheafalign_fl.data.description import Option, SourceInfo
from sheafalign_fl.errors import ConfigError, DataError

INFO = SourceInfo(
    name="folder",
    summary="Your own recordings: a folder with one MODALITY.npz per modality (x, event_id; optional label, split).",
    origin="your files",
    modalities=(),
    options=(
        Option("path", "str", None, "the folder; relative to the configuration's own folder"),
        Option("test", "float", 0.2, "fraction of events for testing, where a file has no split"),
        Option("validation", "float", 0.1, "fraction of events for validation, where a file has no split"),
        Option("standardise", "bool", True, "subtract the training mean and divide by the training deviation"),
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
    test, validation = float(options["test"]), float(options["validation"])
    check_fractions(test, validation)
    path = _file(Path(str(options["path"])), modality)
    arrays = _read(path)
    x, event_ids = _values(arrays["x"], path), arrays["event_id"]
    _check_length("event_id", event_ids, len(x), path)
    if "split" in arrays:
        split = _given_split(arrays["split"], len(x), path)
    else:
        split = _hashed_split(event_ids, seed, test, validation)
    labels, classes = _labels(arrays, len(x), path)
    train = x[split == SPLITS.index("train")]
    if options["standardise"] and len(train) and np.isfinite(train).all():
        x = _standardised(x, train)
    return ModalityData(x.astype(np.float32), event_ids, split, labels, classes)


def _file(folder: Path, modality: str) -> Path:
    if not folder.is_dir():
        raise DataError(f"data.options.path: there is no folder {folder}")
    path = folder / f"{modality}.npz"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.npz"))) or "no .npz file"
        raise DataError(f"{folder} has no {modality}.npz; it has {there}")
    return path


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # Only a zip archive can be an .npz file; NumPy would also take a bare array, under any name.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "pickle" in str(error).lower():
            raise DataError(f"{path}: holds Python objects; save plain arrays of numbers or text") from None
        raise DataError(f"{path}: is no readable .npz file ({error})") from None
    for name in ("x", "event_id"):
        if name not in arrays:
            raise DataError(f"{path}: lacks the array '{name}'; it has {', '.join(arrays) or 'nothing'}")
    return arrays


def _values(x: NDArray[Any], path: Path) -> NDArray[np.float32]:
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: x has dtype {x.dtype}; it must be numbers")
    if x.ndim < 2:
        raise DataError(f"{path}: x has shape {x.shape}; the first axis must be events, then at least one more")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which is refused like any other
        return x.astype(np.float32)


def _check_length(name: str, values: NDArray[Any], count: int, path: Path) -> None:
    if values.ndim != 1:
        raise DataError(f"{path}: {name} has shape {values.shape}; it must have one axis")
    if len(values) != count:
        raise DataError(f"{path}: {name} has {len(values)} entries but x has {count} events")


def _given_split(given: NDArray[Any], count: int, path: Path) -> NDArray[np.uint8]:
    _check_length("split", given, count, path)
    if given.dtype.kind == "U":
        unknown = sorted(set(given.tolist()) - set(SPLITS))
        if unknown:
            raise DataError(f"{path}: unknown split '{unknown[0]}'; use {', '.join(SPLITS)}")
        return np.array([SPLITS.index(name) for name in given.tolist()], dtype=np.uint8)
    if given.dtype.kind not in "iu" or not np.isin(given, (0, 1, 2)).all():
        raise DataError(f"{path}: split must be train, validation, test, or 0, 1, 2")
    return given.astype(np.uint8)


def _hashed_split(event_ids: NDArray[Any], seed: int, test: float, validation: float) -> NDArray[np.uint8]:
    """Split by a hash of (seed, id), so that an event is in the same split for clients that load apart."""
    share = np.array(
        [
            int.from_bytes(hashlib.sha256(f"{seed}\x1f{event}".encode()).digest()[:8], "big") / 2**64
            for event in event_ids.tolist()
        ]
    )
    return np.where(share < test, 2, np.where(share < test + validation, 1, 0)).astype(np.uint8)


def _labels(
    arrays: dict[str, NDArray[Any]], count: int, path: Path
) -> tuple[dict[str, NDArray[np.int64]], dict[str, tuple[str, ...]]]:
    labels: dict[str, NDArray[np.int64]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for name, values in arrays.items():
        if not _is_label(name):
            continue
        label = name.removeprefix("label_")
        if label in labels:
            raise DataError(f"{path}: 'label' and 'label_label' would have one name; rename one")
        _check_length(name, values, count, path)
        if values.dtype.kind == "U":
            classes[label] = _class_names(name, path)
            labels[label] = _coded(values, classes[label])
        else:
            labels[label] = _class_numbers(name, values, path)
    return labels, classes


def _is_label(name: str) -> bool:
    return name == "label" or (name.startswith("label_") and name != "label_")


def _class_numbers(name: str, values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if values.dtype.kind not in "iub":
        raise DataError(f"{path}: {name} has dtype {values.dtype}; use integers (-1: unknown) or text ('': unknown)")
    if len(values) and not UNLABELLED <= int(values.min()) <= int(values.max()) < 2**31:
        raise DataError(f"{path}: {name} must be class numbers from 0 to 2147483647, or -1 where unknown")
    return values.astype(np.int64)


def _class_names(name: str, path: Path) -> tuple[str, ...]:
    """Return the names of the classes of label `name` in all files of the folder, sorted."""
    known: set[str] = set()
    for file in sorted(path.parent.glob("*.npz")):
        known.update(_texts(name, file))
    return tuple(sorted(known - {""}))


def _texts(name: str, path: Path) -> list[str]:
    """Return one label array, if it is there and is text; a file that cannot be read is reported by its own client."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            values = file[name] if name in file.files else np.empty(0, dtype=np.str_)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return []
    texts: list[str] = values.ravel().tolist() if values.dtype.kind == "U" else []
    return texts


def _coded(values: NDArray[Any], classes: tuple[str, ...]) -> NDArray[np.int64]:
    codes = {text: code for code, text in enumerate(classes)} | {"": UNLABELLED}
    return np.array([codes[text] for text in values.tolist()], dtype=np.int64)


def _standardised(x: NDArray[np.float32], train: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale by training statistics: every feature of a vector alone, every channel of a signal or image.

    What does not vary in training is only centred: dividing by the rounding error of a constant would let a test event
    explode.
    """
    axes = 0 if x.ndim == 2 else (0, *range(2, x.ndim))
    mean = train.mean(axis=axes, keepdims=True, dtype=np.float64)
    scale = train.std(axis=axes, keepdims=True, dtype=np.float64)
    varies = scale > 1e-6 * np.abs(mean)
    scaled: NDArray[np.float32] = ((x - mean) / np.where(varies, scale, 1.0)).astype(np.float32)
    return scaled
