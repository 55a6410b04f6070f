"""Cells against their runs: means by hand out of summary.json, bytes summed out of ledger.csv."""

import csv
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from sheafalign_fl.benchmark.collect import collect, tuning_score
from sheafalign_fl.benchmark.plan import MethodPlan
from sheafalign_fl.benchmark.results import Cell, load_benchmark
from sheafalign_fl.config.methods import METHODS as PRESCRIBED
from sheafalign_fl.engines import launch
from sheafalign_fl.errors import RunError, UserError
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.summary import Summary
from tests.benchmark.toy_benchmark import no_processes, run_here, toy_plan

METHODS: dict[str, Any] = {
    "sheaf": {"graph": {"dim": 3}, "codec": "float16", "variant": "lean"},
    "gram": {"method": "gram"},
    "random": {"method": "random"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Cell, RunFolder]]:
    """A cell of every method, of three clients, one lacking some events, with its run folder."""
    folder = tmp_path_factory.mktemp("collect")
    data = {"source": "tests.toy:source", "options": {"events": 160, "lacking": {"m1": 0.2}}}
    plan = toy_plan(
        folder,
        data=data,
        clients={name: {"dim": 6} for name in ("m0", "m1", "m2")},
        methods=METHODS,
        tune={"grid": {"training.batch_size": [16]}},
    )
    found = {}
    with no_processes():
        for method in plan.methods:
            run = RunFolder(folder / "out" / "cells" / method.method)
            [point] = method.points()
            launch.start(method.cell(point, 0), run.path)
            found[method.method] = (collect(method, point, run, folder / "out"), run)
    return found


def raw(run: RunFolder) -> Any:
    return json.loads(run.summary.read_text(encoding="utf-8"))


@pytest.mark.parametrize("method", METHODS)
def test_means_are_those_of_the_summary(
    method: str, runs: dict[str, tuple[Cell, RunFolder]]
) -> None:
    cell, run = runs[method]
    quality = raw(run)["quality"]
    assert quality["split"] == "test"
    for name in (
        "recall_at_1",
        "recall_at_5",
        "recall_at_10",
        "median_rank",
        "mean_average_precision",
    ):
        assert getattr(cell, name) == pytest.approx(
            fmean(row[name] for row in quality["retrieval"])
        ), name
    assert cell.worst_recall_at_10 == min(row["recall_at_10"] for row in quality["retrieval"])
    assert cell.gallery == min(row["events"] for row in quality["retrieval"])
    assert cell.gallery < max(row["events"] for row in quality["retrieval"])
    assert cell.directions == len(quality["retrieval"]) == 6
    assert cell.transfer_prototype == pytest.approx(
        fmean(row["prototype_accuracy"] for row in quality["transfer"])
    )
    assert cell.transfer_probe == pytest.approx(
        fmean(row["probe_accuracy"] for row in quality["transfer"])
    )
    assert cell.majority == pytest.approx(fmean(row["majority"] for row in quality["transfer"]))
    assert cell.probe == pytest.approx(fmean(row["accuracy"] for row in quality["probe"]))
    assert cell.consistency == pytest.approx(fmean(row["value"] for row in quality["consistency"]))
    names = ("missing", "imputed", "mean_fill", "zero_fill", "ridge", "unexplained")
    assert [point.model_dump() for point in cell.missing] == [
        {name: row[name] for name in names} for row in quality["missing"]
    ]
    assert [point.missing for point in cell.missing] == [0, 1, 2]


@pytest.mark.parametrize("method", METHODS)
def test_bytes_are_the_sums_of_the_ledger(
    method: str, runs: dict[str, tuple[Cell, RunFolder]]
) -> None:
    cell, run = runs[method]
    with run.ledger.open(encoding="utf-8", newline="") as file:
        everything = list(csv.DictReader(file))
    rows = [row for row in everything if row["purpose"] == "train"]
    evaluated = [row for row in everything if row["purpose"] == "evaluate"]
    for name in ("payload_bytes", "message_bytes", "relay_bytes"):
        assert getattr(cell, f"evaluation_{name}") == sum(int(row[name]) for row in evaluated), name
    assert cell.evaluation_payload_bytes
    for name in ("payload_bytes", "message_bytes", "relay_bytes"):
        assert getattr(cell, name) == sum(int(row[name]) for row in rows), name
    # The oracle: what the agreed events of each batch cost on each edge.
    width = 2 if cell.codec == "float16" else 4
    assert cell.payload_bytes == sum(int(row["events"]) for row in rows) * cell.edge_dim * width
    assert (cell.payload_bytes == 0) == (cell.exchanges == 0)
    assert cell.payload_bytes <= cell.message_bytes <= cell.relay_bytes


