"""The user's own recordings with times instead of ids, and their windows."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.data.clocks import ticks
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError, DataError


def load(path: Path, modality: str = "a", **options: Any) -> Any:
    return load_modality(
        "folder", modality, 0, {"path": str(path), "standardise": False, **options}, "test"
    )


def save(folder: Path, name: str, time: Any, **arrays: Any) -> None:
    """Write samples whose first value is their number."""
    x = np.stack([np.arange(len(time)), np.zeros(len(time))], axis=1)
    np.savez(folder / f"{name}.npz", **{"x": x, "time": time, **arrays})


# Multiples of 1/64 s are exact in binary, so that the oracle needs no rounding.
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-2000, 2000), min_size=1, max_size=40, unique=True),
    st.integers(1, 200),
    st.integers(1, 300),
)
def test_a_tick_has_the_nearest_sample_within_the_tolerance(
    times: list[int], period: int, tolerance: int
) -> None:
    tolerance = min(tolerance, 50 * period)
    row, number = ticks(np.array(times) / 64, period / 64, tolerance / 64)
    expected = []
    for tick in range(-2000 // period - 320, 2000 // period + 320):
        distance, time = min((abs(time - tick * period), time) for time in times)
        if distance <= tolerance:
            expected.append((times.index(time), tick))
    assert list(zip(row.tolist(), number.tolist(), strict=True)) == expected


@pytest.mark.parametrize("start", [0.0, 1.7e9])
def test_a_sample_on_the_tolerance_counts_even_far_from_1970(start: float) -> None:
    times = start + np.array([0.05, 0.15, 1.05])
    _, number = ticks(times, 1.0, 0.05)
    assert (number - int(start)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("period", "tolerance"), [(0.0, 1.0), (-1.0, 1.0), (np.inf, 1.0), (1.0, -1.0), (1.0, 51.0)]
)
def test_impossible_clocks_are_refused(period: float, tolerance: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.options\.(period|tolerance): must be above 0"):
        ticks(np.zeros(1), period, tolerance)


def test_dates_are_seconds_since_1970(tmp_path: Path) -> None:
    seconds = 1_700_000_000 + np.arange(50)
    for name, time in {
        "a": seconds.astype(np.float64),
        "b": seconds.astype("datetime64[s]"),
        "c": seconds.astype("datetime64[s]").astype("datetime64[ns]") + np.timedelta64(100, "ms"),
    }.items():
        save(tmp_path, name, time)
        data = load(tmp_path, name, period=2.0, tolerance=0.5)
        assert data.event_ids.tolist() == list(range(850_000_000, 850_000_025))
        assert data.x[:, 0].tolist() == list(range(0, 50, 2))


def test_sensors_of_other_rates_and_offsets_share_events_and_agree_on_splits(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    clocks = {
        "fast": np.arange(0, 900, 0.02) + 0.004,
        "slow": np.delete(np.arange(0, 900, 0.1) - 0.02, slice(2000, 2300)),
        "late": np.arange(300, 1000, 0.2) + rng.uniform(-0.03, 0.03, 3500),
    }
    for name, time in clocks.items():
        save(tmp_path, name, rng.permutation(time))
    loaded = {name: load(tmp_path, name, period=0.2, tolerance=0.04, block=10.0) for name in clocks}
    for name, data in loaded.items():
        found = set()
        for time in clocks[name]:
            tick = round(time / 0.2)
            if abs(time - tick * 0.2) <= 0.04:
                found.add(tick)
        assert data.event_ids.tolist() == sorted(found)
    together: dict[int, set[int]] = {}
    for data in loaded.values():
        for tick, split in zip(data.event_ids.tolist(), data.split.tolist(), strict=True):
            together.setdefault(tick, set()).add(split)
    assert all(len(splits) == 1 for splits in together.values())
    # A block is 50 ticks: 10 of each are tested, 5 are for validation, in one piece each.
    splits = [min(together[tick]) for tick in range(1500, 4000)]
    for start in range(0, 2450):
        assert np.bincount(splits[start : start + 50]).tolist() == [35, 5, 10]
    assert (np.diff(splits) != 0).sum() == 3 * 50


def test_the_default_tolerance_is_half_a_period(tmp_path: Path) -> None:
    save(tmp_path, "a", np.array([0.1, 1.4, 2.5, 3.9]))
    data = load(tmp_path, period=1.0)
    assert data.event_ids.tolist() == [0, 1, 2, 3, 4]
    assert data.x[:, 0].tolist() == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("given", ["blocks", "sequence"])
def test_windows_stay_within_a_split_or_sequence(tmp_path: Path, given: str) -> None:
    time = np.delete(np.arange(200), [17, 58, 59, 120])
    if given == "blocks":
        save(tmp_path, "a", time)
        group = load(tmp_path, period=1.0, block=50.0).split
    else:
        group = time // 33
    save(
        tmp_path,
        "a",
        time,
        **({} if given == "blocks" else {"sequence": np.array([f"s{k}" for k in group])}),
    )
    data = load(tmp_path, period=1.0, window=4, stride=2, block=50.0)
    there = dict(zip(time.tolist(), range(len(time)), strict=True))
    expected = [
        [start + step for step in range(4)]
        for start in range(0, 200, 2)
        if all(start + step in there for step in range(4))
        and len({group[there[start + step]] for step in range(4)}) == 1
    ]
    # Vectors become signals: (2, 4).
    order = np.argsort(data.event_ids)
    assert data.event_ids[order].tolist() == [taken[-1] for taken in expected]
    assert data.x[order, 0].tolist() == [[there[tick] for tick in taken] for taken in expected]
    alone = dict(zip(time.tolist(), group.tolist(), strict=True))
    if given == "blocks":
        assert data.split.tolist() == [alone[tick] for tick in data.event_ids.tolist()]
    else:
        pairs = {
            (alone[t], s) for t, s in zip(data.event_ids.tolist(), data.split.tolist(), strict=True)
        }
        assert len(pairs) == len({k for k, _ in pairs})


def test_windows_of_ids_follow_their_numbers_and_stay_in_a_sequence(tmp_path: Path) -> None:
    ids, sequence = np.array([1, 2, 3, 5, 6, 7, 8]), np.array([0, 0, 0, 0, 0, 1, 1])
    np.savez(tmp_path / "a.npz", x=np.arange(14.0).reshape(7, 2), event_id=ids, sequence=sequence)
    assert load(tmp_path, window=2, test=0.0, validation=0.0).event_ids.tolist() == [2, 3, 6, 8]
    assert load(tmp_path, window=2, stride=2, test=0.0, validation=0.0).event_ids.tolist() == [3]


def test_windows_never_reach_from_one_given_split_into_another(tmp_path: Path) -> None:
    split = np.array([0] * 6 + [1] * 3 + [2] * 5)
    save(tmp_path, "a", np.arange(14.0), split=split)
    data = load(tmp_path, period=1.0, window=3)
    assert data.event_ids.tolist() == [2, 3, 4, 5, 8, 11, 12, 13]
    assert data.split.tolist() == [0, 0, 0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("axes", "shape"), [((2,), (2, 3)), ((2, 5), (2, 15)), ((2, 5, 4), (6, 5, 4))]
)
def test_samples_of_a_window_are_joined_as_their_kind_asks(
    tmp_path: Path, axes: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    save(tmp_path, "a", np.arange(20.0), x=np.zeros((20, *axes)))
    assert load(tmp_path, period=1.0, window=3).input_shape == shape


def test_samples_with_nan_stop_or_are_left_out_of_all_windows(tmp_path: Path) -> None:
    x = np.zeros((40, 2))
    x[7, 1], x[20, 0] = np.nan, np.inf
    save(tmp_path, "a", np.arange(40.0), x=x)
    named = r"NaN or infinity in 2 of 40 events \(first: event 7\).*data.options.bad: drop"
    with pytest.raises(DataError, match=named):
        load(tmp_path, period=1.0)
    data = load(tmp_path, period=1.0, bad="drop", test=0.0, validation=0.0)
    assert data.event_ids.tolist() == [tick for tick in range(40) if tick not in (7, 20)]
    assert data.notes == (
        "2 of 40 samples left out, as they hold NaN or infinity (first: event 7)",
    )
    windows = load(tmp_path, period=1.0, window=3, bad="drop", test=0.0, validation=0.0)
    bad = [any(tick - step in (7, 20) for step in range(3)) for tick in range(40)]
    assert windows.event_ids.tolist() == [tick for tick in range(2, 40) if not bad[tick]]


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (
            {"time": np.arange(4.0)},
            {},
            "lacks the array 'event_id'; it has x, time; it has 'time', which needs",
        ),
        (
            {"event_id": np.arange(4)},
            {"period": 1.0},
            "lacks the array 'time', which data.options.period needs",
        ),
        ({"time": np.arange(3.0)}, {"period": 1.0}, "time has 3 entries but x has 4"),
        ({"time": np.array(list("abcd"))}, {"period": 1.0}, "it must be seconds, or dates"),
        ({"time": np.array([0, 1, np.nan, 3])}, {"period": 1.0}, "time of sample 2 is not known"),
        (
            {"time": np.array(["NaT"] * 4, "M8[s]")},
            {"period": 1.0},
            "time of sample 0 is not known",
        ),
        (
            {"time": np.arange(4) + 0.5},
            {"period": 1.0, "tolerance": 0.1},
            "no sample lies within data.options.tole",
        ),
        ({"time": np.arange(4.0)}, {"period": 1.0, "window": 5}, "no 5 samples follow each other"),
        ({"time": np.arange(4.0)}, {"period": -1.0}, "data.options.period: must be above 0"),
        (
            {"time": np.arange(4.0)},
            {"period": 1.0, "block": -1.0},
            "data.options.block: must be above 0",
        ),
        (
            {"time": np.arange(4.0)},
            {"period": 1.0, "window": 0},
            "data.options.window: must be 1 or more",
        ),
        ({"event_id": np.arange(4)}, {"window": 2}, "add the array 'sequence', or 'time'"),
        (
            {"event_id": np.arange(4), "sequence": np.zeros(4)},
            {},
            "sequence has dtype float64; use integers or text",
        ),
        ({"event_id": np.arange(4), "sequence": np.zeros(3, int)}, {}, "sequence has 3 entries"),
        ({"event_id": np.arange(4)}, {"bad": "ignore"}, "data.options.bad: must be stop or drop"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    arrays: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), **arrays)
    with pytest.raises((DataError, ConfigError), match=re.escape(message)) as caught:
        load(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_a_sensor_slower_than_the_clock_is_told_what_would_help(tmp_path: Path) -> None:
    save(tmp_path, "a", np.arange(3000) / 10)
    told = re.escape("a sample each 0.1 s, but a tick each 0.02 s: 11,996 ticks have none")
    with pytest.raises(DataError, match=f"no 64 samples follow each other, at most 1 do .{told}"):
        load(tmp_path, period=0.02, window=64)
    assert any(re.match(told, note) for note in load(tmp_path, period=0.02).notes)
    filled = load(tmp_path, period=0.02, window=64, tolerance=0.05)
    assert filled.input_shape == (2, 64)
    assert load(tmp_path, period=0.1, window=64).input_shape == (2, 64)


def test_times_too_fine_for_the_clock_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "a", np.arange(300) + 1e15)
    with pytest.raises(DataError, match=r"time is up to 1e\+15 s, which"):
        load(tmp_path, period=1e-6, time_unit="s")
