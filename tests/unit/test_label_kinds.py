"""Labels of every kind: what is known of them, and their journey to the evaluator."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.labels import (
    can_be_fitted,
    from_wire,
    kind_of,
    known,
    to_wire,
    unknown,
    width_of,
)

VALUES = st.floats(-1e6, 1e6) | st.just(float("nan"))
LABELS = st.one_of(
    arrays.arrays(np.int64, st.integers(0, 20), elements=st.integers(-1, 2**31 - 1)),
    arrays.arrays(np.float64, st.integers(0, 20), elements=VALUES),
    arrays.arrays(
        np.int64,
        st.tuples(st.integers(0, 20), st.integers(1, 5)),
        elements=st.integers(-1, 1),
    ),
)


@given(LABELS)
@settings(deadline=None)
def test_labels_survive_the_journey(labels: NDArray[Any]) -> None:
    kind, width = kind_of(labels), width_of(labels)
    data = to_wire(labels)
    np.testing.assert_array_equal(from_wire(data, kind, len(labels), width), labels)
    for wrong in (data + b"\0", data[:-1]) if data else (b"\0",):
        with pytest.raises(ProtocolError, match="bytes of labels"):
            from_wire(wrong, kind, len(labels), width)


@given(LABELS)
@settings(deadline=None)
def test_what_is_known_is_counted_event_by_event(labels: NDArray[Any]) -> None:
    expected = [
        all(not np.isnan(value) and value != -1 for value in np.atleast_1d(event))
        if kind_of(labels) != "values"
        else not np.isnan(event)
        for event in labels
    ]
    assert known(labels).tolist() == expected
    there = [
        tuple(np.atleast_1d(event)) for event, told in zip(labels, expected, strict=True) if told
    ]
    assert can_be_fitted(labels) == (len(set(there)) > 1)
    nothing = unknown(kind_of(labels), len(labels), width_of(labels))
    assert nothing.shape == labels.shape
    assert not known(nothing).any()


def test_minus_one_is_a_value_and_no_class() -> None:
    several = np.array([[0, 1], [-1, 1], [-1, -1], [1, 1]])
    assert known(np.array([-1.0, np.nan, 0.0, -7.5])).tolist() == [True, False, True, True]
    assert known(np.array([-1, 0, 3, -2])).tolist() == [False, True, True, False]
    assert known(several).tolist() == [True, False, False, True]
    whole = several.astype(float)  # in floating point they are several labels all the same
    whole[2, 1] = np.nan
    assert kind_of(whole) == "multi"
    assert known(whole).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.array([np.inf]), "values"),
        (np.array([1e200]), "values"),
        (np.array([-2]), "classes"),
        (np.array([[2]]), "multi"),
        (np.array([[-2]]), "multi"),
    ],
)
def test_what_cannot_be_a_label_is_refused(labels: NDArray[Any], kind: Any) -> None:
    with pytest.raises(ProtocolError, match="a label"):
        from_wire(to_wire(labels), kind, 1, 1)
