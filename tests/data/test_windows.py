"""Windows against slow loops."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.data.windows import any_ahead, cut, stack
from sheafalign_fl.errors import ConfigError

Table = dict[tuple[str, int], tuple[bool, int]]
FRAMES = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.integers(-9, 12)),
    st.tuples(st.booleans() | st.just(True), st.integers(-1, 1)),
    min_size=1,
    max_size=45,
)


def arrays(frames: Table) -> tuple[Any, Any, Any, Any]:
    recording, position = (
        np.array([name for name, _ in frames]),
        np.array([place for _, place in frames]),
    )
    return (
        recording,
        position,
        np.array([u for u, _ in frames.values()]),
        np.array([v for _, v in frames.values()]),
    )


def keys_of(frames: Table, rows: Any) -> list[list[tuple[str, int]]]:
    return [[list(frames)[row] for row in window] for window in rows.tolist()]


def slow_windows(frames: Table, window: int, stride: int) -> list[list[tuple[str, int]]]:
    found = []
    for name, start in sorted(frames):
        taken = [(name, start + step) for step in range(window)]
        if start % stride == 0 and all(key in frames and frames[key][0] for key in taken):
            found.append(taken)
    return found


@settings(max_examples=150, deadline=None)
@given(FRAMES, st.integers(1, 5), st.integers(1, 4))
def test_windows_are_those_of_a_slow_loop(frames: Table, window: int, stride: int) -> None:
    recording, position, usable, _ = arrays(frames)
    rows = cut(recording, position, usable, window=window, stride=stride)
    assert rows.shape == (len(rows), window)
    assert keys_of(frames, rows) == slow_windows(frames, window, stride)


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.data(), st.integers(1, 4), st.integers(1, 3))
def test_clients_that_lack_different_frames_cut_the_same_windows(
    frames: Table, data: st.DataObject, window: int, stride: int
) -> None:
    cuts = []
    for _ in range(2):
        lost = data.draw(st.sets(st.sampled_from(sorted(frames)), max_size=len(frames) - 1))
        own = {
            key: frames[key]
            for key in data.draw(st.permutations(sorted(frames)))
            if key not in lost
        }
        recording, position, usable, _ = arrays(own)
        cuts.append(
            (own, keys_of(own, cut(recording, position, usable, window=window, stride=stride)))
        )
    (one, first), (other, second) = cuts
    for here, those in ((second, one), (first, other)):
        both = [taken for taken in here if all(key in those and those[key][0] for key in taken)]
        assert all(taken in (first if here is second else second) for taken in both)


@settings(max_examples=150, deadline=None)
@given(FRAMES, st.integers(1, 6))
def test_what_lies_ahead_is_what_a_slow_loop_sees(frames: Table, horizon: int) -> None:
    recording, position, _, values = arrays(frames)
    expected = []
    for name, place in frames:
        seen = [frames.get((name, place + step), (True, -1))[1] for step in range(1, horizon + 1)]
        expected.append(1 if 1 in seen else -1 if -1 in seen else 0)
    assert any_ahead(values, recording, position, horizon).tolist() == expected


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 5)])
@pytest.mark.parametrize("window", [1, 3])
def test_frames_are_joined_along_the_axis_that_is_named(
    shape: tuple[int, ...], window: int
) -> None:
    frames = np.random.default_rng(0).normal(size=(7, *shape)).astype(np.float32)
    rows = np.array([[(start + step) % 7 for step in range(window)] for start in (0, 4, 2)])
    taken = [[frames[row] for row in each] for each in rows]
    channels = np.array([np.concatenate(each, axis=0) for each in taken])
    along = np.array([np.stack(each, axis=-1) for each in taken])
    samples = np.array([np.concatenate(each, axis=-1) for each in taken])
    several = np.array([each[0] if window == 1 else np.stack(each) for each in taken])
    for join, expected in (
        ("channels", channels),
        ("time", along),
        ("samples", samples),
        ("frames", several),
    ):
        np.testing.assert_array_equal(stack(frames, rows, join), expected, err_msg=join)


def test_windows_and_horizons_below_one_are_refused() -> None:
    one = np.zeros(1, dtype=np.int64)
    for options in ({"window": 0, "stride": 1}, {"window": 1, "stride": 0}):
        with pytest.raises(ConfigError, match="must be 1 or more, not 0"):
            cut(one, one, one == 0, **options)
    with pytest.raises(ConfigError, match="horizon: must be 1 or more, not 0"):
        any_ahead(one, one, one, 0)
