"""Splits and missing events: what holds for every data set."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sheafalign_fl.data.base import (
    SPLITS,
    ModalityData,
    assign_splits,
    check_fractions,
    check_modality,
    drop_events,
)
from sheafalign_fl.errors import ConfigError, DataError

fraction = st.floats(0, 0.5, exclude_max=True)


def modality(event_ids: NDArray[Any]) -> ModalityData:
    x = np.arange(len(event_ids), dtype=np.float32)[:, None]
    return ModalityData(
        x, event_ids, np.zeros(len(event_ids), dtype=np.uint8), {"a": np.arange(len(event_ids))}
    )


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(0, 10), fraction, fraction
)
def test_groups_are_never_divided_and_order_does_not_matter(
    groups: list[int], seed: int, test: float, validation: float
) -> None:
    given_groups = np.array(groups)
    split = assign_splits(given_groups, seed, test=test, validation=validation)
    names = np.unique(given_groups)
    for name in names:
        assert len(np.unique(split[given_groups == name])) == 1
    backwards = assign_splits(given_groups[::-1], seed, test=test, validation=validation)
    np.testing.assert_array_equal(backwards[::-1], split)
    tested = len(np.unique(given_groups[split == SPLITS.index("test")]))
    assert tested == (min(len(names), max(1, round(test * len(names)))) if test > 0 else 0)


@given(st.integers(0, 100), st.floats(0.05, 0.95))
def test_which_events_a_client_lacks_depends_on_seed_and_name_alone(seed: int, lost: float) -> None:
    data = modality(np.arange(300))
    kept = drop_events(data, lost, seed, "camera")
    np.testing.assert_array_equal(kept.event_ids, drop_events(data, lost, seed, "camera").event_ids)
    np.testing.assert_array_equal(kept.x[:, 0], kept.event_ids)
    np.testing.assert_array_equal(kept.labels["a"], kept.event_ids)
    assert abs(len(kept) / 300 - (1 - lost)) < 0.15
    assert drop_events(data, 0.0, seed, "camera") is data


@pytest.mark.parametrize(
    ("test", "validation"), [(-0.1, 0.1), (1.1, 0.0), (0.5, 0.5), (float("nan"), 0.1), (0.1, 2.0)]
)
def test_impossible_fractions_are_refused(test: float, validation: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.options"):
        check_fractions(test, validation)


@pytest.mark.parametrize(
    ("event_ids", "message"),
    [
        (np.array([1, 2, 1]), "1 event ids occur more than once .first: 1."),
        (np.array(["a", "b", "b"]), "more than once .first: b."),
        (np.array([1.0, 2.0, 3.0]), "use integers or text"),
        (np.array([1, 2]), "has shape .2,. but x has 3"),
        (np.array([1, 2, 2**63], dtype=np.uint64), "int64 cannot hold"),
    ],
)
def test_bad_event_ids_are_refused(event_ids: NDArray[Any], message: str) -> None:
    good = modality(np.arange(3))
    with pytest.raises(DataError, match=message):
        check_modality(ModalityData(good.x, event_ids, good.split), "client 'c'")
