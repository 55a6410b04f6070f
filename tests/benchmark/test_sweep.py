"""A sweep: the runs it makes, makes again and chooses, and what it says of those that fail."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.progress import Progress
from threadpoolctl import threadpool_info, threadpool_limits
from typer.testing import CliRunner

from clients import evaluation as client_evaluation
from sheafalign_fl.benchmark import jobs, sweep
from sheafalign_fl.benchmark.plan import Plan
from sheafalign_fl.benchmark.results import Benchmark, load_benchmark
from sheafalign_fl.benchmark.running import run_benchmark
from sheafalign_fl.benchmark.sweep import Sweep
from sheafalign_fl.benchmark.verdicts import Claim, Verdict
from sheafalign_fl.cli import commands as cli
from sheafalign_fl.config.methods import METHODS
from sheafalign_fl.engines import launch
from sheafalign_fl.errors import ConfigError, RunError, UserError
from sheafalign_fl.learner.node import Node
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.progress import SweepProgress, sweep_progress
from sheafalign_fl.threads import _limit_blas, limit_threads
from tests.benchmark.toy_benchmark import (
    HerePool,
    Watcher,
    no_processes,
    run_here,
    toy_plan,
    write_benchmark,
)
from tests.federation.runs import PowerCut, cut_at

SEEDS = [0, 3]
FAST: dict[str, Any] = {"evaluation": {"metrics": ["retrieval"], "every": 0}}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return toy_plan(tmp_path_factory.mktemp("plan"), **FAST)


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Benchmark]:
    out = tmp_path_factory.mktemp("finished")
    return out, run_here(plan, SEEDS, out)


def folders(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.glob("*/*/*/*/config.yaml"))


def results(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return the cells without what two equal runs may differ in."""
    return [
        cell.model_dump(exclude={"seconds", "message_bytes", "relay_bytes"})
        for cell in benchmark.cells
    ]


# ---- what it runs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_over_processes_is_every_cell_run_by_itself(plan: Plan, tmp_path: Path) -> None:
    watcher = Watcher()
    benchmark = Sweep([plan], SEEDS, tmp_path / "sweep", 2, watcher).run()
    assert watcher.phases == [("tuning", 0, 0), ("cells", 4, 0)]
    assert sorted(watcher.names) == sorted(
        f"toy {m.method} seed {seed}" for m in plan.methods for seed in SEEDS
    )
    cells = iter(benchmark.cells)
    for method in plan.methods:
        for seed in SEEDS:
            alone = launch.start(method.cell({}, seed), tmp_path / f"{method.method}-{seed}")
            cell = next(cells)
            swept = RunFolder(tmp_path / "sweep" / cell.folder).load_summary()
            assert (cell.method, cell.seed, swept.seed) == (method.method, seed, seed)
            assert swept.weights_digest == alone.weights_digest
            assert swept.quality == alone.quality
            assert swept.config_digest == alone.config_digest
    assert len({cell.folder for cell in benchmark.cells}) == 4


def test_the_benchmark_is_written_down(plan: Plan, finished: tuple[Path, Benchmark]) -> None:
    out, benchmark = finished
    assert load_benchmark(out / "benchmark.json") == benchmark
    assert [(cell.data, cell.method, cell.seed) for cell in benchmark.cells] == [
        ("toy", method.method, seed) for method in plan.methods for seed in SEEDS
    ]
    assert [str(folder.relative_to(out)) for folder in folders(out)] == sorted(
        cell.folder for cell in benchmark.cells
    )
    assert benchmark.tuning == ()
    for folder in folders(out):
        assert (
            RunFolder(folder).settings().resources.workers == 1
        )  # each cell has one processor to itself


