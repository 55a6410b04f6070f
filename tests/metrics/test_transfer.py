"""Zero-shot transfer (DESIGN section 5.2)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.errors import DataError, RunError
from sheafalign_fl.metrics import transfer
from sheafalign_fl.metrics.transfer import nearest_prototypes
from tests.metrics import oracle
from tests.metrics.toy_classes import clusters


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(0.2, 2))
def test_equals_the_loop_from_the_definition(seed: int, classes: int, noise: float) -> None:
    train, train_labels = clusters(seed, 80, 6, classes, noise, unlabelled=0.2)
    test, test_labels = clusters(seed + 1, 50, 6, classes, noise, unlabelled=0.2)
    found = transfer("i", "j", train, train_labels, test, test_labels)
    assert found.events == (test_labels >= 0).sum()
    assert found.prototype_accuracy == pytest.approx(
        oracle.prototype_accuracy(train, train_labels, test, test_labels)
    )
    unit, unit_test = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (train, test))
    assert found.probe_accuracy == pytest.approx(
        oracle.logistic_accuracy(unit, train_labels, unit_test, test_labels, standardised=False),
        abs=1.5 / found.events,
    )
    assert found.converged


def test_the_nearest_prototype_answers_with_its_class() -> None:
    angles = np.radians([0.0, 20.0, 90.0, 110.0, 200.0])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = np.array([7, 7, 2, 2, 4])  # their prototypes are at 10, 100 and 200 degrees
    asked = np.radians([54.0, 56.0, 149.0, 151.0, 284.0])
    test = np.stack([np.cos(asked), np.sin(asked)], axis=1)
    assert nearest_prototypes(train, labels, test).tolist() == [7, 2, 2, 4, 4]


def test_order_and_scale_of_events_do_not_matter() -> None:
    (train, train_labels), (test, test_labels) = clusters(0, 90, 5), clusters(1, 60, 5)
    order = np.random.default_rng(2).permutation(60)
    here = transfer("i", "j", train, train_labels, test, test_labels)
    there = transfer(
        "i", "j", train[::-1] * 7, train_labels[::-1], test[order] / 9, test_labels[order]
    )
    assert here == there
    assert here.prototype_accuracy > 0.9


def test_rotating_the_comparison_space_of_both_ends_changes_nothing() -> None:
    (train, train_labels), (test, test_labels) = (
        clusters(0, 300, 8, 4, 2),
        clusters(1, 300, 8, 4, 2),
    )
    stretched = np.linspace(0.05, 3, 8)  # a standardisation would undo this, before rotating only
    train, test = train * stretched, test * stretched
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    here = transfer("i", "j", train, train_labels, test, test_labels)
    there = transfer("i", "j", train @ turn, train_labels, test @ turn, test_labels)
    assert 0.4 < here.probe_accuracy < 0.95
    assert there.probe_accuracy == pytest.approx(here.probe_accuracy, abs=2 / 300)
    assert there.prototype_accuracy == here.prototype_accuracy


def test_what_sets_the_target_apart_where_the_source_hardly_moves_weighs_no_more() -> None:
    """The source's own scale would enlarge it a hundred thousand times."""
    (train, train_labels), (test, test_labels) = (
        clusters(0, 300, 8, 4, 1),
        clusters(1, 300, 8, 4, 1),
    )
    generator = np.random.default_rng(2)
    still = 1e-6 * generator.normal(size=(300, 1))
    train, test = np.hstack([train, still]), np.hstack([test, 0.1 + still])
    known = transfer("i", "j", train, train_labels, test, test_labels).probe_accuracy
    same = transfer("i", "j", train[:, :8], train_labels, test[:, :8], test_labels).probe_accuracy
    assert known == pytest.approx(same, abs=2 / 300)
    unit, unit_test = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (train, test))
    by_source = oracle.logistic_accuracy(unit, train_labels, unit_test, test_labels)
    assert by_source < same - 0.2


def test_the_floor_is_the_most_frequent_training_class() -> None:
    train, test = clusters(0, 9, 4)[0], clusters(1, 4, 4)[0]
    found = transfer("i", "j", train, np.array([2] * 5 + [0] * 4), test, np.array([2, 0, 0, 0]))
    assert found.majority == 0.25


def test_permuted_training_labels_give_chance() -> None:
    (train, train_labels), (test, test_labels) = clusters(3, 600, 8, 4), clusters(4, 600, 8, 4)
    shuffled = np.random.default_rng(0).permutation(train_labels)
    scores = [transfer("i", "j", train, shuffled, test, test_labels)]
    # A test whose labels are permuted must be at chance too: nothing may be fitted on them.
    scores.append(
        transfer(
            "i", "j", train, train_labels, test, np.random.default_rng(1).permutation(test_labels)
        )
    )
    assert scores[0].probe_accuracy < 0.6
    assert scores[1].probe_accuracy == pytest.approx(0.25, abs=0.08)
    assert scores[1].prototype_accuracy == pytest.approx(0.25, abs=0.08)


def test_test_labels_are_never_fitted_on() -> None:
    (train, train_labels), (test, test_labels) = clusters(3, 200, 8, 2), clusters(4, 200, 8, 2)
    found = transfer("i", "j", train, train_labels, test, test_labels)
    flipped = transfer("i", "j", train, train_labels, test, 1 - test_labels)
    assert flipped.prototype_accuracy == pytest.approx(1 - found.prototype_accuracy)
    assert flipped.probe_accuracy == pytest.approx(1 - found.probe_accuracy)


def test_dead_embeddings_answer_one_class() -> None:
    train, train_labels = clusters(0, 60, 4, 3)
    test_labels = np.array([0, 1, 2] * 10)
    found = transfer("i", "j", train, train_labels, np.zeros((30, 4)), test_labels)
    assert found.prototype_accuracy == pytest.approx(1 / 3)
    assert found.probe_accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("train_labels", "test_labels", "message"),
    [
        ([0, 0, 0], [0, 1, 1], "class 0"),
        ([-1, -1, -1], [0, 1, 1], "training"),
        ([0, 1, 1], [-1, -1, -1], "test"),
    ],
)
def test_too_few_labels_are_refused(
    train_labels: list[int], test_labels: list[int], message: str
) -> None:
    z = clusters(0, 3, 2)[0]
    with pytest.raises(DataError, match=message):
        transfer("i", "j", z, np.array(train_labels), z, np.array(test_labels))


def test_a_diverged_client_is_an_error_and_no_score() -> None:
    z, labels = clusters(0, 10, 2)
    with pytest.raises(RunError, match="diverged"):
        transfer("i", "j", z, labels, np.full_like(z, np.inf), labels)
