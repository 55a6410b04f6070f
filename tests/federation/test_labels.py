"""Clients that know different labels: each edge is scored by one that both ends know.

Encoders and maps copy, so a client's embedding shows the factors that it sees and nothing else: the
right label gives an accuracy of 1, a wrong one about a quarter (four classes).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sheafalign_fl import metrics
from sheafalign_fl.config import Settings
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

COPYING: dict[str, Any] = {"dim": 12, "encoder": "tests.toy:copying_encoder"}
TRIO = ("ab", "bc", "ca")
COMMON = {
    frozenset(("ab", "bc")): "class_b",
    frozenset(("bc", "ca")): "class_c",
    frozenset(("ca", "ab")): "class_a",
}
CHANCE = 0.45
"""Far above a quarter of 100 test events, and far below 1."""


def untrained(
    clients: tuple[str, ...] = TRIO,
    *,
    data: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    **sections: Any,
) -> Settings:
    content: dict[str, Any] = {
        "data": {"source": "tests.toy:trio", "options": dict(data or {})},
        "clients": dict.fromkeys(clients, COPYING),
        "graph": {"topology": "complete", "dim": 12},
        "maps": {"family": "identity"},
        "training": {"exchanges": 0},
        "evaluation": {
            "metrics": ["retrieval", "transfer", "probe", "missing"],
            **(evaluation or {}),
        },
    }
    return toy_settings(**{**content, **sections})


def quality(settings: Settings, run_folder: Callable[[Settings], RunFolder]) -> Quality:
    run_inprocess(settings, folder := run_folder(settings))
    return folder.load_summary().quality


def held(
    settings: Settings, client: str, split: int
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
    """Return inputs, which are the embeddings here, and labels of a split in order of event ids."""
    data = client_data(client, settings)
    rows = np.flatnonzero(data.split == split)
    return data.x[rows], {name: values[rows] for name, values in data.labels.items()}


def test_every_edge_is_scored_by_what_both_ends_know(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    found = quality(untrained(), run_folder)
    assert len(found.transfer) == len(found.retrieval) == 6
    for row in found.transfer:
        assert (row.prototype_accuracy, row.probe_accuracy) == (1.0, 1.0)
        assert row.majority < CHANCE
        assert row.events == 100
    for rank in found.retrieval:  # by class: of the common label all relevant events come first
        assert rank.mean_average_precision == pytest.approx(1.0)
    assert found.label == "class_a, class_b, class_c"


@pytest.mark.parametrize("clients", [("bc", "ca", "ab"), ("ca", "ab", "bc"), ("ab", "ca", "bc")])
def test_the_order_of_the_clients_does_not_matter(
    clients: tuple[str, ...], run_folder: Callable[[Settings], RunFolder]
) -> None:
    found = quality(untrained(clients), run_folder)
    assert [row.prototype_accuracy for row in found.transfer] == [1.0] * 6


def test_on_a_path_in_one_space_the_ends_are_scored_by_what_they_share_too(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    """ab - bc - ca: in one space ab and ca are compared without being neighbours.

    They share factor a.
    """
    found = quality(untrained(graph={"topology": "path", "dim": 12}), run_folder)
    assert len(found.transfer) == 6
    assert all(row.prototype_accuracy == 1.0 for row in found.transfer)
    assert found.label == "class_a, class_b, class_c"


def test_a_label_that_is_asked_for_is_everybody_s(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    """class_b: ca knows nothing of it, so it fits nothing, and as a target it can only guess."""
    found = quality(untrained(evaluation={"label": "class_b"}), run_folder)
    accuracy = {(row.source, row.target): row.prototype_accuracy for row in found.transfer}
    assert set(accuracy) == {("ab", "bc"), ("ab", "ca"), ("bc", "ab"), ("bc", "ca")}
    assert accuracy["ab", "bc"] == accuracy["bc", "ab"] == 1.0
    assert max(accuracy["ab", "ca"], accuracy["bc", "ca"]) < CHANCE
    assert {row.client: row.accuracy for row in found.probe} == {"ab": 1.0, "bc": 1.0}


def test_a_label_that_all_clients_know_is_the_only_one(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = untrained(("ab", "abc", "ca"), evaluation={"metrics": ["transfer", "probe"]})
    found = quality(settings, run_folder)
    assert found.label == "class_a"
    assert [row.prototype_accuracy for row in found.transfer] == [1.0] * 6


def test_a_client_without_labels_is_scored_by_its_neighbour_s(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    found = quality(
        untrained(data={"bare": ["bc"]}, evaluation={"metrics": ["transfer", "probe"]}), run_folder
    )
    accuracy = {(row.source, row.target): row.prototype_accuracy for row in found.transfer}
    assert found.label == "class_a"  # ab and ca, who know any, both know it
    assert set(accuracy) == {("ab", "bc"), ("ab", "ca"), ("ca", "ab"), ("ca", "bc")}
    assert accuracy["ab", "ca"] == accuracy["ca", "ab"] == 1.0
    assert max(accuracy["ab", "bc"], accuracy["ca", "bc"]) < CHANCE


def test_the_probe_is_the_mean_over_a_client_s_own_labels(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    """ab knows factor a's class but does not see it; its probe finds b for certain, a by guess."""
    settings = untrained(data={"blind": {"ab": "a"}})
    found = {row.client: row for row in quality(settings, run_folder).probe}
    for client in TRIO:
        fit, fit_labels = held(settings, client, 0)
        test, test_labels = held(settings, client, 2)
        rows = [
            metrics.linear_probe(client, fit, fit_labels[name], test, test_labels[name])
            for name in fit_labels
        ]
        assert len(rows) == 2
        assert found[client].accuracy == pytest.approx(
            np.mean([row.accuracy for row in rows]), abs=1e-12
        )
        assert found[client].majority == pytest.approx(
            np.mean([row.majority for row in rows]), abs=1e-12
        )
    assert found["bc"].accuracy == found["ca"].accuracy == 1.0
    assert 0.5 <= (found["ab"].accuracy or 0.0) < (1 + CHANCE) / 2


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"blind": {"ab": "ab", "bc": "b"}},
        {"unlabelled": {"ab": "a"}},
        {"unlabelled": {"ca": "a"}},
    ],
    ids=["all seen", "factor b unseen", "labels of ab incomplete", "labels of ca incomplete"],
)
def test_the_fused_probe_is_the_mean_over_labels(
    data: dict[str, Any], run_folder: Callable[[Settings], RunFolder]
) -> None:
    settings = untrained(data=data)
    found = quality(settings, run_folder).missing
    fit, test = ({client: held(settings, client, split) for client in TRIO} for split in (0, 2))
    by_label = []
    for label in ("class_a", "class_b", "class_c"):
        knowing = [client for client in TRIO if label[-1] in client]
        known = [
            _first_known([part[client][1][label] for client in knowing]) for part in (fit, test)
        ]
        assert (
            min(int(values.min()) for values in known) == 0
        )  # where one has no label, another has
        by_label.append(
            metrics.missing_modalities(
                {client: fit[client][0] for client in TRIO},
                known[0],
                {client: test[client][0] for client in TRIO},
                known[1],
                {},
                shared_space=True,
            )
        )
    assert [row.missing for row in found] == [0, 1, 2]
    for row, labels in zip(found, zip(*by_label, strict=True), strict=True):
        assert row.events == 100
        for name in ("imputed", "mean_fill", "zero_fill", "worst_imputed"):
            expected = float(np.mean([getattr(label, name) for label in labels]))
            assert getattr(row, name) == pytest.approx(expected, abs=1e-6)
    # Unseen, factor b is guessed: two labels of three are found for certain.
    assert found[0].imputed == (
        pytest.approx(1.0) if "blind" not in data else pytest.approx(0.75, abs=0.09)
    )