@pytest.mark.parametrize("method", METHODS)
def test_every_direction_is_kept_with_its_figures(
    method: str, runs: dict[str, tuple[Cell, RunFolder]]
) -> None:
    cell, run = runs[method]
    found = raw(run)
    assert len(cell.pairs) == 6
    assert all(pair.trained for pair in cell.pairs)
    assert fmean(pair.recall_at_1 for pair in cell.pairs) == pytest.approx(cell.recall_at_1)
    transfer = {(row["source"], row["target"]): row for row in found["quality"]["transfer"]}
    for pair in cell.pairs:
        row = transfer[pair.source, pair.target]
        assert (pair.transfer_prototype, pair.transfer_probe) == (
            row["prototype_accuracy"],
            row["probe_accuracy"],
        )
    flags = [row["converged"] for name in ("transfer", "probe") for row in found["quality"][name]]
    assert len(flags) == 6 + 3
    assert cell.unconverged == flags.count(False)
    assert cell.events == {
        split: min(edge["shared_events"][split] for edge in found["edges"])
        for split in found["edges"][0]["shared_events"]
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_curve_is_retrieval_on_validation_events(
    method: str, runs: dict[str, tuple[Cell, RunFolder]]
) -> None:
    cell, run = runs[method]
    rows = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    measured = [
        row
        for row in rows
        if row["kind"] == "evaluation" and row["quality"]["split"] == "validation"
    ]
    sent = {row["exchange"] + 1: row["payload_bytes"] for row in rows if row["kind"] == "exchange"}
    assert len(cell.curve) == len(measured)
    for point, row in zip(cell.curve, measured, strict=True):
        assert point.exchange == row["exchange"]
        assert point.payload_bytes == sent.get(point.exchange, 0)
        for name in ("recall_at_1", "recall_at_10"):
            assert getattr(point, name) == pytest.approx(
                fmean(item[name] for item in row["quality"]["retrieval"])
            )
    if method != "random":
        assert [point.exchange for point in cell.curve] == [2, 4][: len(cell.curve)]
        assert cell.curve
        assert cell.curve[-1].payload_bytes <= cell.payload_bytes


def test_what_makes_a_method_is_told(runs: dict[str, tuple[Cell, RunFolder]]) -> None:
    sheaf, gram, floor = (runs[name][0] for name in METHODS)
    assert [cell.kind for cell in (sheaf, gram, floor)] == ["sheaf", "single-space", "reference"]
    assert [cell.variant for cell in (sheaf, gram, floor)] == ["lean", "", ""]
    assert [cell.edge_dim for cell in (sheaf, gram)] == [3, 6]
    assert [cell.codec for cell in (sheaf, gram)] == ["float16", "float32"]
    assert [cell.exchanges for cell in (sheaf, gram, floor)] == [4, 4, 0]
    assert {cell.clients for cell in (sheaf, gram, floor)} == {3}
    assert sheaf.settings == {
        "training.learning_rate": PRESCRIBED["sheafalign"]["training"]["learning_rate"],
        "objective.temperature": 0.2,
        "training.batch_size": 16,
        "graph.dim": 3,
        "codec": "float16",
    }
    assert gram.settings["method"] == "gram"
    assert sheaf.folder == "cells/sheaf"
    assert sheaf.seconds == raw(runs["sheaf"][1])["seconds"]


def test_the_score_of_tuning_is_the_mean_of_both(runs: dict[str, tuple[Cell, RunFolder]]) -> None:
    for cell, run in runs.values():
        assert cell.transfer_prototype is not None
        assert tuning_score(run) == pytest.approx((cell.recall_at_10 + cell.transfer_prototype) / 2)


def changed(run: RunFolder, path: Path, **quality: Any) -> RunFolder:
    """Return another run folder with the summary of `run`, other rows in its quality."""
    other, summary = RunFolder(path), raw(run)
    other.create(run.settings())
    summary["quality"] |= quality
    other.save_summary(Summary.model_validate_json(json.dumps(summary)))
    return other


def test_rows_of_some_directions_alone_have_no_mean(
    runs: dict[str, tuple[Cell, RunFolder]], tmp_path: Path
) -> None:
    """As they are when a client has diverged and was left out of the measurement."""
    _, run = runs["sheaf"]
    plan = MethodPlan("toy", "sheaf", "", {}, {}, {}, ())
    for kept in (0, 4):
        part = changed(run, tmp_path / str(kept), retrieval=raw(run)["quality"]["retrieval"][:kept])
        assert tuning_score(part) == 0
        with pytest.raises(
            RunError, match="toy sheaf seed 0: a client was absent when the run was measured"
        ):
            collect(plan, {}, part, tmp_path)


def test_what_was_not_measured_is_none_and_not_zero(
    runs: dict[str, tuple[Cell, RunFolder]], tmp_path: Path
) -> None:
    _, run = runs["sheaf"]
    unlabelled = [
        {**row, "mean_average_precision": None} for row in raw(run)["quality"]["retrieval"]
    ]
    bare = changed(
        run, tmp_path / "x", retrieval=unlabelled, transfer=[], probe=[], missing=[], consistency=[]
    )
    bare.metrics.touch()
    cell = collect(MethodPlan("toy", "sheaf", "", {}, {}, {}, ()), {}, bare, tmp_path)
    for name in (
        "mean_average_precision",
        "transfer_prototype",
        "transfer_probe",
        "probe",
        "majority",
        "consistency",
    ):
        assert getattr(cell, name) is None, name
    assert cell.missing == ()
    assert cell.curve == ()
    assert tuning_score(bare) == pytest.approx(cell.recall_at_10)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"schema_version": 2}'])
def test_a_file_that_is_no_benchmark_is_one_clear_line(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_benchmark(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cell_of_a_sweep_is_what_collect_says(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path, evaluation={"metrics": ["retrieval"], "every": 0}, methods={"lean": {}}
    )
    [cell] = run_here(plan, [4], tmp_path / "out").cells
    run = RunFolder(tmp_path / "out" / cell.folder)
    assert cell == collect(plan.methods[0], {}, run, tmp_path / "out")
    assert cell.seed == 4
