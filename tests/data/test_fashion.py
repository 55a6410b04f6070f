"""Fashion-MNIST in modalities: which file, which image, which part of it; and damaged files."""

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.data import fashion
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.idx import read_idx
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError, DataError, SheafAlignError
from tests.data.idx_files import CLASSES, TEST, TRAIN, Pixels, idx, made, write

COUNTS = {"train": 50, "validation": 20, "test": 40}
SINGLE = ("original", "embossed", "inverted", "top", "bottom", "small")
TRIO = ("ab", "bc", "ca")
HARD = tuple(f"{name}-hard" for name in TRIO)
SHAPES = {
    **dict.fromkeys(("original", "embossed", "inverted"), (1, 28, 28)),
    **dict.fromkeys(("top", "bottom"), (1, 14, 28)),
    "small": (1, 7, 7),
    **dict.fromkeys(TRIO, (2, 28, 28)),
    **dict.fromkeys(HARD, (2, 14, 28)),
}
FILES = made()
Images = dict[bytes, int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("fashion"), FILES, gzipped=False)


def load(folder: Path, modality: str, seed: int = 0, **options: Any) -> ModalityData:
    return load_modality(
        "fashion", modality, seed, {"path": str(folder), **COUNTS, **options}, "client 'c'"
    )


def pixels(values: Any) -> Pixels:
    """Return the bytes that standardised `values` came from."""
    found: Pixels = np.round((values * fashion.SCALE + fashion.MEAN) * 255).astype(np.uint8)
    return found


@cache
def known(file: str, part: str) -> Images:
    """Return pixels of (the part of) every image in a file -> its row."""
    cut = {"whole": slice(None), "top": slice(14), "bottom": slice(14, None)}[part]
    return {
        image[cut].tobytes(): row for row, image in enumerate(FILES[f"{file}-images-idx3-ubyte"])
    }


def rows_of(data: ModalityData, channel: int = 0, part: str = "whole") -> list[int]:
    """Return the row of every event's image, found by its pixels.

    Test rows are as in the file, plus 1,000,000.
    """
    train, test = known("train", part), known("t10k", part)
    keys = [pixels(event[channel]).tobytes() for event in data.x]
    return [train[key] if key in train else test[key] + 1_000_000 for key in keys]


def expected_file(split: int) -> range:
    return range(1_000_000, 1_000_000 + TEST) if split == 2 else range(TRAIN)