def _first_known(labels: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.array(
        [next((value for value in row if value >= 0), -1) for row in zip(*labels, strict=True)]
    )


# ---- the rule itself -----------------------------------------------------------------------------


def test_the_rule_for_an_edge() -> None:
    agreed: Agreement = check(untrained()).agreement
    for edge, label in COMMON.items():
        one, other = edge
        assert agreed.edge_label(one, other) == agreed.edge_label(other, one) == label
    assert {client: set(labels) for client, labels in agreed.labels.items()} == {
        "ab": {"class_a", "class_b"},
        "bc": {"class_b", "class_c"},
        "ca": {"class_c", "class_a"},
    }


def test_a_label_that_all_labelled_clients_know_comes_before_the_first_of_an_edge() -> None:
    """bc and ca name class_b first and would share it, but ab knows class_a alone, abc nothing."""
    settings = untrained(("ab", "bc", "ca", "abc"), evaluation={"metrics": ["transfer"]})
    checked = check(settings)
    labels = {
        "ab": ("class_a",),
        "bc": ("class_b", "class_a"),
        "ca": ("class_b", "class_a"),
        "abc": (),
    }
    found = [replace(manifest, labels=labels[name]) for name, manifest in checked.manifests.items()]
    assert agree(found, settings, checked.topology).all_labels() == ("class_a",)
    found[-1] = replace(found[-1], labels=("class_c",))  # now no label is everybody's
    agreed = agree(found, settings, checked.topology)
    assert agreed.all_labels() == ("class_a", "class_b")
    assert agreed.labels["abc"] == ()


def test_without_any_common_label_the_source_s_own_is_used() -> None:
    agreed = check(untrained(("a", "b"), evaluation={"metrics": ["transfer"]})).agreement
    assert agreed.all_labels() == ("class_a",)
    assert agreed.edge_label("a", "b") == "class_a"
    assert agreed.edge_label("b", "a") is None
