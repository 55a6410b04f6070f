"""`experiments.recipes`: it measures what the product measures, and its page shows its results."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from experiments import recipes
from sheafalign_fl.config import Settings
from sheafalign_fl.config.load import read_content
from sheafalign_fl.config.methods import METHODS
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings
from tests.federation.runs import SMALL, training_payload

PLAN = read_content(recipes.PLAN)


@pytest.mark.parametrize(
    "sections",
    [{}, {"method": "imagebind", "graph": {"dim": 8, "topology": "star"}}],
    ids=["sheaf", "star"],
)
def test_a_cell_is_what_a_run_measures(
    sections: dict[str, Any], run_folder: Callable[[Settings], RunFolder], no_reports: None
) -> None:
    for kind in ("none", "cca", "procrustes"):
        settings = toy_settings(
            clients=dict.fromkeys(("m0", "m1", "m2"), SMALL),
            training={"exchanges": 12, "replay": 1},
            evaluation={"metrics": ["retrieval", "transfer"], "refine": kind},
            **sections,
        )
        run_inprocess(settings, folder := run_folder(settings))
        quality, found = folder.load_summary().quality, recipes.measured(settings)
        shown = found["quality"][kind]["test"]
        for figure, rows, name in (
            ("r1", quality.retrieval, "recall_at_1"),
            ("r10", quality.retrieval, "recall_at_10"),
            ("prototypes", quality.transfer, "prototype_accuracy"),
        ):
            values = [getattr(row, name) for row in rows]
            assert shown[figure] == pytest.approx(np.mean(values), abs=1e-5)
        assert found["payload_bytes"] == sum(training_payload(folder).values())
        assert found["digest"] == settings.digest()


def test_all_recipes_of_a_method_cost_the_same_bytes_and_plain_is_plain() -> None:
    published = {
        (cell["data"], cell["method"]): cell["payload_bytes"]
        for cell in json.loads((recipes.ROOT / "benchmark/results/benchmark.json").read_bytes())[
            "cells"
        ]
    }
    for cell in recipes.cells(PLAN, ["trio-hard", "halves"], [1]):
        settings = cell.settings
        star = settings.graph.topology == "star"
        clients = len(settings.clients)
        edges = clients - 1 if star else clients * (clients - 1) // 2
        sent = settings.training.exchanges * settings.training.batch_size
        assert 2 * edges * sent * settings.graph.dim * 4 == published[cell.data, cell.method]
        if cell.recipe == "plain":
            training, objective = settings.training, settings.objective
            assert (training.replay, training.warmup, training.clip) == (0, 0.0, None)
            assert (training.optimiser, training.weight_decay) == ("adam", 0.0)
            assert objective.label_smoothing == objective.variance == objective.covariance == 0
        if cell.recipe == "default" and cell.method == "sheafalign":
            prescribed = METHODS["sheafalign"]
            for section in ("training", "objective"):
                found = getattr(settings, section).model_dump()
                assert prescribed[section].items() <= found.items()


def test_every_recipe_is_made_of_ideas_that_exist() -> None:
    assert {idea for ideas in PLAN["recipes"].values() for idea in ideas} <= set(PLAN["ideas"])
    tried = {r for methods in PLAN["tried"].values() for rs in methods.values() for r in rs}
    assert tried == set(PLAN["recipes"])
    assert set(PLAN["tried"]) == set(PLAN["data"])


def test_the_page_shows_the_committed_results() -> None:
    text = recipes.PAGE.read_text(encoding="utf-8")
    results = json.loads(recipes.RESULTS.read_text(encoding="utf-8"))
    assert recipes.page_with(results, text) == text
    assert text.count("| sheafalign, default |") >= 1
