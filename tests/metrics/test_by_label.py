"""Recall by label against a slow count, its chance against enumeration, and where it may stand."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.metrics import vectors
from sheafalign_fl.metrics.base import Together
from sheafalign_fl.metrics.by_label import chance_by_label, recall_by_label
from sheafalign_fl.metrics.registry import measured_metrics
from sheafalign_fl.protocol.verbs import EVALUATOR
from sheafalign_fl.report.metric_tables import metric_table
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import read_ledger
from strategies.gathering import Gathering
from tests.conftest import toy_settings
from tests.federation.runs import SMALL

NAME = "recall-by-label"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_chance_is_the_mean_over_all_orders_of_the_gallery(labels: list[int], k: int) -> None:
    hits = [
        query in (labels[event] for event in order[:k])
        for order in permutations(range(len(labels)))
        for query in labels
    ]
    assert chance_by_label(np.array(labels), k) == pytest.approx(sum(hits) / len(hits))


def test_chance_of_many_equal_classes_is_that_of_drawing_with_putting_back() -> None:
    for classes, k in ((2, 5), (10, 1), (10, 10)):
        labels = np.arange(200_000) % classes
        expected = 1 - (1 - 1 / classes) ** k
        assert chance_by_label(labels, k) == pytest.approx(expected, abs=1e-4)


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_recall_is_counted_as_the_rule_says(seed: int, events: int, classes: int) -> None:
    """Whole numbers as embeddings, so that ties and zero vectors come up."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-1, 2, size=(events, 3)).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, classes, size=events)
    hits = {1: 0, 5: 0, 10: 0}
    for query in range(events):

        def nearness(event: int, query: int = query) -> float:
            sizes = float(np.linalg.norm(a[query]) * np.linalg.norm(b[event]))
            return round(float(a[query] @ b[event]) / sizes, 9) if sizes else -2.0

        def place(event: int, query: int = query) -> tuple[float, bool]:
            return -nearness(event, query), labels[event] == labels[query]  # the label's own last

        order = sorted(range(events), key=place)
        for k in hits:
            hits[k] += any(labels[event] == labels[query] for event in order[:k])
    found = recall_by_label("a", "b", a, b, labels)
    assert found == pytest.approx({f"recall_at_{k}": n / events for k, n in hits.items()})


def test_a_constant_embedding_finds_nothing() -> None:
    labels = np.arange(60) % 3
    found = recall_by_label("a", "b", np.ones((60, 4)), np.ones((60, 4)), labels)
    assert set(found.values()) == {0.0}
    with pytest.raises(ValueError, match=r"labels have shape \(59,\) for 60 events"):
        recall_by_label("a", "b", np.ones((60, 4)), np.ones((60, 4)), labels[:59])


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    queries, gallery = generator.normal(size=(101, 5)), generator.normal(size=(101, 5))
    queries[3] = gallery[90] = 0
    labels = generator.integers(0, 9, 101)
    whole = recall_by_label("a", "b", queries, gallery, labels)
    monkeypatch.setattr(vectors, "_BLOCK_CELLS", 7 * 101)
    assert recall_by_label("a", "b", queries, gallery, labels) == whole


def test_metrics_of_one_evaluation_put_events_together_once_for_each_label(
    run_folder: Callable[[Settings], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, found = Gathering._held, []

    def counted(self: Gathering, *given: Any) -> Together:
        found.append(given[-1])
        return together(self, *given)

    monkeypatch.setattr(Gathering, "_held", counted)
    settings = measured("missing", NAME)
    run_inprocess(settings, folder := run_folder(settings))
    assert set(folder.load_summary().quality.measured()) == {"missing", NAME}
    assert len(found) == len(set(found)) > 0


def measured(*metrics: str) -> Settings:
    return toy_settings(
        clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
        evaluation={"metrics": list(metrics), "every": 0},
    )


def test_a_run_measures_every_pair_and_sends_no_more_than_the_fused_probe_does(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    sent = {}
    for metrics in (("missing",), ("missing", NAME), (NAME,)):
        run_inprocess(measured(*metrics), folder := run_folder(measured(*metrics)))
        sent[metrics] = sorted(
            (row.source, row.destination, row.purpose, row.payload_bytes)
            for row in read_ledger(folder.ledger)
            if row.purpose == "evaluate"
        )
    assert sent["missing",] == sent["missing", NAME] == sent[NAME,]
    assert any(destination == EVALUATOR for _, destination, _, _ in sent[NAME,])
    quality = folder.load_summary().quality
    rows = quality.rows(NAME)
    assert {(row.source, row.target) for row in rows} == set(permutations(("m0", "m1", "m2"), 2))
    assert all(0 < row.chance_at_1 < row.chance_at_5 < row.chance_at_10 <= 1 for row in rows)
    table = metric_table(quality, NAME)
    assert table.columns[:3] == ("direction", "events", "R@1 by label %")
    assert table.summary[-1][0] == "chance"


def test_it_is_refused_where_embeddings_may_not_be_gathered_or_do_not_compare() -> None:
    alike = {"m0": {"dim": 8}, "m1": {"dim": 8}}
    sealed = toy_settings(clients=alike, evaluation={"metrics": [NAME]}, security={"sealed": True})
    with pytest.raises(ConfigError, match=f"security.sealed: the metric '{NAME}' sends"):
        measured_metrics(sealed, final=True)
    clients = {"m0": {"dim": 8}, "m1": {"dim": 9}}
    with pytest.raises(ConfigError, match=f"'{NAME}' compares .* one dim, not 8, 9"):
        toy_settings(clients=clients, evaluation={"metrics": [NAME]})
    toy_settings(clients=clients, evaluation={"metrics": ["retrieval"]})


def test_nobody_measures_it_who_does_not_ask() -> None:
    assert NAME not in toy_settings(evaluation={}).evaluation.metrics
