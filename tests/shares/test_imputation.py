"""Imputation against direct fits on the rows themselves."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as DirectRidge

import sheafalign_fl as sf
from sheafalign_fl.metrics.moments import Affine, Moments, ridge
from sheafalign_fl.shares.imputation import Imputed
from tests.shares.conftest import Recorded

OTHERS = ("imu", "thermometer")
SUBSETS = [subset for size in (1, 2) for subset in combinations(OTHERS, size)]


def arrived(recorded: Recorded) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return what came to the camera last, and its h, of the events that both had sent."""
    node = recorded.node("camera")
    came = {name: node.received.of(name, node.agreement.shared[name]["train"]) for name in OTHERS}
    positions = [found[0] for found in came.values() if found is not None]
    assert (positions[0] == positions[1]).all()
    h, _ = node.embeddings("train")
    return {name: found[1] for name, found in came.items() if found is not None}, h[positions[0]]


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_is_imputed_as_a_direct_fit_on_it_does(
    recorded: Recorded, subset: tuple[str, ...]
) -> None:
    model = sf.load_model(recorded.path)
    imputation = model["camera"].imputation
    assert imputation is not None
    z, h = arrived(recorded)
    x = np.concatenate([z[name] for name in subset], axis=1).astype(np.float64)
    solved = imputation._solve(subset)
    direct = DirectRidge(alpha=solved.penalty * len(x), solver="cholesky").fit(x, h.astype(float))
    assert np.allclose(solved.map.weights, direct.coef_.T, rtol=0, atol=1e-9)
    assert np.allclose(solved.map.bias, direct.intercept_, rtol=0, atol=1e-9)
    raw = {name: recorded.raw(name, "test") for name in subset}
    given = np.concatenate([model[name].compare("camera", raw[name]) for name in subset], axis=1)
    assert np.allclose(
        model.impute("camera", raw).values, direct.predict(given.astype(float)), atol=1e-5
    )


def measured(model: Mapping[str, object], recorded: Recorded, found: Imputed) -> float:
    h, _ = recorded.node("camera").embeddings("test")
    return float(np.square(found.values - h).mean())


@pytest.mark.parametrize("method", ["ridge", "dual", "mean"])
@pytest.mark.parametrize("subset", SUBSETS)
def test_the_error_that_is_told_is_that_of_the_evaluation(
    recorded: Recorded, subset: tuple[str, ...], method: str
) -> None:
    model = sf.load_model(recorded.path)
    raw = {name: recorded.raw(name, "test") for name in subset}
    found = model.impute("camera", raw, method)  # type: ignore[arg-type]
    # Leverage tells rows apart; over the events of the evaluation themselves it averages out.
    tolerance = 0.05 if method == "ridge" else 1e-5
    assert float(found.error.mean()) == pytest.approx(
        measured(model, recorded, found), rel=tolerance
    )
    h, _ = recorded.node("camera").embeddings("test")
    _, trained = arrived(recorded)
    floor = np.square(trained.astype(float).mean(axis=0) - h).mean()
    assert found.floor == pytest.approx(floor, rel=1e-6)


def test_neighbours_explain_more_than_the_mean_and_two_more_than_one(recorded: Recorded) -> None:
    model = sf.load_model(recorded.path)
    raw = {name: recorded.raw(name, "test") for name in OTHERS}
    both = model.impute("camera", raw)
    one = model.impute("camera", {"imu": raw["imu"]})
    assert both.unexplained < one.unexplained < 0.9
    assert model.impute("camera", raw, "mean").unexplained == pytest.approx(1.0)
    assert both.present == OTHERS


def test_a_share_alone_imputes_from_what_it_is_sent(recorded: Recorded) -> None:
    alone, model = sf.load_model(recorded.path / "shares/camera"), sf.load_model(recorded.path)
    z = model["imu"].compare("camera", recorded.raw("imu", "test"))
    by_z = alone.impute("camera", {"imu": np.asarray(z)})
    assert by_z.values.tobytes() == model.impute("camera", {"imu": z}).values.tobytes()
    with pytest.raises(sf.DataError, match="not here"):
        alone.impute("imu", {"thermometer": np.ones((2, 6))})


def test_what_cannot_be_imputed_is_said(recorded: Recorded) -> None:
    model = sf.load_model(recorded.path)
    raw = {name: recorded.raw(name, "test") for name in OTHERS}
    with pytest.raises(sf.DataError, match="none is given"):
        model.impute("camera", {})
    with pytest.raises(sf.DataError, match="'imu' has 3 events and 'thermometer' 160"):
        model.impute("camera", {"imu": raw["imu"][:3], "thermometer": raw["thermometer"]})
    with pytest.raises(sf.DataError, match="must be ridge, dual or mean"):
        model.impute("camera", raw, "magic")  # type: ignore[arg-type]
    z = model["imu"].compare("thermometer", raw["imu"])
    with pytest.raises(sf.DataError, match="for 'thermometer' was given where z of 'imu' for"):
        model.impute("camera", {"imu": z})
    with pytest.raises(sf.DataError, match=r"z has shape \(2, 5\), not \(N, 6\)"):
        model.comparison("imu", "camera", np.ones((2, 5)))


# ---- the algebra ---------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(3, 40), given_=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_ridge_from_moments_is_a_direct_fit(seed: int, count: int, given_: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(2.0, 3.0, size=(count, given_))
    y = x @ rng.normal(size=(given_, 2)) + rng.normal(size=(count, 2))
    moments = Moments.of(np.concatenate([x, y], axis=1))
    for penalty in (1e-3, 1.0):
        solved = ridge(moments, given_, [penalty])
        direct = DirectRidge(alpha=count * solved.penalty).fit(x, y)
        assert np.allclose(solved.map.weights, direct.coef_.T, atol=1e-9)
        left = np.square(solved.map.apply(x) - y).mean()
        assert solved.map.residual(moments) == pytest.approx(left, rel=1e-6, abs=1e-9)
        # The spread of a row is its leverage, by the hat matrix of the centred fit.
        centred = x - x.mean(axis=0)
        penalised = centred.T @ centred + count * solved.penalty * np.eye(given_)
        hat = centred @ np.linalg.solve(penalised, centred.T) + 1 / count
        expected = (1 + np.diag(hat)) / (1 + np.trace(hat) / count)
        assert np.allclose(solved.spread(x), expected, atol=1e-9)
        gcv = left / (1 - np.trace(hat) / count) ** 2
        if np.trace(hat) / count < 0.99:
            assert solved.map.error == pytest.approx(gcv, rel=1e-6)


def test_the_penalty_is_the_one_with_the_least_cross_validation_error() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 20))
    y = x[:, :1] + 2 * rng.normal(size=(30, 1))
    moments = Moments.of(np.concatenate([x, y], axis=1))
    grid = [10.0**power for power in range(-6, 2)]
    errors = [ridge(moments, 20, [penalty]).map.error for penalty in grid]
    chosen = ridge(moments, 20, grid)
    assert chosen.map.error == min(error for error in errors if error is not None)
    assert chosen.penalty > ridge(moments, 20, [1e-6]).penalty


def test_an_affine_map_without_inputs_is_a_constant() -> None:
    y = np.array([[1.0], [3.0]])
    constant = Affine(np.zeros((0, 1)), np.array([2.5]))
    assert constant.residual(Moments.of(y)) == pytest.approx(np.square(y - 2.5).mean())
