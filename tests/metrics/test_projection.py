"""Which events the picture of an edge shows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clients.pictures import sample_of_classes


@given(st.lists(st.integers(-1, 5), max_size=80), st.integers(1, 60), st.integers(0, 100))
def test_every_class_has_as_many_events_in_the_picture_as_it_can(
    labels: list[int], most: int, seed: int
) -> None:
    array = np.array(labels, dtype=np.int64)
    rows = sample_of_classes(array, most, seed)
    assert len(rows) == min(most, len(labels))
    assert rows.tolist() == sorted(set(rows.tolist()))
    shown = {label: labels.count(label) for label in set(labels)}
    drawn = {label: array[rows].tolist().count(label) for label in shown}
    fewest = min((drawn[label] for label in shown if drawn[label] < shown[label]), default=None)
    # A class that is not shown whole has at most one event less than any other.
    assert fewest is None or max(drawn.values()) <= fewest + 1


def test_a_recording_sorted_by_class_is_not_shown_by_its_first_class_alone() -> None:
    labels = np.repeat([0, 1, 2], 400)
    rows = sample_of_classes(labels, 300, 0)
    assert np.bincount(labels[rows]).tolist() == [100, 100, 100]
    assert np.array_equal(rows, sample_of_classes(labels, 300, 0))
    assert not np.array_equal(rows, sample_of_classes(labels, 300, 1))
