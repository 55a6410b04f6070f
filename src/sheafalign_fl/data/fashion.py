"""`fashion`: Fashion-MNIST cut into modalities that differ in what they share.

With each neighbour they share everything, something, or only one thing.

============================  ==================================================================
clients                       what they share
============================  ==================================================================
original, embossed, inverted  everything: three renderings of one image (the redundant setting)
top, bottom, small            the halves of an image, and all of it at 7 x 7: each pair shares
                              what the third lacks
ab, bc, ca                    the trio: an event is three independent images A, B, C, and each
                              client sees two of them, so every pair shares exactly one image
                              and all three share none
ab-hard, bc-hard, ca-hard     the trio again, but of the image that two clients share, one sees
                              the top half and the other the bottom half
============================  ==================================================================

The files are those of Xiao et al. (2017), in the IDX format of MNIST; any folder with MNIST's names
will do. Images for testing come from the test file, those for training and validation from the
training file, so no image is ever in two splits (in a trio neither).
"""

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.description import Labels, Modality, Option, SourceInfo
from sheafalign_fl.data.idx import read_idx
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.seeding import numpy_generator

CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
MEAN, SCALE = 0.286, 0.353
"""Of all training pixels, between 0 and 1."""
_SIDE, _SMALL = 28, 7
_TEST_IDS = 1_000_000
_EMBOSS: NDArray[np.float32] = np.array(
    [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], dtype=np.float32
) / np.float32(4)
_TURNED: NDArray[np.float32] = np.ascontiguousarray(np.rot90(_EMBOSS))

_TRIO = {"ab": (0, 1), "bc": (1, 2), "ca": (2, 0)}
_FACTORS = ("class_a", "class_b", "class_c")

INFO = SourceInfo(
    name="fashion",
    summary=(
        "Fashion-MNIST as redundant renderings, as halves, or as trios "
        "in which each pair shares one image."
    ),
    origin=(
        "Debian's package dataset-fashion-mnist (`make data`), "
        "or any folder with files of MNIST's names and format"
    ),
    modalities=(
        Modality("original", "(1, 28, 28)", "the image"),
        Modality("embossed", "(1, 28, 28)", "the image under an emboss filter"),
        Modality(
            "inverted",
            "(1, 28, 28)",
            "the image inverted, under the same filter turned by a quarter",
        ),
        Modality("top", "(1, 14, 28)", "its upper half"),
        Modality("bottom", "(1, 14, 28)", "its lower half"),
        Modality("small", "(1, 7, 7)", "all of it, in cells of 4 x 4 pixels"),
        *(
            Modality(
                name, "(2, 28, 28)", f"images {name[0].upper()} and {name[1].upper()} of a trio"
            )
            for name in _TRIO
        ),
        *(
            Modality(
                f"{name}-hard",
                "(2, 14, 28)",
                f"top half of {name[0].upper()}, bottom half of {name[1].upper()}",
            )
            for name in _TRIO
        ),
    ),
    options=(
        Option(
            "path",
            "str",
            "",
            "folder of the four IDX files; default: where Debian and `make data` put them",
        ),
        Option("train", "int", 10000, "events for training"),
        Option("validation", "int", 1000, "events for validation"),
        Option("test", "int", 2000, "events for testing"),
    ),
    labels=(
        Labels("class", CLASSES, "what the image shows (not in a trio)"),
        *(
            Labels(
                name, CLASSES, f"trio: what image {name[-1].upper()} shows; known to who sees it"
            )
            for name in _FACTORS
        ),
    ),
)