def test_a_pooled_cell_is_another_than_the_federated_one(tmp_path: Path) -> None:
    methods = {"lean": {"graph": {"dim": 3}}, "pooled": {"graph": {"dim": 3}, "engine": "pooled"}}
    benchmark = run_here(toy_plan(tmp_path, **FAST, methods=methods), [0], tmp_path / "out")
    one, other = benchmark.cells
    assert other.folder.endswith("-pooled")
    assert (one.kind, other.kind) == ("sheaf", "reference")
    assert one.recall_at_10 == pytest.approx(other.recall_at_10, abs=0.1)
    # 80 training events of 6 and 7 features go up once; the federation sends 2 x 16 events of
    # 3 numbers 4 times.
    assert other.payload_bytes == 80 * (6 + 7) * 4
    assert one.payload_bytes == 4 * 2 * 16 * 3 * 4


# ---- again ---------------------------------------------------------------------------------------


def test_what_is_finished_is_not_run_again(plan: Plan, finished: tuple[Path, Benchmark]) -> None:
    out, first = finished
    before = {
        path: path.stat().st_mtime_ns for folder in folders(out) for path in folder.rglob("*")
    }
    watcher = Watcher()
    again = run_here(plan, SEEDS, out, watcher)
    assert watcher.phases == [("tuning", 0, 0), ("cells", 4, 4)]
    assert watcher.names == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.cells == first.cells
    assert again.seconds >= first.seconds  # of all sessions together
    assert len(folders(out)) == 4


@pytest.mark.slow
def test_another_seed_or_setting_is_another_cell(plan: Plan, tmp_path: Path) -> None:
    run_here(plan, [0], tmp_path / "out")
    watcher = Watcher()
    run_here(plan, [0, 1], tmp_path / "out", watcher)
    assert sorted(watcher.names) == ["toy clip-pairs seed 1", "toy lean seed 1"]
    changed = toy_plan(tmp_path, **FAST, objective={"temperature": 0.3})
    run_here(changed, [0], tmp_path / "out", watcher := Watcher())
    assert watcher.phases[-1] == ("cells", 2, 0)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 3])
