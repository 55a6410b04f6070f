"""Refined maps against scipy's and scikit-learn's solvers, which go other ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh, orthogonal_procrustes
from sklearn.cross_decomposition import CCA

from sheafalign_fl.sheaf.refinement import Matrix, refine


def ends(seed: int, events: int, dim: int) -> tuple[Matrix, Matrix]:
    """Return two noisy views of a latent that both share a part of, none of them centred."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(events, dim))
    one, other = (
        latent @ rng.normal(size=(dim, dim)) + 0.5 * rng.normal(size=(events, dim))
        for _ in range(2)
    )
    return one + 3.0, other - rng.normal(size=dim)


def slow_similarity(x: Matrix, y: Matrix, a: Matrix, b: Matrix, penalty: float) -> Matrix:
    """Return sum_k rho_k^2 (w_k . a)(v_k . b) of the generalised eigenproblem of both ends at once.

    [0 Sxy; Syx 0] (w, v) = rho [Sxx + p I, 0; 0, Syy + p I] (w, v): its positive eigenvalues are
    the canonical correlations.
    """
    dim = x.shape[1]
    joint = np.cov(np.concatenate([x, y], axis=1).T, bias=True)
    within = np.zeros_like(joint)
    for part in (slice(0, dim), slice(dim, 2 * dim)):
        own = joint[part, part]
        within[part, part] = own + penalty * np.trace(own) / dim * np.eye(dim)
    between = joint.copy()
    between[:dim, :dim] = between[dim:, dim:] = 0
    values, vectors = eigh(between, within)
    similarity = np.zeros((len(a), len(b)))
    for rho, vector in zip(values, vectors.T, strict=True):
        if rho > 0:
            w, v = vector[:dim] * np.sqrt(2), vector[dim:] * np.sqrt(2)
            similarity += rho**2 * np.outer((a - x.mean(0)) @ w, (b - y.mean(0)) @ v)
    return similarity


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([0.0, 0.01, 0.1, 3.0]))
@settings(max_examples=40)
def test_cca_is_the_generalised_eigenproblem(seed: int, dim: int, penalty: float) -> None:
    x, y = ends(seed, 60, dim)
    a, b = ends(seed + 1, 9, dim)
    found = refine("cca", x, y, penalty)
    similarity = found.own.apply(a).astype(float) @ found.received.apply(b).astype(float).T
    expected = slow_similarity(x, y, a, b, penalty)
    assert similarity == pytest.approx(expected, abs=2e-5 * max(1, np.abs(expected).max()))


def test_cca_weighs_by_the_correlations_that_scikit_learn_finds() -> None:
    x, y = ends(3, 400, 4)
    found = refine("cca", x, y, 0.0)
    scores = CCA(n_components=4, scale=False, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = [
        np.corrcoef(one, other)[0, 1] for one, other in zip(*(s.T for s in scores), strict=True)
    ]
    assert found.own.apply(x).std(axis=0) == pytest.approx(expected, abs=1e-5)
    assert found.received.apply(y).std(axis=0) == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=40)
def test_procrustes_is_scipy_s(seed: int, dim: int) -> None:
    x, y = ends(seed, 60, dim)
    found = refine("procrustes", x, y)
    turn, _ = orthogonal_procrustes(x - x.mean(0), y - y.mean(0))
    assert found.own.weights == pytest.approx(turn, abs=1e-9)
    assert found.own.apply(x) == pytest.approx((x - x.mean(0)) @ turn, abs=1e-4)
    assert found.received.apply(y) == pytest.approx(y - y.mean(0), abs=1e-4)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_without_a_penalty_no_linear_map_of_an_end_matters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = ends(seed, 200, 4)
    mixed = x @ (np.eye(4) + 0.3 * rng.uniform(-1, 1, size=(4, 4))) + 1.0
    one, other = refine("cca", x, y, 0.0), refine("cca", mixed, y, 0.0)
    similarities = [
        found.own.apply(end).astype(float) @ found.received.apply(y).astype(float).T
        for found, end in ((one, x), (other, mixed))
    ]
    assert similarities[0] == pytest.approx(similarities[1], abs=1e-4)


def test_both_ends_swap_and_what_is_constant_or_rare_is_no_fault() -> None:
    x, y = ends(5, 40, 3)
    one, other = refine("cca", x, y), refine("cca", y, x)
    products = [
        f.own.weights @ g.weights.T for f, g in ((one, one.received), (other, other.received))
    ]
    assert products[0] == pytest.approx(products[1].T, abs=1e-9)
    for kind in ("cca", "procrustes"):
        still = refine(kind, np.zeros((5, 3)), y[:5])  # a client whose sensor is dead
        assert np.isfinite(still.own.weights).all()
        assert np.isfinite(still.received.apply(y)).all()
        few = refine(kind, x[:2], y[:2])
        assert np.isfinite(few.own.apply(x)).all()


@pytest.mark.parametrize(("one", "other"), [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((0, 3), (0, 3))])
def test_rows_that_are_not_of_the_same_events_are_refused(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="shape"):
        refine("cca", np.zeros(one), np.zeros(other))
