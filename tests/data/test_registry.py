"""Finding a source, checking its options, and sharing what was loaded."""

import threading
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.data import registry
from sheafalign_fl.data.registry import load_modality, source_info, sources
from sheafalign_fl.errors import ConfigError, DataError, UserError
from tests.data import sources_for_tests

OWN = "tests.data.sources_for_tests"
SMALL = {"events": 100}


def load(source: str, modality: str = "a", **options: Any) -> Any:
    return load_modality(source, modality, 0, options, "client 'c'")


def test_every_source_describes_itself() -> None:
    assert list(sources()) == [
        "scenes",
        "fashion",
        "multifeature",
        "watch",
        "physiology",
        "deepsense6g",
        "mmfi",
        "utd-mhad",
        "folder",
    ]
    for name, info in sources().items():
        assert source_info(name) is info
        assert info.summary
        assert info.origin
        assert all(option.meaning and option.kind in registry._KINDS for option in info.options)
        assert all(
            option.default is None or isinstance(option.default, registry._KINDS[option.kind])
            for option in info.options
        )


@pytest.mark.parametrize(
    ("source", "modality", "options", "message"),
    [
        ("scnes", "camera", {}, "did you mean 'scenes'"),
        (
            "imagenet",
            "camera",
            {},
            "known: scenes, fashion, multifeature, watch, physiology, deepsense6g, mmfi, utd-mhad, "
            "folder",
        ),
        ("scenes", "lidr", {}, "did you mean 'lidar'"),
        ("watch", "camera", {}, "known: accelerometer, gyroscope, spectrum"),
        ("scenes", "camera", {"event": 5}, "did you mean 'events'"),
        ("scenes", "camera", {"events": "5"}, "must be int, not '5'"),
        ("scenes", "camera", {"events": True}, "must be int, not True"),
        ("scenes", "camera", {"events": 5.5}, "must be int, not 5.5"),
        ("folder", "a", {"path": None}, "must be str, not None"),
        ("no.such.package:load", "a", {}, "cannot be imported"),
        (f"{OWN}:missing", "a", {}, "has no callable 'missing'"),
        (f"{OWN}:not_callable", "a", {}, "has no callable 'not_callable'"),
        (f"{OWN}:doubles", "a", {"scael": 2.0}, "cannot be called with these options"),
        (f"{OWN}:returns_a_tuple", "a", {}, "returned tuple, not a ModalityData"),
    ],
)
def test_what_is_unknown_is_named(
    source: str, modality: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(source, modality, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("has_a_bug", "failed: TypeError"),
        ("refuses", "there is no a today"),
        ("holds_lists", "x is a list"),
        ("splits_below_zero", "split must give"),
        ("labels_that_are_no_classes", "label 'a' has dtype float64"),
    ],
)
def test_a_faulty_source_of_the_user_s_is_a_data_error(factory: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load(f"{OWN}:{factory}")
    assert message in str(caught.value)


def test_own_sources_give_the_dtypes_that_clients_rely_on() -> None:
    data = load(f"{OWN}:doubles", scale=2.0)
    np.testing.assert_array_equal(data.x, sources_for_tests.KEPT * 2)
    assert [data.x.dtype, data.event_ids.dtype, data.split.dtype] == [
        np.float32,
        np.int64,
        np.uint8,
    ]
    assert data.labels["even"].dtype == np.int64


def test_clients_share_arrays_that_nobody_can_write_to() -> None:
    one, other = load("scenes", "gps", **SMALL), load("scenes", "gps", **SMALL)
    assert one is other
    for array in (one.x, one.event_ids, one.split, *one.labels.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert load("scenes", "gps", **SMALL, fog=0.5) is not one


def test_arrays_that_the_user_s_source_keeps_stay_its_own() -> None:
    load(f"{OWN}:doubles")
    assert sources_for_tests.KEPT.flags.writeable


def test_the_cache_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_CACHED", 2)
    first = load("scenes", "gps", events=40)
    for events in (41, 42):
        load("scenes", "gps", events=events)
    assert load("scenes", "gps", events=40) is not first


def test_an_own_source_may_load_a_built_in_one() -> None:
    done: list[Any] = []
    thread = threading.Thread(
        target=lambda: done.append(load(f"{OWN}:wraps_a_built_in", "gps")), daemon=True
    )
    thread.start()
    thread.join(30)
    assert done, "loading within loading never ends"
    np.testing.assert_array_equal(done[0].x, load("scenes", "gps", **SMALL).x)


def test_options_with_keys_of_two_types_are_no_accident() -> None:
    with pytest.raises(UserError, match="cannot be called"):
        load(f"{OWN}:doubles", table={1: "a", "b": 2})