def test_every_modality_that_is_described_is_tested() -> None:
    assert {modality.name: modality.shape for modality in fashion.INFO.modalities} == {
        name: str(shape) for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize("modality", SHAPES)
def test_shapes_types_and_value_ranges(folder: Path, modality: str) -> None:
    data = load(folder, modality)
    assert data.input_shape == SHAPES[modality]
    assert data.x.dtype == np.float32
    assert np.bincount(data.split).tolist() == [50, 20, 40]
    lowest, highest = -fashion.MEAN / fashion.SCALE, (1 - fashion.MEAN) / fashion.SCALE
    # The emboss kernel sums to 0 and its positive entries to 1, so its values span the difference
    # of two pixels.
    bound = (
        (highest - lowest, highest - lowest)
        if modality in ("embossed", "inverted")
        else (-lowest, highest)
    )
    assert data.x.min() >= -bound[0] - 1e-5
    assert data.x.max() <= bound[1] + 1e-5
    assert data.x.std() > 0.05


@pytest.mark.parametrize("modality", SHAPES)
@pytest.mark.parametrize("which", ["gzipped", "both"])
def test_gzipped_files_and_plain_ones_are_the_same(
    folder: Path, tmp_path: Path, modality: str, which: str
) -> None:
    packed = write(tmp_path, FILES, gzipped=True)
    if which == "both":  # then the plain file is read, and what the other holds does not matter
        write(tmp_path, FILES, gzipped=False)
        (packed / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    one, other = load(folder, modality), load(packed, modality)
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.event_ids, other.event_ids)


@pytest.mark.parametrize("modality", SINGLE)
def test_the_event_id_is_the_image_and_its_label_the_files(folder: Path, modality: str) -> None:
    data = load(folder, modality)
    original = load(folder, "original")
    np.testing.assert_array_equal(data.event_ids, original.event_ids)
    np.testing.assert_array_equal(data.split, original.split)
    assert rows_of(original) == original.event_ids.tolist()
    labels = [
        FILES[f"{'t10k' if event >= 1_000_000 else 'train'}-labels-idx1-ubyte"][event % 1_000_000]
        for event in data.event_ids.tolist()
    ]
    assert data.labels["class"].tolist() == labels
    assert list(data.labels) == ["class"]
    assert data.classes["class"] == fashion.CLASSES


seeds = st.integers(0, 2**40)
sizes = st.tuples(st.integers(1, TRAIN - 1), st.integers(1, TRAIN), st.integers(1, TEST)).map(
    lambda t: (t[0], min(t[1], TRAIN - t[0]), t[2])
)


@settings(max_examples=25, deadline=None)
@given(seeds, sizes)
def test_no_image_is_in_two_splits(folder: Path, seed: int, counts: tuple[int, int, int]) -> None:
    train, validation, test = counts
    options = {"train": train, "validation": validation, "test": test}
    data = load(folder, "original", seed, **options)
    rows = rows_of(data)
    assert len(set(rows)) == len(rows) == train + validation + test
    assert all(
        row in expected_file(split) for row, split in zip(rows, data.split.tolist(), strict=True)
    )
    three = [load(folder, name, seed, **options) for name in TRIO]
    images = {
        split: {row for data in three for row in rows_of(_only(data, split))} for split in (0, 1, 2)
    }
    assert not images[0] & images[1]
    assert all(row in expected_file(split) for split, held in images.items() for row in held)


def _only(data: ModalityData, split: int) -> ModalityData:
    return data.take(np.flatnonzero(data.split == split))


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 30), st.integers(1, 30))
def test_the_held_out_split_does_not_move_with_the_number_of_training_events(
    folder: Path, seed: int, train: int, other: int
) -> None:
    """So that a run with little data is tested and tuned on the events of one with much."""
    one, two = (load(folder, "top", seed, train=count) for count in (train, other))
    for split in (1, 2):
        np.testing.assert_array_equal(_only(one, split).event_ids, _only(two, split).event_ids)
    shorter, longer = sorted(
        (_only(one, 0).event_ids.tolist(), _only(two, 0).event_ids.tolist()), key=len
    )
    assert longer[: len(shorter)] == shorter


def test_top_and_bottom_are_the_halves_and_small_the_mean_of_cells(folder: Path) -> None:
    whole, top, bottom, small = (
        load(folder, name).x for name in ("original", "top", "bottom", "small")
    )
    np.testing.assert_array_equal(np.concatenate([top, bottom], axis=2), whole)
    for event in range(0, len(whole), 9):
        for row in range(7):
            for column in range(7):
                cell = [
                    whole[event, 0, 4 * row + i, 4 * column + j] for i in range(4) for j in range(4)
                ]
                assert small[event, 0, row, column] == pytest.approx(sum(cell) / 16, abs=1e-5)


@pytest.mark.parametrize(
    ("modality", "kernel", "sign"),
    [
        ("embossed", [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], 1),
        ("inverted", [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]], -1),  # turned by a quarter
    ],
)
def test_embossing_equals_a_slow_loop(
    folder: Path, modality: str, kernel: list[list[int]], sign: int
) -> None:
    whole, found = load(folder, "original").x, load(folder, modality).x
    for event in (0, 57, 109):
        image = sign * whole[event, 0].astype(float)
        for row in range(28):
            for column in range(28):
                total = 0.0
                for i in range(3):
                    for j in range(3):
                        near = image[min(max(row + i - 1, 0), 27), min(max(column + j - 1, 0), 27)]
                        total += kernel[i][j] / 4 * near
                assert found[event, 0, row, column] == pytest.approx(total, abs=1e-4)


