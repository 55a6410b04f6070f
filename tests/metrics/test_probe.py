"""Linear probe (DESIGN section 5.3)."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.errors import DataError
from sheafalign_fl.metrics import linear_probe
from tests.metrics import oracle
from tests.metrics.toy_classes import clusters


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(0.2, 2))
def test_equals_the_pipeline_from_the_manual(seed: int, classes: int, noise: float) -> None:
    train, train_labels = clusters(seed, 80, 6, classes, noise, unlabelled=0.2)
    test, test_labels = clusters(seed + 1, 50, 6, classes, noise, unlabelled=0.2)
    found = linear_probe(
        "i", train.astype(np.float32), train_labels, test.astype(np.float32), test_labels
    )
    assert (found.client, found.events) == ("i", (test_labels >= 0).sum())
    expected = oracle.logistic_accuracy(
        train.astype(np.float32).astype(float),
        train_labels,
        test.astype(np.float32).astype(float),
        test_labels,
    )
    assert found.accuracy == pytest.approx(expected, abs=1.5 / found.events)
    fitted, tested = train_labels[train_labels >= 0].tolist(), test_labels[test_labels >= 0]
    top = max(sorted(set(fitted)), key=fitted.count)
    assert found.majority == pytest.approx(np.mean(tested == top))


@pytest.mark.parametrize("classes", [2, 3])
def test_class_names_may_have_gaps(classes: int) -> None:
    train, train_labels = clusters(0, 80, 6, classes, 0.1)
    found = linear_probe("i", train, 5 + 3 * train_labels, train, 5 + 3 * train_labels)
    assert found.accuracy == 1


def test_permuted_labels_give_chance() -> None:
    (train, train_labels), (test, test_labels) = clusters(3, 600, 8, 4), clusters(4, 600, 8, 4)
    honest = linear_probe("i", train, train_labels, test, test_labels)
    assert honest.accuracy is not None
    assert honest.accuracy > 0.9
    shuffled = np.random.default_rng(1).permutation(test_labels)
    assert linear_probe("i", train, train_labels, test, shuffled).accuracy == pytest.approx(
        0.25, abs=0.08
    )


def test_noise_with_random_labels_gives_chance() -> None:
    generator = np.random.default_rng(0)
    z, labels = generator.normal(size=(1600, 8)), generator.integers(0, 4, 1600)
    found = linear_probe("i", z[:800], labels[:800], z[800:], labels[800:])
    assert found.accuracy == pytest.approx(0.25, abs=0.05)


def test_is_deterministic_and_quiet_where_it_cannot_converge() -> None:
    generator = np.random.default_rng(0)
    z = 10.0 ** generator.uniform(-8, 8, size=(60, 40))
    labels = generator.integers(0, 2, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert linear_probe("i", z, labels, z, labels) == linear_probe("i", z, labels, z, labels)


def test_a_constant_embedding_is_at_the_floor() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    found = linear_probe("i", np.ones((40, 3)), labels, np.ones((40, 3)), labels)
    assert found.accuracy == found.majority == 0.75


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="two classes"):
        linear_probe(
            "i", np.ones((3, 2)), np.zeros(3, dtype=int), np.ones((3, 2)), np.zeros(3, dtype=int)
        )


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        linear_probe(
            "i", np.ones((3, 2)), np.zeros(4, dtype=int), np.ones((3, 2)), np.zeros(3, dtype=int)
        )