def test_an_interrupted_sweep_goes_on(
    cut: int, plan: Plan, finished: tuple[Path, Benchmark], tmp_path: Path
) -> None:
    """Cut off in the third of four cells: two are kept, the third goes on, the fourth begins."""
    submitted: list[str] = []

    class CutPool(HerePool):
        def submit(self, function: Any, *arguments: str) -> Any:
            submitted.append(arguments[1])
            if len(submitted) == 3:
                cut_at(cut, patch)
            return super().submit(function, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(jobs, "ProcessPoolExecutor", CutPool)
        Sweep([plan], SEEDS, tmp_path, 1, Watcher()).run()
    assert not (tmp_path / "benchmark.json").exists()
    assert [RunFolder(folder).status()["state"] for folder in folders(tmp_path)].count(
        "completed"
    ) == 2
    watcher = Watcher()
    benchmark = run_here(plan, SEEDS, tmp_path, watcher)
    assert watcher.phases == [("tuning", 0, 0), ("cells", 4, 2)]
    assert [RunFolder(Path(path)).load_summary().resumed for path in submitted[:3]] == [0, 0, 1]
    assert results(benchmark) == results(finished[1])


def test_a_cell_that_was_cut_off_before_it_had_begun_goes_on(
    plan: Plan, finished: tuple[Path, Benchmark], tmp_path: Path
) -> None:
    """A run folder is made in two writes, and its configuration is the second."""
    cell = tmp_path / finished[1].cells[0].folder
    cell.mkdir(parents=True)
    (cell / "versions.json").write_text("{}", encoding="utf-8")
    assert results(run_here(plan, SEEDS, tmp_path)) == results(finished[1])


def test_ctrl_c_leaves_a_sweep_that_goes_on(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Process:
        ended = False

        def terminate(self) -> None:
            Process.ended = True

    class InterruptedPool(HerePool):
        def submit(self, function: Any, *arguments: str) -> Any:
            self._processes = {1: Process()}
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(jobs, "ProcessPoolExecutor", InterruptedPool)
        Sweep([plan], [0], tmp_path, 1, Watcher()).run()
    assert Process.ended
    assert len(run_here(plan, [0], tmp_path).cells) == 2


# ---- failures ------------------------------------------------------------------------------------


def fails(*_: object) -> Any:
    """Raise as a user's own encoder may."""
    raise ConfigError("this encoder is broken")


def test_a_failing_cell_is_named_and_the_others_are_finished_and_kept(tmp_path: Path) -> None:
    broken = {"clients": {"m0": {"encoder": "tests.benchmark.test_sweep:fails"}}}
    methods = {"broken": broken, "lean": {"graph": {"dim": 3}}, "other": {"graph": {"dim": 2}}}
    plan, out = toy_plan(tmp_path, **FAST, methods=methods), tmp_path / "out"
    watcher = Watcher()
    with pytest.raises(RunError) as caught:
        run_here(plan, SEEDS, out, watcher)
    message = str(caught.value)
    assert message.startswith("cells: toy broken seed 0 failed: ")
    assert "this encoder is broken (and 1 more)" in message
    assert message.endswith("the same command goes on with what is left")
    assert "\n" not in message
    assert len(watcher.names) == 6
    states = [RunFolder(folder).status()["state"] for folder in folders(out)]
    assert states == ["completed"] * 4
    assert not (out / "benchmark.json").exists()
    with pytest.raises(RunError, match="toy broken seed 0"):
        run_here(plan, SEEDS, out, watcher := Watcher())
    assert watcher.phases[-1] == ("cells", 6, 4)
    without = toy_plan(
        tmp_path, **FAST, methods={name: methods[name] for name in ("lean", "other")}
    )
    run_here(without, SEEDS, out, watcher := Watcher())
    assert watcher.phases[-1] == ("cells", 4, 4)


TUNE_FAST: dict[str, Any] = {"grid": {"training.learning_rate": [1e-3, 2e-3]}}
BRIEF: dict[str, Any] = {"training": {"exchanges": 2}}
"""Too few exchanges for a run to be given up."""


@pytest.mark.parametrize("clients", [["m0", "m1"], ["m0", "m1", "m2"]])
def test_a_cell_with_a_client_that_diverged_is_named_and_has_no_means(
    clients: list[str], tmp_path: Path
) -> None:
    """Its run completes, for the others can go on; but their means alone would flatter it."""
    exploding = {"clients": {"m0": {"encoder": "tests.toy:Exploding"}}}
    dims = {name: {"dim": 6} for name in clients}
    plan = toy_plan(
        tmp_path, **FAST, **BRIEF, clients=dims, methods={"broken": exploding, "lean": {}}
    )
    with pytest.raises(RunError) as caught:
        run_here(plan, [0], tmp_path / "out")
    assert str(caught.value).startswith(
        "toy broken seed 0: a client was absent when the run was measured"
    )
    assert "\n" not in str(caught.value)


def test_a_trial_with_a_client_that_diverged_is_not_chosen(tmp_path: Path) -> None:
    """With three clients, its R@10 is the mean over two that could do well without the third."""
    rates = [1e30, 1e-3]
    dims = {name: {"dim": 6} for name in ("m0", "m1", "m2")}
    plan = toy_plan(
        tmp_path,
        **FAST,
        **BRIEF,
        clients=dims,
        tune={"grid": {"training.learning_rate": rates}},
        methods={"lean": {}},
    )
    benchmark = run_here(plan, [0], tmp_path / "out")
    assert [trial.score > 0 for trial in benchmark.tuning[0].trials] == [False, True]
    assert benchmark.cells[0].settings["training.learning_rate"] == 1e-3


def test_a_bug_in_a_worker_is_a_reason_too(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = launch.start

    def buggy(settings: Any, path: Path) -> Any:
        if "lean" in path.parts:
            raise ZeroDivisionError("by zero")
        return start(settings, path)

    monkeypatch.setattr(launch, "start", buggy)
    with pytest.raises(RunError, match="toy lean seed 0 failed: ZeroDivisionError: by zero;"):
        run_here(plan, [0], tmp_path)
    assert [RunFolder(folder).status()["state"] for folder in folders(tmp_path)] == ["completed"]


def test_data_that_is_not_there_makes_no_folder(tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "nowhere"), "train": 10, "validation": 5, "test": 5}
    data = {"source": "fashion", "options": options}
    plan = toy_plan(tmp_path, **FAST, data=data, clients=["top", "bottom"], methods={"lean": {}})
    with pytest.raises(RunError, match="there is no folder"):
        run_here(plan, [0], tmp_path / "out")
    assert folders(tmp_path / "out") == []


@pytest.mark.slow
def test_a_worker_that_dies_is_a_reason_too(tmp_path: Path) -> None:
    dying = {"clients": {"m0": {"encoder": "tests.benchmark.test_sweep:die"}}}
    methods = {"dying": dying, "never begun": {"graph": {"dim": 3}}}
    words = r"cells: toy dying seed 0 failed: BrokenProcessPool: .* \(and 1 more\)"
    with pytest.raises(RunError, match=words):
        Sweep(
            [toy_plan(tmp_path, **FAST, methods=methods)],
            [0],
            tmp_path / "out",
            1,
            Watcher(),
        ).run()


def die(*_: object) -> None:
    """End the process, as the kernel does with one that takes too much memory."""
    os._exit(9)


# ---- tuning --------------------------------------------------------------------------------------

RATES = [1e-6, 0.02]
TUNE = {"grid": {"training.learning_rate": RATES}, "settings": {"training": {"exchanges": 60}}}


@pytest.fixture(scope="module")
def tuned(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Benchmark, list[tuple[str, str]]]]:
    """A tuned sweep, and what each run's clients embedded: (run folder's first part, events)."""
    folder = tmp_path_factory.mktemp("tuned")
    plan = toy_plan(
        folder, tune=TUNE, methods={"lean": {"graph": {"dim": 3}}, "untuned": {"tune": {}}}
    )
    out, asked = folder / "out", list[tuple[str, str]]()
    phase = ["tuning"]

    class Phases(Watcher):
        def phase(self, name: str, total: int, done: int) -> None:
            phase[0] = name

    embed, embeddings = client_evaluation.embed, Node.embeddings
    with pytest.MonkeyPatch.context() as patch:

        def spy_embed(node: Any, name: Any, *rest: Any) -> Any:
            asked.append((phase[0], name))
            return embed(node, name, *rest)

        def spy_embeddings(node: Any, name: Any) -> Any:
            asked.append((phase[0], name))
            return embeddings(node, name)

        patch.setattr(client_evaluation, "embed", spy_embed)
        patch.setattr(Node, "embeddings", spy_embeddings)
        yield out, run_here(plan, SEEDS, out, Phases()), asked


def looks_at_test_events(asked: list[tuple[str, str]], phase: str) -> bool:
    return any(where == phase and name == "test" for where, name in asked)


def test_no_trial_ever_measures_a_test_event(
    tuned: tuple[Path, Benchmark, list[tuple[str, str]]],
) -> None:
    out, _, asked = tuned
    assert not looks_at_test_events(asked, "tuning")
    assert looks_at_test_events(asked, "cells")  # the spy does see it where it happens
    trials = [
        RunFolder(folder) for folder in folders(out) if folder.relative_to(out).parts[0] == "tuning"
    ]
    assert len(trials) == len(RATES)
    for trial in trials:
        assert trial.load_summary().quality.split == "validation"
        assert trial.load_summary().seed == 0
        splits = [
            row["quality"]["split"]
            for row in read_rows(trial.metrics)
            if row["kind"] == "evaluation"
        ]
        assert set(splits) == {"validation"}
    for cell in tuned[1].cells:
        assert RunFolder(out / cell.folder).load_summary().quality.split == "test"


def test_the_best_trial_by_validation_makes_the_cells(
    tuned: tuple[Path, Benchmark, list[tuple[str, str]]],
) -> None:
    out, benchmark, _ = tuned
    [tuning] = benchmark.tuning
    assert (tuning.data, tuning.method) == ("toy", "lean")
    scores: dict[float, float] = {}
    for folder in out.glob("tuning/toy/lean/*"):
        quality, rate = (
            RunFolder(folder).load_summary().quality,
            RunFolder(folder).settings().training.learning_rate,
        )
        recall = np.mean([row.recall_at_10 for row in quality.retrieval])
        scores[rate] = (
            float(recall + np.mean([row.prototype_accuracy for row in quality.transfer])) / 2
        )
    assert [trial.settings["training.learning_rate"] for trial in tuning.trials] == RATES
    assert {
        trial.settings["training.learning_rate"]: trial.score for trial in tuning.trials
    } == pytest.approx(scores)
    best = max(scores, key=lambda rate: scores[rate])
    assert best == 0.02  # the other hardly moves
    untuned = METHODS["sheafalign"]["training"]["learning_rate"]
    for cell in benchmark.cells:
        trained = RunFolder(out / cell.folder).settings().training
        assert trained.learning_rate == (best if cell.method == "lean" else untuned)
        assert cell.settings["training.learning_rate"] == trained.learning_rate
        assert trained.exchanges == cell.exchanges == 4  # of the file, not of the trials


def test_by_turns_the_second_key_is_tried_at_the_best_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score is written by hand: highest at a rate of 0.02 and a temperature of 0.4."""
    rates, temperatures = [0.005, 0.01, 0.02], [0.1, 0.2, 0.4]

    def score(folder: RunFolder) -> float:
        found = folder.settings()
        return found.training.learning_rate + found.objective.temperature / 100

    monkeypatch.setattr(sweep, "tuning_score", score)
    grid = {"training.learning_rate": rates, "objective.temperature": temperatures}
    tune = {"grid": grid, "search": "by-turns", "settings": {"training": {"exchanges": 1}}}
    plan = toy_plan(tmp_path, **FAST, tune=tune, methods={"lean": {}})
    watcher, out = Watcher(), tmp_path / "out"
    benchmark = run_here(plan, [0], out, watcher)
    assert watcher.phases == [("tuning", 3, 0), ("tuning, round 2", 5, 3), ("cells", 1, 0)]
    tried = [tuple(trial.settings.values()) for trial in benchmark.tuning[0].trials]
    assert tried == [(0.005, 0.2), (0.01, 0.2), (0.02, 0.2), (0.02, 0.1), (0.02, 0.4)]
    assert tuple(benchmark.cells[0].settings.values()) == (0.02, 0.4)
    run_here(plan, [0], out, again := Watcher())
    assert again.phases == [("tuning", 5, 5), ("tuning, round 2", 5, 5), ("cells", 1, 1)]


def test_of_equal_trials_the_first_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = toy_plan(
        tmp_path, **FAST, tune={"grid": {"training.learning_rate": RATES}}, methods={"lean": {}}
    )
    monkeypatch.setattr(sweep, "tuning_score", lambda folder: 0.5)
    [cell] = run_here(plan, [0], tmp_path / "out").cells
    assert cell.settings["training.learning_rate"] == RATES[0]


def test_a_method_that_is_tuned_as_another_takes_over_its_choice(tmp_path: Path) -> None:
    methods = {"lean": {"graph": {"dim": 2}, "tuned_as": "sheaf"}, "sheaf": {"graph": {"dim": 3}}}
    grid = {"grid": {"training.learning_rate": RATES}}
    plan, watcher = toy_plan(tmp_path, **FAST, tune=grid, methods=methods), Watcher()
    benchmark = run_here(plan, [0], tmp_path / "out", watcher)
    assert watcher.phases == [("tuning", 2, 0), ("cells", 2, 0)]
    assert [tuning.method for tuning in benchmark.tuning] == ["sheaf"]
    scores = {
        trial.settings["training.learning_rate"]: trial.score
        for trial in benchmark.tuning[0].trials
    }
    best = max(scores, key=lambda rate: scores[rate])
    assert [cell.settings["training.learning_rate"] for cell in benchmark.cells] == [best, best]
    assert [cell.edge_dim for cell in benchmark.cells] == [2, 3]
    with pytest.raises(UserError, match="'lean' is tuned as 'sheaf'; name that too"):
        run_benchmark([plan], [0], tmp_path / "out", 1, Watcher(), only="lean")


def test_unlabelled_data_is_tuned_by_retrieval(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        **FAST,
        data={"source": "tests.benchmark.test_sweep:unlabelled"},
        tune=TUNE,
        methods={"lean": {}},
    )
    benchmark = run_here(plan, [0], tmp_path / "out")
    assert all(0 < trial.score <= 1 for trial in benchmark.tuning[0].trials)
    assert benchmark.cells[0].transfer_prototype is None


def unlabelled(modality: str, seed: int, **options: Any) -> Any:
    from dataclasses import replace

    from tests.toy import source

    return replace(source(modality, seed, **options), labels={}, classes={})


# ---- seeds as they are needed, minutes as they are given -----------------------------------------


def test_further_seeds_are_run_for_what_is_open_and_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def open_once(benchmark: Benchmark) -> list[Claim]:
        asked.append(len({cell.seed for cell in benchmark.cells}))
        verdict: Verdict = "open" if len(asked) == 1 else "holds"
        return [
            Claim("a", "toy", verdict, "", methods=("lean",)),
            Claim("b", "toy", "holds", "", methods=("clip-pairs",)),
            Claim("c", "other", "open", "", methods=("clip-pairs",)),
        ]

    monkeypatch.setattr(sweep, "claims", open_once)
    plan, out = toy_plan(tmp_path, **FAST, **BRIEF), tmp_path / "out"
    watcher = Watcher()
    with no_processes():
        benchmark = Sweep([plan], range(15), out, 1, watcher, until_settled=True).run()
    seeds = {
        method: [cell.seed for cell in benchmark.cells if cell.method == method]
        for method in ("lean", "clip-pairs")
    }
    assert seeds == {"lean": list(range(10)), "clip-pairs": list(range(5))}
    assert asked == [5, 10]
    assert benchmark.looks == 3  # that there could have been
    assert [phase for phase in watcher.phases if phase[0].startswith("cells")] == [
        ("cells", 10, 0),
        ("cells of stage 2", 15, 10),
    ]


def test_minutes_that_are_over_begin_nothing_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out = toy_plan(tmp_path, **FAST, **BRIEF, tune=TUNE_FAST), tmp_path / "out"
    clock, ended = [0.0], list[str]()

    class Ticking(Watcher):
        def finished(self, name: str) -> None:
            ended.append(name)
            clock[0] += 60

    monkeypatch.setattr("sheafalign_fl.benchmark.jobs.time.monotonic", lambda: clock[0])
    with no_processes():
        first = Sweep([plan], [0, 1], out, 1, Ticking(), minutes=6)
        benchmark = first.run()
    # Two trials for each of two methods, then both cells of seed 0: all of it together.
    assert ended[4:] == ["toy lean seed 0", "toy clip-pairs seed 0"]
    assert first.left == 2
    assert [(cell.method, cell.seed) for cell in benchmark.cells] == [
        ("lean", 0),
        ("clip-pairs", 0),
    ]
    whole = Sweep([plan], [0, 1], out, 1, Watcher(), minutes=60)
    with no_processes():
        assert len(whole.run().cells) == 4
    assert whole.left == 0


def test_minutes_too_few_for_a_cell_are_one_clear_line(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, **FAST, **BRIEF, tune=TUNE_FAST)
    with no_processes(), pytest.raises(RunError, match="give more of them"):
        Sweep([plan], [0], tmp_path / "out", 1, Watcher(), minutes=0).run()


def test_each_seed_is_tuned_for_itself_where_the_file_says_so(tmp_path: Path) -> None:
    methods = {"lean": {"graph": {"dim": 2}}, "other": {"graph": {"dim": 3}, "tuned_as": "lean"}}
    tune = TUNE_FAST | {"per_seed": True}
    plan, out = toy_plan(tmp_path, **FAST, **BRIEF, tune=tune, methods=methods), tmp_path / "out"
    benchmark = run_here(plan, SEEDS, out, watcher := Watcher())
    assert watcher.phases == [("tuning", 4, 0), ("cells", 4, 0)]
    assert [(item.method, item.seed) for item in benchmark.tuning] == [("lean", 0), ("lean", 3)]
    for tuning in benchmark.tuning:
        best = max(tuning.trials, key=lambda trial: trial.score).settings
        chosen = [cell.settings for cell in benchmark.cells if cell.seed == tuning.seed]
        assert len(chosen) == 2
        assert all(settings.items() >= best.items() for settings in chosen)
    trained = {RunFolder(path).load_summary().seed for path in (out / "tuning").glob("*/*/*")}
    assert trained == set(SEEDS)


# ---- the command ---------------------------------------------------------------------------------


def test_compare_runs_files_and_says_where_the_report_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.sys, "path", list(cli.sys.path))  # type: ignore[attr-defined]
    path, out = (
        write_benchmark(tmp_path, **FAST, quick={"training": {"exchanges": 1}}),
        tmp_path / "out",
    )
    command = ["compare", str(path), "--seeds", "0,2", "--out", str(out), "--quick", "--jobs", "1"]
    with no_processes():
        done = CliRunner().invoke(cli.app, [*command, "--only", "lean", "--set", "graph.dim=6"])
    assert done.exit_code == 0, done.output
    assert f"report: {out / 'benchmark.html'}" in done.output
    cells = load_benchmark(out / "benchmark.json").cells
    assert [(cell.method, cell.seed, cell.exchanges) for cell in cells] == [
        ("lean", 0, 1),
        ("lean", 2, 1),
    ]
    further = [*command, "--only", "lean", "--set", "graph.dim=6", "--seeds", "0,2,5"]
    with no_processes():
        cut = CliRunner().invoke(cli.app, [*further, "--until-settled", "--minutes", "0"])
    assert cut.exit_code == 0, cut.output
    assert "the minutes are over; the same command goes on with 1 run\n" in cut.output
    assert len(load_benchmark(out / "benchmark.json").cells) == 2


@pytest.mark.parametrize(
    "seeds", ["", "a", "0,0", "-1", "0,,1", "0.5", "3-1", "0-2,1", "0-99999999"]
)
def test_seeds_that_are_none_are_refused(seeds: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        cli._seeds(seeds)


def test_seeds_are_listed() -> None:
    assert cli._seeds("0") == [0]
    assert cli._seeds("2, 0,11") == [2, 0, 11]
    assert cli._seeds("0-3, 7") == [0, 1, 2, 3, 7]


def test_only_and_names_are_checked_before_anything_runs(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no method 'leen'; there are clip-pairs, lean"):
        run_benchmark([plan], [0], tmp_path, 1, Watcher(), only="lean,leen")
    with pytest.raises(UserError, match="two benchmark files are named 'toy'"):
        run_benchmark([plan, plan], [0], tmp_path, 1, Watcher())
    assert list(tmp_path.iterdir()) == []


# ---- progress and threads ------------------------------------------------------------------------


def test_progress_has_a_bar_for_each_phase_and_moves_with_every_run() -> None:
    progress = Progress(disable=True)
    told = SweepProgress(progress)
    told.phase("tuning", 2, 1)
    told.finished("toy lean")
    told.phase("cells", 3, 0)
    told.finished("toy lean seed 0")
    told.finished("toy lean seed 1")
    tuning, cells = progress.tasks
    assert (tuning.description, tuning.completed, tuning.total) == ("tuning", 2, 2)
    assert (cells.description, cells.completed, cells.total) == ("cells", 2, 3)
    assert cells.fields["facts"] == "toy lean seed 1"


def test_progress_is_shown_on_the_console_that_is_given() -> None:
    import io

    from rich.console import Console

    with sweep_progress(
        Console(file=(text := io.StringIO()), force_terminal=True, width=100)
    ) as progress:
        progress.phase("cells", 1, 0)
        progress.finished("toy lean seed 0")
    assert "cells" in text.getvalue()
    assert "1/1" in text.getvalue()


def test_threads_of_torch_and_blas_are_limited() -> None:
    before, limits = torch.get_num_threads(), threadpool_limits()
    try:
        _limit_blas.cache_clear()
        limit_threads(1)
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    finally:
        limits.restore_original_limits()
        _limit_blas.cache_clear()
        torch.set_num_threads(before)
