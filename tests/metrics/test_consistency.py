"""Consistency of an edge (DESIGN section 5.5)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sheafalign_fl.errors import RunError
from sheafalign_fl.metrics import consistency
from tests.metrics import oracle

shapes = st.tuples(st.just(2), st.integers(1, 12), st.integers(1, 5))
both_ends = shapes.flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
)


@settings(max_examples=100, deadline=None)
@given(both_ends)
def test_equals_the_loop_from_the_definition(z: oracle.Array) -> None:
    found = consistency("i", "j", z[0], z[1])
    assert (found.source, found.target, found.events) == ("i", "j", z.shape[1])
    assert found.value == pytest.approx(oracle.consistency(z[0], z[1]))
    assert 0 <= found.value <= 2 + 1e-12


@settings(max_examples=50, deadline=None)
@given(both_ends, st.sampled_from([1e-200, 1e-3, 1.0, 1e5, 1e200]))
def test_is_symmetric_and_free_of_scale_and_order(z: oracle.Array, scale: float) -> None:
    value = consistency("i", "j", z[0], z[1]).value
    assert consistency("j", "i", scale * z[1][::-1], scale * z[0][::-1]).value == pytest.approx(
        value
    )


def test_anchors_of_the_scale() -> None:
    z = np.random.default_rng(0).normal(size=(4000, 16))
    assert consistency("i", "j", z, z).value == 0
    assert consistency("i", "j", z, -z).value == pytest.approx(2)
    assert consistency(
        "i", "j", z, np.random.default_rng(1).normal(size=z.shape)
    ).value == pytest.approx(1, abs=0.02)
    assert consistency("i", "j", z, np.zeros_like(z)).value == pytest.approx(1)
    assert consistency("i", "j", np.zeros_like(z), np.zeros_like(z)).value == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        consistency("i", "j", np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(RunError, match="diverged"):
        consistency("i", "j", np.ones((3, 2)), np.full((3, 2), np.nan))
