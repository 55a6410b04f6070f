"""Change detection: false alarms of noise and of training, delay, and how a change is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.watching.changes import CLIP, THRESHOLD, WARM_UP, Detector, Kind

KINDS: tuple[Kind, ...] = ("free", "rising", "improving")


def noise(seed: int, looks: int, tails: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_t(4, size=looks) if tails == "heavy" else rng.normal(size=looks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_noise_raises_no_alarm_in_ten_thousand_looks(kind: Kind, tails: str) -> None:
    for seed in range(4):
        detector = Detector(kind, 0.0)
        assert not any(detector.look(value) for value in noise(seed, 10_000, tails))


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tempo=st.floats(10, 200),
    depth=st.floats(0.5, 100),
    kind=st.sampled_from(KINDS),
)
def test_a_statistic_that_training_lowers_raises_no_alarm(
    seed: int, tempo: float, depth: float, kind: Kind
) -> None:
    looks = np.arange(300)
    values = depth * np.exp(-looks / tempo) + 0.05 * depth * noise(seed, 300, "normal")
    detector = Detector(kind, 0.0)
    assert not any(detector.look(value) for value in values)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    jump=st.floats(8, 1e9),
    at=st.integers(2 * WARM_UP, 200),
    kind=st.sampled_from(KINDS),
)
def test_a_jump_is_found_within_a_few_looks_and_dated(
    seed: int, jump: float, at: int, kind: Kind
) -> None:
    values = noise(seed, at + 10, "normal")
    values[at:] += jump
    detector = Detector(kind, 0.5)
    found = {look: change for look, value in enumerate(values) if (change := detector.look(value))}
    assert list(found) == [min(found)]
    look, change = next(iter(found.items()))
    assert at + THRESHOLD / CLIP - 1 <= look < at + 6
    assert change.value - change.expected > 2 * change.scatter
    assert at - WARM_UP <= look - change.looks + 1 <= at + 1  # noise may have begun its sum


def test_a_fall_is_found_where_it_matters_only() -> None:
    values = noise(0, 120, "normal")
    values[100:] -= 20
    for kind, expected in (("free", 1), ("rising", 0), ("improving", 0)):
        detector = Detector(kind, 0.5)  # type: ignore[arg-type]
        assert sum(detector.look(value) is not None for value in values) == expected


def test_a_single_outlier_raises_no_alarm_however_large() -> None:
    for kind in KINDS:
        detector = Detector(kind, 0.5)
        values = noise(1, 200, "normal")
        values[[60, 90, 150]] += 1e6
        assert not any(detector.look(value) for value in values)


@pytest.mark.parametrize("slope", [0.02, 0.05, 0.2])
def test_a_slow_drift_is_found_in_what_should_improve(slope: float) -> None:
    values = noise(2, 600, "normal")
    values[100:] += slope * np.arange(500)
    detector = Detector("improving", 0.5)
    found = [look for look, value in enumerate(values) if detector.look(value) is not None]
    assert found
    assert 100 < found[0] < 110 + 8 / slope


@settings(deadline=None)
@given(kind=st.sampled_from(KINDS), cut=st.integers(0, 150), seed=st.integers(0, 10**6))
def test_a_restored_detector_goes_on_to_the_same_bits(kind: Kind, cut: int, seed: int) -> None:
    values = noise(seed, 200, "heavy")
    values[120:] += 10
    whole, broken = Detector(kind, 0.1), Detector(kind, 0.1)
    for value in values[:cut]:
        whole.look(value)
        broken.look(value)
    restored = Detector(kind, 0.1)
    restored.load(broken.state())
    for value in values[cut:]:
        assert whole.look(value) == restored.look(value)
    np.testing.assert_array_equal(whole.state(), restored.state())