def load(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return one modality; see `INFO` for what there is.

    Raises
    ------
    DataError
        The files are absent or damaged.
    ConfigError
        More events are asked for than there are images.
    """
    folder = str(find_folder(str(options["path"])))
    counts = {name: int(options[name]) for name in ("train", "validation", "test")}
    kind = modality.removesuffix("-hard")
    picked = [_pick(folder, split, counts, seed, trio=kind in _TRIO) for split in counts]
    images = np.concatenate(
        [_pictures(folder, split)[rows] for split, rows in zip(counts, picked, strict=True)]
    )
    targets = np.concatenate(
        [_classes(folder, split)[rows] for split, rows in zip(counts, picked, strict=True)]
    )
    if kind in _TRIO:
        first, second = _TRIO[kind]
        seen = (
            _trio_halves(images, first, second) if modality != kind else images[:, (first, second)]
        )
        labels = {_FACTORS[factor]: targets[:, factor] for factor in sorted((first, second))}
        ids = [rows[:, 0] for rows in picked]
    else:
        seen, labels, ids = _view(modality, images)[:, None], {"class": targets}, picked
    return ModalityData(
        seen.astype(np.float32),
        np.concatenate(
            [
                rows + (_TEST_IDS if split == "test" else 0)
                for split, rows in zip(counts, ids, strict=True)
            ]
        ),
        np.repeat(np.arange(3, dtype=np.uint8), list(counts.values())),
        labels,
        dict.fromkeys(labels, CLASSES),
    )


def find_folder(path: str) -> Path:
    """Return the folder of the files: `path` if given, else the first usual place that exists.

    Raises
    ------
    DataError
        There is none.
    """
    usual = [Path(root) / "share" / "datasets" / "fashion-mnist" for root in (sys.prefix, "/usr")]
    found = next((folder for folder in ([Path(path)] if path else usual) if folder.is_dir()), None)
    if found is None:
        raise DataError(
            f"fashion: there is no folder {path}"
            if path
            else "fashion: Fashion-MNIST is not on this machine; run `make data`, "
            "install Debian's package dataset-fashion-mnist, or give data.options.path, a folder "
            "with MNIST's four files"
        )
    return found


def _pick(
    folder: str, split: str, counts: dict[str, int], seed: int, *, trio: bool
) -> NDArray[np.int64]:
    """Return rows of the split's file: (N,), or (N, 3) for a trio, no row twice in a column."""
    size = len(_classes(folder, split))
    held = (
        counts["validation"]
        if split == "train"
        else counts["train"]
        if split == "validation"
        else 0
    )
    wanted, most = counts[split], size - held
    if most < 1:
        raise ConfigError(
            f"data.options: of {size} images for training and validation none is left for {split}"
        )
    if wanted < 1 or wanted > most:
        raise ConfigError(f"data.options.{split}: must be between 1 and {most}, not {wanted}")
    # Validation takes the front of the training file's permutation and training its end, whatever
    # their sizes.
    order = numpy_generator(seed, "fashion", "test" if split == "test" else "train").permutation(
        size
    )
    pool = order[: counts["validation"]] if split == "validation" else order[::-1][: size - held]
    rows = pool[:wanted].astype(np.int64)
    if not trio:
        return rows
    # Without replacement: if two events had the same B, nothing could tell which of them a client
    # sees.
    others = [
        numpy_generator(seed, "fashion", split, factor).permutation(pool)[:wanted]
        for factor in "bc"
    ]
    return np.stack([rows, *others], axis=1).astype(np.int64)


def _view(modality: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a client of one image sees of `images` (N, 28, 28)."""
    half = _SIDE // 2
    if modality == "top":
        return images[:, :half]
    if modality == "bottom":
        return images[:, half:]
    if modality == "small":
        cell = _SIDE // _SMALL
        small: NDArray[np.float32] = images.reshape(-1, _SMALL, cell, _SMALL, cell).mean(
            axis=(2, 4)
        )
        return small
    if modality == "embossed":
        return _filtered(images, _EMBOSS)
    return _filtered(-images, _TURNED) if modality == "inverted" else images


def _trio_halves(images: NDArray[np.float32], first: int, second: int) -> NDArray[np.float32]:
    half = _SIDE // 2
    return np.stack([images[:, first, :half], images[:, second, half:]], axis=1)


def _filtered(images: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the correlation of every image with `kernel` (3, 3), edges repeated."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    filtered: NDArray[np.float32] = np.einsum("nhwij,ij->nhw", windows, kernel)
    return filtered


def _pictures(folder: str, split: str) -> NDArray[np.float32]:
    return _standardised(folder, "t10k" if split == "test" else "train")


def _classes(folder: str, split: str) -> NDArray[np.int64]:
    return _targets(folder, "t10k" if split == "test" else "train")


@lru_cache(maxsize=4)
def _standardised(folder: str, name: str) -> NDArray[np.float32]:
    raw = read_idx(Path(folder), f"{name}-images-idx3-ubyte", 3)
    if raw.shape[1:] != (_SIDE, _SIDE):
        raise DataError(
            f"fashion: the images in {folder} are {raw.shape[1:]}, not {_SIDE} x {_SIDE}"
        )
    if len(raw) != (count := len(_targets(folder, name))):
        raise DataError(f"fashion: {folder} has {len(raw)} images but {count} labels ({name})")
    values = raw.astype(np.float32)
    values /= 255
    values -= MEAN
    values /= SCALE
    return values


@lru_cache(maxsize=4)
def _targets(folder: str, name: str) -> NDArray[np.int64]:
    targets = read_idx(Path(folder), f"{name}-labels-idx1-ubyte", 1).astype(np.int64)
    if (targets >= len(CLASSES)).any():
        raise DataError(
            f"fashion: {folder} has the label {targets.max()} ({name}); "
            f"there are {len(CLASSES)} classes"
        )
    return targets
