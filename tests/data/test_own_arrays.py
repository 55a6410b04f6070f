"""Arrays of the user's own files: their names, their precision, their axes, their labels."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sheafalign_fl as sf
from sheafalign_fl.data.features import with_features
from sheafalign_fl.data.own.axes import arranged, suspected, understood
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError, DataError
from sheafalign_fl.labels import kind_of

IDS = np.arange(120)


def load(path: Path, modality: Any = "a", **options: Any) -> Any:
    return load_modality("folder", modality, 0, {"path": str(path), **options}, "test")


def save(folder: Path, x: Any = None, name: Any = "a", **arrays: Any) -> None:
    x = np.random.default_rng(0).normal(size=(120, 3)) if x is None else x
    np.savez(folder / f"{name}.npz", **{"x": x, "event_id": IDS, **arrays})


# ---- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("splits", "split"),
        ("labels", "label"),
        ("y", "label"),
        ("Label", "label"),
        ("lable", "label"),
        ("timestamps", "time"),
        ("ids", "event_id"),
        ("X", "x"),
        ("sequense", "sequence"),
        ("weather", None),
        ("label_", "label"),
    ],
)
def test_an_array_that_means_nothing_is_refused_with_what_may_be_meant(
    tmp_path: Path, name: str, meant: str | None
) -> None:
    save(tmp_path, **{name: np.zeros(120, dtype=int)})
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert f"a.npz: unknown array '{name}'" in str(caught.value)
    expected = "known: x, event_id, time" if meant is None else f"did you mean '{meant}'?"
    assert expected in str(caught.value)
    save(tmp_path, **{f"_{name}": np.zeros(7)})
    assert len(load(tmp_path)) == 120


def test_unknown_arrays_of_features_are_refused_too(tmp_path: Path) -> None:
    save(tmp_path)
    data = load(tmp_path)
    np.savez(tmp_path / "f.npz", x=np.zeros((120, 4)), event_id=IDS, feature=np.zeros(3))
    with pytest.raises(DataError, match="unknown array 'feature'; did you mean 'x'"):
        with_features(data, tmp_path / "f.npz", "a")


def test_an_option_for_a_modality_that_is_not_there_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    assert len(load(tmp_path, clocks={"elsewhere": 1.0})) == 120  # the others may be anywhere
    save(tmp_path, name="microphone")
    for option in ("clocks", "layout", "time_unit", "time_zone"):
        with pytest.raises(ConfigError, match=f"{option}: .* did you mean 'microphone'"):
            load(tmp_path, **{option: {"microphon": 1.0}})


# ---- precision ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "spread"),
    [(33.42, 1e-6), (101_325.0, 1e-3), (1.7e9, 1.0), (2**40, 3.0)],
    ids=["latitude", "pressure", "time", "counter"],
)
def test_what_varies_little_beside_its_size_keeps_its_values(
    tmp_path: Path, offset: float, spread: float
) -> None:
    true = np.random.default_rng(0).normal(size=(120, 2))
    save(tmp_path, offset + spread * true)
    data = load(tmp_path)
    train = true[data.split == 0]
    expected = (true - train.mean(axis=0)) / train.std(axis=0)
    np.testing.assert_allclose(data.x, expected, atol=2e-3)
    assert len(np.unique(data.x[:, 0])) == 120
    np.savez(tmp_path / "f.npz", x=offset + spread * true, event_id=IDS)
    np.testing.assert_array_equal(with_features(data, tmp_path / "f.npz", "a").x, data.x)
    raw = load(tmp_path, standardise=False)
    lost = len(np.unique(raw.x[:, 0])) < 100
    assert any("float32 rounds away" in note for note in raw.notes) == lost


def test_whole_numbers_of_64_bits_are_scaled_before_they_are_rounded(tmp_path: Path) -> None:
    count = 2**53 + 2 * np.random.default_rng(0).permutation(120)[:, None]
    save(tmp_path, count.astype(np.uint64))
    assert len(np.unique(load(tmp_path).x)) == 120


def test_float32_files_are_scaled_to_the_same_bits_as_ever(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(5, 3, (120, 2, 16)).astype(np.float32)
    save(tmp_path, x)
    data = load(tmp_path)
    fit = x[data.split == 0]
    mean = fit.mean(axis=(0, 2), keepdims=True, dtype=np.float64)
    scale = fit.std(axis=(0, 2), keepdims=True, dtype=np.float64)
    np.testing.assert_array_equal(data.x, ((x - mean) / scale).astype(np.float32))


# ---- axes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "shape", "turned"),
    [
        ("TC", (50, 6), (6, 50)),
        ("CT", (6, 50), (6, 50)),
        ("T", (50,), (1, 50)),
        ("HW", (8, 4), (1, 8, 4)),
        ("HWC", (8, 4, 3), (3, 8, 4)),
        ("CHW", (3, 8, 4), (3, 8, 4)),
        ("WHC", (4, 8, 3), (3, 8, 4)),
        ("THWC", (5, 8, 4, 3), (5, 3, 8, 4)),
        ("THW", (5, 8, 4), (5, 1, 8, 4)),
        ("CTHW", (3, 5, 8, 4), (5, 3, 8, 4)),
        ("F", (7,), (7,)),
    ],
)
def test_a_layout_turns_axes_into_the_order_of_encoders(
    tmp_path: Path, layout: str, shape: tuple[int, ...], turned: tuple[int, ...]
) -> None:
    x = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)
    result = arranged(x, layout, tmp_path)
    assert result.shape == (2, *turned)
    axes = {letter: 1 + axis for axis, letter in enumerate(layout)}
    order = "TCHW" if "T" in layout and "H" in layout else ("CHW" if "H" in layout else "CT")
    order = "F" if layout == "F" else order
    names = {letter: 1 + axis for axis, letter in enumerate(order)}
    for index in np.ndindex(*result.shape):
        there = [index[0], *([0] * len(layout))]
        for letter, axis in axes.items():
            there[axis] = index[names[letter]]
        assert result[index] == x[tuple(there)]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("TCX", "'TCX' is no layout"),
        ("TT", "'TT' is no layout"),
        ("H", "H is none that an encoder takes"),
        ("HWC", "HWC has 3 axes, but an event of x has 2: 128 × 6"),
        ({"a": 3}, "'3' is no layout"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path, layout: Any, message: str) -> None:
    save(tmp_path, np.zeros((120, 128, 6)))
    with pytest.raises((ConfigError, DataError), match=re.escape(message)):
        load(tmp_path, layout=layout)


def test_samples_by_channels_are_told_and_turned(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(120, 128, 6))
    save(tmp_path, x)
    told = load(tmp_path)
    assert told.input_shape == (128, 6)
    assert told.notes == (
        "read as 128 channels of 6 samples; if channels are last, say so with "
        "data.options.layout: {a: TC}",
    )
    turned = load(tmp_path, layout={"a": "TC"})
    assert (turned.input_shape, turned.notes) == ((6, 128), ())
    np.savez(tmp_path / "b.npz", x=x.transpose(0, 2, 1), event_id=IDS)
    np.testing.assert_array_equal(turned.x, load(tmp_path, "b").x)


def test_how_axes_are_read_can_be_said() -> None:
    assert understood((7,)) == "7 features"
    assert understood((1, 50)) == "1 channel of 50 samples"
    assert understood((3, 8, 4)) == "3 channels of 8 × 4 pixels"
    assert understood((5, 1, 8, 4)) == "5 frames of 1 channel of 8 × 4 pixels"
    likely = [suspected(shape) for shape in ((128, 6), (6, 128), (48, 64, 3), (3, 48, 64), (8, 4))]
    assert likely == ["TC", "", "HWC", "", ""]


# ---- labels ------------------------------------------------------------------------------------


def test_the_kind_of_a_label_follows_from_its_array_or_is_declared(tmp_path: Path) -> None:
    heat = np.where(IDS % 5 == 0, np.nan, 20.5 + IDS)
    tags = np.stack([IDS % 2, IDS % 3 == 0], axis=1)
    tags[7] = -1
    save(tmp_path, label_heat=heat, label_tags=tags, label_kind=IDS % 4)
    found = load(tmp_path).labels
    assert {name: kind_of(values) for name, values in found.items()} == {
        "heat": "values",
        "tags": "multi",
        "kind": "classes",
    }
    np.testing.assert_array_equal(found["heat"], heat)
    np.testing.assert_array_equal(found["tags"], tags)
    assert found["kind"].dtype == found["tags"].dtype == np.int64
    declared = load(tmp_path, labels={"kind": "values"}).labels["kind"]
    assert kind_of(declared) == "values"
    np.testing.assert_array_equal(declared, IDS % 4)


def test_several_labels_in_floating_point_are_unknown_where_minus_one_or_nan_says_so(
    tmp_path: Path,
) -> None:
    tags = np.stack([IDS % 2, IDS % 3 == 0], axis=1)
    tags[[7, 8, 9]] = [[-1, -1], [-1, -1], [-1, -1]]
    given = tags.astype(float)
    given[8], given[9, 0] = np.nan, 1  # of row 9 one is unknown, so the event is
    save(tmp_path, label=given)
    np.testing.assert_array_equal(load(tmp_path).labels["label"], tags)
    for odd in (np.inf, -np.inf, -0.5, -2):
        given[3, 1] = odd
        save(tmp_path, label=given)
        with pytest.raises(DataError, match="each column is a label that an event has"):
            load(tmp_path)


def test_saved_arrays_keep_values_and_several_labels(tmp_path: Path) -> None:
    labels = {"heat": 0.5 + IDS, "tags": np.eye(3, dtype=int)[IDS % 3]}
    x = np.random.default_rng(0).normal(size=(120, 4))
    data = sf.save_arrays(tmp_path, {"a": x, "b": 2 * x}, labels=labels)
    found = load_modality("folder", "b", 0, {"path": data["path"], **data["options"]}, "b")
    for name, expected in labels.items():
        np.testing.assert_array_equal(found.labels[name], expected)


def test_whole_numbers_in_floating_point_are_asked_about(tmp_path: Path) -> None:
    label = np.where(IDS % 5 == 0, np.nan, IDS % 3)
    save(tmp_path, label=label)
    with pytest.raises(DataError, match=r"whole numbers of 3 values; say what it is: data\.opt"):
        load(tmp_path)
    classes = load(tmp_path, labels="classes").labels["label"]
    np.testing.assert_array_equal(classes, np.where(IDS % 5 == 0, -1, IDS % 3))
    np.testing.assert_array_equal(load(tmp_path, labels="values").labels["label"], label)


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (np.full(120, np.inf), "values", "infinite"),
        (np.full((120, 2), 2), "auto", "each column is a label that an event has"),
        (np.zeros((120, 2)), "values", "must have one axis"),
        (np.zeros(120, dtype=int), "multi", "a matrix with a row for each of the 120 events"),
        (np.full(120, 0.5), "classes", "no classes; use whole ones"),
        (np.zeros(120, dtype=int), "colours", "must be auto, classes, values, multi"),
        (np.array(["a", "b"] * 60), "values", "values must be numbers"),
    ],
)
def test_labels_that_are_not_what_they_are_said_to_be(
    tmp_path: Path, label: np.ndarray, kind: str, message: str
) -> None:
    save(tmp_path, label=label)
    with pytest.raises((DataError, ConfigError), match=message):
        load(tmp_path, labels=kind)


def test_labels_of_minus_one_and_one_are_asked_about(tmp_path: Path) -> None:
    label = np.where(IDS % 3 == 0, 1, -1)
    save(tmp_path, label=label)
    with pytest.raises(DataError, match=r"there would be 80 of 120; .*data\.options\.minus"):
        load(tmp_path)
    unknown = load(tmp_path, minus_one="unknown")
    np.testing.assert_array_equal(unknown.labels["label"], label)
    named = load(tmp_path, minus_one="class")
    assert named.classes["label"] == ("-1", "0", "1")
    np.testing.assert_array_equal(named.labels["label"], label + 1)
    with pytest.raises(ConfigError, match="minus_one: must be ask, unknown, class"):
        load(tmp_path, minus_one="maybe")
    save(tmp_path, label=np.arange(120) % 4 - 1)
    assert load(tmp_path).labels["label"].min() == -1  # three classes and some unknown
    with pytest.raises(DataError, match=r"label must be -1, 0 or 1 where data\.options\.minus"):
        load(tmp_path, minus_one="class")


# ---- oddities of files -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i2", "?", "i1", "f2", "u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_byte_order_memory_order_and_kind_of_number_is_read(
    tmp_path: Path, kind: str, order: Any
) -> None:
    x = np.random.default_rng(0).integers(0, 2, (120, 4, 3))
    save(tmp_path, np.asarray(x.astype(kind), order=order))
    np.testing.assert_array_equal(load(tmp_path, standardise=False).x, x.astype(np.float32))
    save(tmp_path, event_id=IDS.astype(">i4"), label=(IDS % 2).astype(">i2"))
    assert load(tmp_path).event_ids.tolist() == IDS.tolist()


def test_small_integers_do_not_overflow_when_they_are_centred(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (120, 2)).astype(np.int8)
    save(tmp_path, x)
    save(tmp_path, x.astype(np.float64), name="b")
    np.testing.assert_allclose(load(tmp_path).x, load(tmp_path, "b").x, atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(120)}, "x has shape (120,); the first axis must be events, then at least"),
        ({"x": np.zeros((3, 120))}, "event_id has 120 entries but x has 3 events (events are the"),
        ({"x": np.zeros((120, 0))}, "an event of x has no numbers"),
        ({"x": np.zeros((120, 2), complex)}, "save magnitude and phase"),
        ({"event_id": IDS.astype(bool)}, "event_id has dtype bool; use integers or text"),
        ({"x": np.array([["1"]] * 120)}, "x has dtype <U1; it must be numbers"),
    ],
)
def test_arrays_of_another_kind_are_named(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    save(tmp_path, **arrays)
    with pytest.raises(DataError, match=re.escape(message)):
        load(tmp_path)


def test_text_as_other_programs_write_it_is_text(tmp_path: Path) -> None:
    text = {"event_id": IDS.astype(str), "label": np.array(["é", "b"] * 60)}
    save(tmp_path, **text)
    save(tmp_path, name="b", **{name: np.char.encode(v, "utf-8") for name, v in text.items()})
    one, other = load(tmp_path), load(tmp_path, "b")
    assert one.event_ids.tolist() == other.event_ids.tolist()
    assert one.classes == other.classes == {"label": ("b", "é")}


def test_a_number_that_stands_for_missing_is_named(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(120, 3))
    save(tmp_path, x)
    assert load(tmp_path).notes == ()
    x[::10, 1] = -9999
    save(tmp_path, x)
    (note,) = load(tmp_path).notes
    assert note.startswith("x is -9999 in 12 places, far from all other values")
    # Two levels, a heavy tail and one outlier are no stand-ins.
    for values in (x > 0, np.where(x > 0, 500, 100), np.exp(3 * x), np.r_[x[1:2], x[1:]] * 1e3):
        save(tmp_path, np.where(x == -9999, 0, values).astype(float))
        assert load(tmp_path).notes == ()