# ---- the trio ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True])
def test_a_pair_of_the_trio_shares_one_image_and_all_three_none(folder: Path, hard: bool) -> None:
    data = {name: load(folder, f"{name}-hard" if hard else name) for name in TRIO}
    parts = ("top", "bottom") if hard else ("whole", "whole")
    seen = {
        name: [
            rows_of(data[name], channel, part) for channel, part in zip((0, 1), parts, strict=True)
        ]
        for name in TRIO
    }
    for other in data.values():
        np.testing.assert_array_equal(other.event_ids, data["ab"].event_ids)
        np.testing.assert_array_equal(other.split, data["ab"].split)
    (a, b), (b_again, c), (c_again, a_again) = seen["ab"], seen["bc"], seen["ca"]
    assert (a, b, c) == (a_again, b_again, c_again)
    assert data["ab"].event_ids.tolist() == a
    # The images of a trio are drawn independently, so by chance two of a small file can be the same
    # one.
    apart = [len(set(trio)) == 3 for trio in zip(a, b, c, strict=True)]
    assert sum(apart) > 0.9 * len(apart)
    for distinct, (one, two, three) in zip(apart, zip(a, b, c, strict=True), strict=True):
        if distinct:
            clients = ({one, two}, {two, three}, {three, one})
            assert all(len(x & y) == 1 for x, y in (clients[:2], clients[1:], clients[::2]))
            assert not set.intersection(*clients)


def test_a_trio_shows_its_three_images_in_every_combination(folder: Path) -> None:
    """What an event's images A and B show says nothing of each other.

    Otherwise one shared image would give away two.
    """
    data = load(folder, "ab", train=TRAIN - 20)
    a, b = (np.array(rows_of(_only(data, 0), channel)) for channel in (0, 1))
    assert len(set(a)) == len(a)  # every training image is A once
    assert len(set(b)) == len(
        b
    )  # and B once: of two events with one B nobody could tell which is meant
    assert not (a == b).all()


def test_each_client_of_the_trio_knows_the_classes_of_what_it_sees(folder: Path) -> None:
    for name in (*TRIO, *HARD):
        data = load(folder, name)
        parts = ("top", "bottom") if name in HARD else ("whole", "whole")
        assert sorted(data.labels) == [f"class_{letter}" for letter in sorted(name[:2])]
        for channel, letter in enumerate(name[:2]):
            classes = [
                FILES[f"{'t10k' if row >= 1_000_000 else 'train'}-labels-idx1-ubyte"][
                    row % 1_000_000
                ]
                for row in rows_of(data, channel, parts[channel])
            ]
            assert data.labels[f"class_{letter}"].tolist() == classes
            assert data.classes[f"class_{letter}"] == fashion.CLASSES


def test_the_hard_trio_shows_the_top_to_one_and_the_bottom_to_the_other(folder: Path) -> None:
    for easy, name in zip(TRIO, HARD, strict=True):
        whole, halves = load(folder, easy), load(folder, name)
        np.testing.assert_array_equal(halves.x[:, 0], whole.x[:, 0, :14])
        np.testing.assert_array_equal(halves.x[:, 1], whole.x[:, 1, 14:])
        np.testing.assert_array_equal(halves.event_ids, whole.event_ids)


# ---- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["top", "bc", "ca-hard"])
def test_the_seed_decides_and_0_is_one(folder: Path, modality: str) -> None:
    options = {"path": str(folder), **COUNTS}
    loaded = [
        fashion.load(modality, seed, **options) for seed in (0, 0, 1)
    ]  # past the registry, which keeps its own
    np.testing.assert_array_equal(loaded[0].x, loaded[1].x)
    np.testing.assert_array_equal(loaded[0].event_ids, loaded[1].event_ids)
    assert loaded[0].event_ids.tolist() != loaded[2].event_ids.tolist()
    assert set(loaded[0].ids_of("test")) != set(loaded[2].ids_of("test"))


