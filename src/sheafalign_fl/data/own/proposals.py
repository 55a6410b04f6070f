"""Options that a folder of recordings needs: clock, corrections of clocks, layouts, sequences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.clocks import (
    Clock,
    Lag,
    corrected,
    describe_clock,
    estimate_lag,
    lags_to_reference,
    propose_grid,
)
from sheafalign_fl.data.clocks.rates import rounded
from sheafalign_fl.data.own.arrays import array_of
from sheafalign_fl.data.own.axes import suspected, understood
from sheafalign_fl.data.own.samples import times_of
from sheafalign_fl.data.own.splits import block_ticks
from sheafalign_fl.errors import DataError

_QUARTER = 900.0
"""Zones differ by whole quarters of an hour, up to 14 hours ..."""
_FARTHEST = 14 * 3600.0
_NEAR = 120.0
"""... and recordings of one session begin within two minutes of each other."""
_MOST_SEQUENCES = 100


@dataclass(frozen=True)
class Proposal:
    """What the files of a folder suggest.

    Attributes
    ----------
    options
        Options of the source, beside those that were given.
    clocks
        Modality -> how its times lie, where it has times.
    notes
        Why, for people.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sensor:
    x: NDArray[Any]
    times: NDArray[np.float64]


def propose(folder: Path, modalities: list[str], options: Mapping[str, Any]) -> Proposal:
    """Return what the files suggest beside `options`, which are complete but for None.

    Files that cannot be read are left to the loader, which says why.
    """
    sensors: dict[str, _Sensor] = {}
    found: dict[str, Any] = {}
    notes: list[str] = []
    layouts: dict[str, str] = {}
    without_ids = False
    for name in modalities:
        path = folder / name
        x = array_of(folder, name, "x")
        if x is None or x.ndim < 2 or x.dtype.kind not in "fiub" or not len(x):
            continue
        if options["layout"] == "" and (likely := suspected(x.shape[1:])):
            layouts[name] = likely
            notes.append(
                f"{name}: x looks like {likely} (C channels, T samples, H rows, W columns): as it "
                f"is, it would be {understood(x.shape[1:])}; the configuration below says so"
            )
        without_ids |= array_of(folder, name, "event_id") is None
        time = array_of(folder, name, "time")
        try:
            times = None if time is None else times_of({"time": time}, name, len(x), path, options)
        except DataError:
            times = None
        if times is not None:
            sensors[name] = _Sensor(x, times)
    if layouts:
        found["layout"] = layouts
    clocks = {name: describe_clock(sensor.times) for name, sensor in sensors.items()}
    if without_ids and clocks:
        found |= _grid(clocks, options, notes)
        found |= _corrections(sensors, clocks, {**options, **found}, notes)
        right = [
            describe_clock(corrected(sensors[name].times, name, found.get("clocks", {})))
            for name in clocks
        ]
        found |= _block(right, {**options, **found}, notes)
    found |= _sequences(folder, modalities, options, notes)
    notes += _odd_units(clocks)
    return Proposal(found, clocks, tuple(notes))


