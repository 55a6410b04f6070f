"""Clocks of sensors: times as people write them, rates, lags and drifts."""

import re
from datetime import UTC, datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.data.clocks import (
    Lag,
    corrected,
    describe_clock,
    estimate_lag,
    lags_to_reference,
    propose_grid,
    seconds,
)
from sheafalign_fl.data.watch import _recordings
from sheafalign_fl.errors import ConfigError, DataError
from tests.data.made_sensors import recorded

HERE = Path("sensor.npz")
BEGIN = 1_711_846_800
"""2024-03-31 01:00 UTC, when clocks in Berlin go from 02:00 to 03:00."""


def iso(times: list[datetime]) -> Any:
    return np.array([time.isoformat() for time in times])


# ---- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
)
@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.float64])
def test_the_size_of_times_since_1970_tells_their_unit(unit: str, factor: int, kind: Any) -> None:
    exact = [
        BEGIN * factor + step * factor // 4 if factor > 1 else BEGIN + step for step in range(9)
    ]
    read = seconds(np.array(exact, dtype=kind), HERE)
    np.testing.assert_allclose(read, np.array(exact, dtype=np.float64) / factor, atol=3e-7, rtol=0)
    named = seconds(np.array(exact, dtype=kind), HERE, unit)
    np.testing.assert_array_equal(read, named)


def test_seconds_since_the_recording_began_stay_seconds_and_a_unit_can_be_named() -> None:
    times = np.arange(0, 60_000, 20)
    np.testing.assert_array_equal(seconds(times, HERE), times)
    np.testing.assert_allclose(seconds(times, HERE, "ms"), times / 1000)
    with pytest.raises(ConfigError, match=r"data\.options\.time_unit: must be auto, s, ms, us, ns"):
        seconds(times, HERE, "minutes")


def test_float32_times_since_1970_are_refused_and_short_ones_are_not() -> None:
    long = (1.7e9 + np.arange(3000) / 50).astype(np.float32)
    message = "time is float32, which counts in steps of 128 here, so 3000 samples have 1 different"
    with pytest.raises(DataError, match=re.escape(message)):
        seconds(long, HERE)
    short = (np.arange(3000) / 50).astype(np.float32)
    np.testing.assert_allclose(seconds(short, HERE), np.arange(3000) / 50, atol=1e-5)


# ---- dates -------------------------------------------------------------------------------------