def test_what_is_loaded_keeps_nothing_of_the_next_caller(folder: Path) -> None:
    """The images are read once and kept, so no modality may be a view that another can write to."""
    options = {"path": str(folder), **COUNTS}
    before = fashion.load("original", 0, **options).x.copy()
    for modality in SHAPES:
        fashion.load(modality, 0, **options).x[:] = 7
    np.testing.assert_array_equal(fashion.load("original", 0, **options).x, before)


# ---- what can be wrong ---------------------------------------------------------------------------


def complaint(folder: Path, modality: str = "top", **options: Any) -> SheafAlignError:
    with pytest.raises((DataError, ConfigError)) as caught:
        load(folder, modality, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert (
        str(complaint(tmp_path / "nowhere"))
        == f"fashion: there is no folder {tmp_path / 'nowhere'}"
    )


def test_without_a_path_the_usual_places_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    with pytest.raises(DataError, match="make data"):
        fashion.find_folder("")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("gzipped", [False, True])
def test_a_missing_file_is_named(tmp_path: Path, name: str, gzipped: bool) -> None:
    write(tmp_path, {file: array for file, array in FILES.items() if file != name}, gzipped=gzipped)
    assert str(complaint(tmp_path)) == f"{tmp_path} lacks the file {name} (or {name}.gz)"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, 9, 0.5, 0.99])
def test_a_truncated_gzip_is_named(tmp_path: Path, name: str, kept: float) -> None:
    path = write(tmp_path, FILES, gzipped=True) / f"{name}.gz"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    assert isinstance(error := complaint(tmp_path), DataError)
    assert str(path) in str(error)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_damaged_gzip_is_never_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, whole: bool
) -> None:
    content = bytearray(gzip.compress(idx(FILES["train-labels-idx1-ubyte"])))
    content[place % len(content)] = byte
    path = tmp_path_factory.mktemp("damaged") / "x.gz"
    path.write_bytes(content if whole else content[: place % len(content)])
    problem, found = "", FILES["train-labels-idx1-ubyte"]
    try:
        found = read_idx(path.parent, "x", 1)
    except DataError as error:
        problem = str(error)
    # Some bytes of gzip's header say nothing of the content, such as its time; then there is no
    # problem.
    assert not problem or str(path) in problem
    np.testing.assert_array_equal(found, FILES["train-labels-idx1-ubyte"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 255), st.booleans())
def test_idx_files_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], fill: int, gzipped: bool
) -> None:
    array = np.random.default_rng(fill).integers(0, 256, shape, dtype=np.uint8)
    folder = write(tmp_path_factory.mktemp("idx"), {"x": array}, gzipped=gzipped)
    found = read_idx(folder, "x", array.ndim)
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)
    with pytest.raises(DataError, match="no IDX file"):
        read_idx(folder, "x", array.ndim + 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda content: b"\0\0\x09\x03" + content[4:],
            "no IDX file of unsigned bytes",
        ),  # signed bytes
        (lambda content: b"\0\0\x08\x01" + content[4:], "with 3 axes"),
        (lambda content: b"PNG\r" + content[4:], "no IDX file"),
        (lambda content: content[:7], "no IDX file"),
        (lambda content: content[:-1], "should hold"),
        (lambda content: content + b"\0", "should hold"),
        (lambda content: content[:4] + b"\xff" * 12 + content[16:], "should hold"),
    ],
)
def test_what_is_no_idx_file_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    path = write(tmp_path, FILES, gzipped=False) / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    assert isinstance(error := complaint(tmp_path), DataError)
    assert message in str(error)
    assert str(path) in str(error)


@pytest.mark.parametrize("file", ["train", "t10k"])
def test_another_number_of_labels_than_of_images_is_named(tmp_path: Path, file: str) -> None:
    labels = FILES[f"{file}-labels-idx1-ubyte"]
    write(tmp_path, {**FILES, f"{file}-labels-idx1-ubyte": labels[:-1]}, gzipped=False)
    assert isinstance(error := complaint(tmp_path), DataError)
    assert f"{len(labels)} images but {len(labels) - 1} labels ({file})" in str(error)