def _grid(
    clocks: Mapping[str, Clock], options: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Return the period, tolerance and block that the clocks suggest and that were not given."""
    if float(options["period"]) != 0 or (grid := propose_grid(clocks.values())) is None:
        return {}
    found: dict[str, Any] = {"period": grid.period}
    if float(options["tolerance"]) == 0 and grid.tolerance > 0:
        found["tolerance"] = grid.tolerance
    slowest = max(clocks, key=lambda name: clocks[name].interval)
    notes.append(
        f"period: {grid.period:g} s, as {slowest} has a sample each "
        f"{clocks[slowest].interval:.4g} s; a longer one makes fewer events"
    )
    return found


def _block(clocks: list[Clock], options: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return a shorter block than the usual one where the recordings are shorter than that."""
    overlap = min(clock.end for clock in clocks) - max(clock.start for clock in clocks)
    period = float(options["period"])
    if float(options["block"]) != 0 or period <= 0 or overlap <= 0:
        return {}
    window, stride = int(options["window"]), int(options["stride"])
    test, validation = float(options["test"]), float(options["validation"])
    usual = block_ticks(period, 0.0, window, stride, test, validation) * period
    if overlap >= usual:
        return {}
    smallest = min((part for part in (test, validation) if part > 0), default=1.0)
    block = rounded(overlap, up=False)
    if block * smallest < (window + stride - 1) * period:
        notes.append(
            f"the recordings share {overlap:.4g} s, too little for each split to have a whole event"
        )
        return {}
    notes.append(f"block: {block:g} s, as the recordings share {overlap:.4g} s")
    return {"block": block}


def _sequences(
    folder: Path, modalities: list[str], options: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Return all sequences where some sensors lack some: a machine of its own cannot know them."""
    arrays = (array_of(folder, name, "sequence") for name in modalities)
    seen = [set(values.ravel().tolist()) for values in arrays if values is not None]
    every = set().union(*seen)
    if options["sequences"] or all(one == every for one in seen):
        return {}
    names = sorted(map(str, every))
    if len(names) > _MOST_SEQUENCES or any("," in name for name in names):
        return {}
    notes.append("sequences: some sensors lack some, so all are named for machines that do")
    return {"sequences": ", ".join(names)}


# ---- clocks that are apart ----------------------------------------------------------------------


def _corrections(
    sensors: Mapping[str, _Sensor],
    clocks: Mapping[str, Clock],
    options: Mapping[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    """Return the option `clocks` that sets right what the data says is off."""
    lags: dict[tuple[str, str], Lag] = {}
    for one, other in combinations(sensors, 2):
        lag = _lag(sensors[one], sensors[other], clocks[one], clocks[other])
        if lag is not None:
            lags[one, other] = lag
    given: Mapping[str, Any] = options["clocks"]
    found: dict[str, Any] = {}
    for name, lag in lags_to_reference(lags).items():
        period = float(options["period"])
        drifted = abs(lag.drift) * 1e-6 * clocks[name].span
        if abs(lag.seconds) <= max(period / 2, 2 * lag.error) and drifted <= period / 2:
            continue
        notes.append(_lag_note(name, lag, corrects=name not in given))
        if name not in given:
            found[name] = {"offset": round(-lag.seconds, 3)}
            if lag.drift:
                found[name] |= {"drift": round(-lag.drift, 1), "at": round(lag.at, 1)}
    return {"clocks": {**given, **found}} if found else {}


def _lag(one: _Sensor, other: _Sensor, first: Clock, second: Clock) -> Lag | None:
    """Return how far two clocks are apart; by whole quarters of an hour too, as zones are."""
    shorter = min(first.span, second.span)
    overlap = min(first.end, second.end) - max(first.start, second.start)
    if overlap >= shorter / 4:
        return estimate_lag((one.times, other.times), (one.x, other.x))
    apart = second.start - first.start
    shift = round(apart / _QUARTER) * _QUARTER
    if not 0 < abs(shift) <= _FARTHEST or abs(apart - shift) > _NEAR:
        return None
    lag = estimate_lag((one.times, other.times - shift), (one.x, other.x))
    if lag is None:
        return None
    return Lag(lag.seconds + shift, lag.drift, lag.error, lag.clearness, lag.at)


def _lag_note(name: str, lag: Lag, *, corrects: bool) -> str:
    side = "ahead" if lag.seconds > 0 else "behind"
    drift = f", and drifts by {lag.drift:+.0f} parts per million" if lag.drift else ""
    mend = (
        "the configuration below sets it right"
        if corrects
        else "data.options.clocks does not set it right"
    )
    return (
        f"{name}: its clock is {abs(lag.seconds):.3f} s {side} (± {lag.error:.3f} s, from when "
        f"the sensors are active){drift}; {mend}"
    )


_SINCE_1970 = 1e8
"""Seconds: above, times were taken for milliseconds or microseconds since 1970 for their size.
Where that is wrong they are what phones count in since they were switched on: nanoseconds."""


def _odd_units(clocks: Mapping[str, Clock]) -> list[str]:
    """Return a note on each pair of recordings of which one lasts a thousand times as long."""
    notes = []
    for one, other in combinations(clocks, 2):
        short, long = sorted((one, other), key=lambda name: clocks[name].span)
        if clocks[short].span <= 0:
            continue
        ratio = clocks[long].span / clocks[short].span
        for usual, factor in (("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
            if 0.8 < ratio / factor < 1.25:
                unit = "ns" if clocks[long].start > _SINCE_1970 else usual
                notes.append(
                    f"{long}: lasts {ratio:.4g} times as long as {short}; are its times in {unit}? "
                    f"Then set data.options.time_unit: {{{long}: {unit}}}"
                )
    return notes
