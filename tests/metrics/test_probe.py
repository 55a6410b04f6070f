"""Linear probe (DESIGN section 5.3)."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sheafalign_fl.errors import DataError, ProtocolError
from sheafalign_fl.metrics import linear_probe
from sheafalign_fl.metrics.base import mean_over_labels
from sheafalign_fl.metrics.classifier import fit_classifier
from sheafalign_fl.metrics.probe import Probe
from sheafalign_fl.protocol.messages import read_scores
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
    assert linear_probe("i", train, train_labels, test, test_labels).accuracy > 0.9
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


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.booleans())
def test_a_fit_that_was_cut_off_says_so_and_others_are_at_the_optimum(
    seed: int, classes: int, standardised: bool
) -> None:
    z, labels = clusters(seed, 120, 6, classes, 1.0)
    whole, cut = (
        fit_classifier(z, labels, "a test", standardised=standardised, iterations=most)
        for most in (2000, 1)
    )
    assert whole.converged
    assert not cut.converged
    # The loss is strictly convex in the weights: any solver that gets there finds the same ones.
    scaled = (z - whole.mean) / whole.scale
    other = LogisticRegression(solver="newton-cg", tol=1e-8).fit(scaled, labels)
    expected = other.coef_ - other.coef_[:1] if classes > 2 else other.coef_
    found = whole.weights.T - whole.weights.T[:1] if classes > 2 else whole.weights.T[1:]
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


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


def test_over_several_labels_a_probe_has_converged_if_all_have() -> None:
    rows = [
        {"events": 9, "accuracy": accuracy, "converged": flag}
        for accuracy, flag in ((0.2, True), (0.4, False))
    ]
    both = mean_over_labels(rows)
    assert both["converged"] is False
    assert both["accuracy"] == pytest.approx(0.3)
    assert both["events"] == 9
    assert mean_over_labels(rows[:1])["converged"] is True


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("converged", True, True),
        ("converged", None, True),
        ("converged", 1, False),
        ("converged", "yes", False),
        ("accuracy", True, False),
        ("events", True, False),
    ],
)
def test_a_flag_arrives_as_a_flag_and_as_nothing_else(name: str, value: object, fits: bool) -> None:
    row = {"client": "a", "events": 9, "accuracy": 0.5, "majority": 0.1, "converged": True}
    text = json.dumps({"probe": [{**row, name: value}]})
    if fits:
        assert read_scores(text, "a", ["b"], {"probe": Probe})["probe"][0][name] is value
        return
    with pytest.raises(ProtocolError):
        read_scores(text, "a", ["b"], {"probe": Probe})