def test_images_of_another_size_are_named(tmp_path: Path) -> None:
    images = FILES["train-images-idx3-ubyte"][:, :27]
    write(
        tmp_path, {**FILES, "train-images-idx3-ubyte": np.ascontiguousarray(images)}, gzipped=False
    )
    assert "(27, 28), not 28 x 28" in str(complaint(tmp_path))


def test_labels_that_are_none_of_the_ten_classes_are_named(tmp_path: Path) -> None:
    """Such as those of EMNIST, whose files have MNIST's names too, but classes of other names."""
    labels = FILES["train-labels-idx1-ubyte"].copy()
    labels[3] = CLASSES
    write(tmp_path, {**FILES, "train-labels-idx1-ubyte": labels}, gzipped=False)
    assert isinstance(error := complaint(tmp_path), DataError)
    assert "the label 10" in str(error)


@pytest.mark.parametrize("modality", ["top", "ab"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"train": TRAIN - 19},
            f"data.options.train: must be between 1 and {TRAIN - 20}, not {TRAIN - 19}",
        ),
        ({"validation": TRAIN - 49}, f"data.options.train: must be between 1 and {49}, not 50"),
        (
            {"validation": TRAIN},
            f"of {TRAIN} images for training and validation none is left for train",
        ),
        ({"validation": 10 * TRAIN}, "none is left for train"),
        ({"train": -5, "validation": 10 * TRAIN}, "none is left for train"),
        ({"test": TEST + 1}, f"data.options.test: must be between 1 and {TEST}, not {TEST + 1}"),
        ({"train": 0}, "data.options.train"),
        ({"validation": 0}, "data.options.validation"),
        ({"test": 0}, "data.options.test"),
        ({"train": -1}, "data.options.train"),
        ({"validation": -7}, "data.options.validation"),
        ({"test": -7}, "data.options.test"),
        ({"train": -5, "validation": -5, "test": -5}, "data.options.train"),
    ],
)
def test_more_events_than_images_or_fewer_than_one_are_refused(
    folder: Path, modality: str, options: dict[str, int], message: str
) -> None:
    assert isinstance(error := complaint(folder, modality, **options), ConfigError)
    assert message in str(error)
    assert "and -" not in str(error)  # no range that holds nothing


@pytest.mark.parametrize("options", [{"train": "5"}, {"test": 2.5}, {"tests": 5}, {"path": 3}])
def test_options_of_another_type_are_refused(folder: Path, options: dict[str, Any]) -> None:
    assert isinstance(complaint(folder, **options), ConfigError)


def test_files_without_any_image_are_refused(tmp_path: Path) -> None:
    write(tmp_path, made(train=0, test=0), gzipped=False)
    assert "none is left for train" in str(complaint(tmp_path))


# ---- the real files ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_files() -> None:
    try:
        found = fashion.find_folder("")
    except DataError as error:
        pytest.skip(str(error))
    options = {"path": str(found), "train": 60_000 - 1000, "validation": 1000, "test": 10_000}
    data = fashion.load("small", 0, **options)
    assert len(np.unique(data.event_ids)) == 70_000
    assert np.bincount(data.labels["class"]).tolist() == [7000] * CLASSES
    raw = read_idx(found, "train-images-idx3-ubyte", 3) / 255
    assert raw.mean() == pytest.approx(fashion.MEAN, abs=1e-3)
    assert raw.std() == pytest.approx(fashion.SCALE, abs=1e-3)
    # Trousers (1) are two legs with a gap: darker in the middle of the lower half than a dress (3)
    # is.
    below = load_modality("fashion", "bottom", 0, {"path": str(found), "train": 2000}, "test")
    middle = below.x[:, 0, 8:, 13:15].mean(axis=(1, 2))
    trouser, dress = (middle[below.labels["class"] == label].mean() for label in (1, 3))
    assert trouser < dress - 0.5
    fashion._standardised.cache_clear()  # 190 MB that no other test needs