@given(
    st.lists(st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=8),
    st.integers(-14 * 4, 14 * 4),
)
@settings(max_examples=50, deadline=None)
def test_iso_8601_with_any_offset_is_the_same_moment(
    moments: list[datetime], quarters: int
) -> None:
    zone = timezone(timedelta(minutes=15 * quarters))
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    read = seconds(iso([moment.astimezone(zone) for moment in aware]), HERE)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [(moment - epoch) / timedelta(seconds=1) for moment in aware]
    np.testing.assert_allclose(read, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(seconds(iso(moments), HERE), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("turn", [datetime(2024, 3, 31), datetime(2024, 10, 27)])
def test_local_times_across_a_change_of_hour_are_in_order(turn: datetime) -> None:
    start = turn.replace(tzinfo=UTC).timestamp()
    moments = (start + np.arange(0, 6 * 3600, 60)).astype(np.float64)
    zone = ZoneInfo("Europe/Berlin")
    local = [datetime.fromtimestamp(m, zone).replace(tzinfo=None) for m in moments.tolist()]
    for times in (iso(local), np.array(local, dtype="datetime64[s]")):
        np.testing.assert_array_equal(seconds(times, HERE, zone="Europe/Berlin"), moments)
        wrong = describe_clock(seconds(times, HERE))
        assert "the clock jumps by an hour at sample" in " ".join(wrong.notes())
    assert not describe_clock(moments).notes()


def test_times_that_are_none_are_named() -> None:
    good = "2024-01-01T00:00:00"
    for times, message in [
        (np.array([good, ""]), "time of sample 1 is not known"),
        (np.array([good, "31.12.2024"]), "time of sample 1 is '31.12.2024', which is neither"),
        (np.array([good, good + "+01:00"]), "some times have a zone and some do not"),
        (np.array([1 + 2j]), "time has dtype complex128"),
    ]:
        with pytest.raises(DataError, match=re.escape(message)):
            seconds(times, HERE)
    with pytest.raises(DataError, match="clocks of Europe/Berlin leave out"):
        seconds(np.array(["2024-03-31T02:30:00"]), HERE, zone="Europe/Berlin")
    with pytest.raises(ConfigError, match="no zone 'Berlin' is known here"):
        seconds(np.array([good]), HERE, zone="Berlin")
    np.testing.assert_array_equal(seconds(np.array(["1.5", "2.5"]), HERE), [1.5, 2.5])
    spans = np.array([1500, 2500], dtype="m8[ms]")
    np.testing.assert_array_equal(seconds(spans, HERE), [1.5, 2.5])


# ---- rates -------------------------------------------------------------------------------------


def test_a_clock_is_described_as_a_slow_count_finds() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(2000) / 50 + rng.uniform(-0.002, 0.002, 2000)
    times[1200:] += 7.0
    times = np.delete(times, slice(300, 320))
    shuffled = np.concatenate([times[:500], times[600:], times[500:600], times[:3]])
    clock = describe_clock(shuffled)
    assert clock.samples == len(times) + 3
    assert clock.rate == pytest.approx(50, rel=0.01)
    assert clock.span == pytest.approx(times[-1] - times[0])
    assert (clock.gaps, clock.duplicates, clock.unordered) == (2, 3, 2)
    assert clock.longest == pytest.approx(7.02, abs=0.01)
    assert 0.002 < clock.jitter < 0.005
    notes = " ".join(clock.notes())
    assert "2 samples come before their predecessor" in notes
    assert "3 samples have the time of another one" in notes


def test_the_proposed_clock_is_the_slowest_sensor_s() -> None:
    clocks = [describe_clock(np.arange(0, 100, 1 / rate)) for rate in (449.0, 50.0, 9.7)]
    grid = propose_grid(clocks)
    assert grid is not None
    assert (grid.period, grid.tolerance) == (0.11, 0.0)
    assert propose_grid([describe_clock(np.zeros(3))]) is None


# ---- corrections -------------------------------------------------------------------------------


def test_a_correction_undoes_an_offset_and_a_drift() -> None:
    true = 1.7e9 + np.arange(0, 3600.0, 0.5)
    shown = true + 3.0 + 80e-6 * (true - true[0])
    option = {"imu": {"offset": -3.0, "drift": -80.0, "at": float(shown[0])}, "gps": 1}
    np.testing.assert_allclose(corrected(shown, "imu", option), true, rtol=0, atol=3e-5)
    np.testing.assert_array_equal(corrected(true, "gps", option), true + 1)
    np.testing.assert_array_equal(corrected(true, "camera", option), true)
    for entry, message in [
        ("early", "clocks.imu.offset: must be a number, not 'early'"),
        ({"offfset": 1}, "clocks.imu: unknown key 'offfset'; known: offset, drift, at"),
        ({"drift": -1e6}, "clocks.imu.drift: must be above"),
        (True, "clocks.imu.offset: must be a number"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(message)):
            corrected(true, "imu", {"imu": entry})


# ---- lags --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lag", "drift"),
    [(0.0, 0.0), (3.0, 0.0), (-7.3, 0.0), (0.15, 0.0), (-2.0, -1000.0), (0.4, 500.0)],
)
@pytest.mark.parametrize("rates", [(50.0, 20.0), (10.0, 100.0)])
def test_a_known_lag_and_drift_are_found(
    lag: float, drift: float, rates: tuple[float, float]
) -> None:
    one = recorded(1, 600.0, rates[0], 0)
    other = recorded(1, 600.0, rates[1], 1, lag, drift)
    found = estimate_lag((one.time, other.time), (one.x, other.x))
    assert found is not None
    assert found.seconds == pytest.approx(lag, abs=0.5 / min(rates))
    assert abs(found.seconds - lag) <= 4 * found.error
    # Over the ten minutes: half a step of the slower sensor at either end.
    assert abs(found.drift - drift) * 1e-6 * 600 < 1 / min(rates)


def test_sensors_that_saw_different_things_have_no_lag() -> None:
    found = [
        estimate_lag((one.time, other.time), (one.x, other.x))
        for seed in range(12)
        for one, other in [(recorded(seed, 200.0, 50.0, 0), recorded(seed + 50, 200.0, 50.0, 1))]
    ]
    assert found == [None] * 12
    still = np.zeros((5000, 2))
    time = np.arange(5000) / 50
    assert estimate_lag((time, time), (still, still)) is None
    assert estimate_lag((time, time + 1000), (still, still)) is None


def test_several_lags_add_up_along_the_clearest_pairs() -> None:
    lags = {
        ("a", "b"): Lag(1.0, 10.0, 0.1, 9.0, 0.0),
        ("a", "c"): Lag(9.0, 0.0, 0.1, 6.5, 0.0),
        ("b", "c"): Lag(2.0, 5.0, 0.1, 8.0, 1000.0),
        ("x", "y"): Lag(-4.0, 0.0, 0.2, 7.0, 0.0),
    }
    found = lags_to_reference(lags)
    assert sorted(found) == ["b", "c", "y"]
    assert (found["b"].seconds, found["y"].seconds) == (1.0, -4.0)
    assert found["c"].seconds == pytest.approx(3.0 + 10e-6 * 1000)
    assert found["c"].drift == 15.0


@pytest.mark.skipif(find_spec("seglearn") is None, reason="the watch recordings are an extra")
@pytest.mark.parametrize("lag", [0.0, 3.0, -1.23])
def test_a_shifted_gyroscope_of_a_real_watch_is_found(lag: float) -> None:
    content = _recordings()
    errors = []
    for subject in (2, 7, 10):
        times, values, start = [], [], 0.0
        for index in np.flatnonzero(np.asarray(content["subject"]) == subject):
            recording = np.asarray(content["X"][index])
            times.append(start + np.arange(len(recording)) / 50)
            values.append(recording)
            start = times[-1][-1] + 2.0
        time, x = np.concatenate(times), np.concatenate(values)
        found = estimate_lag((time, time + lag), (x[:, :3], x[:, 3:]))
        assert found is not None
        errors.append(abs(found.seconds - lag))
    assert max(errors) <= 0.05  # two and a half of its samples
