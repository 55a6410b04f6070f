"""Benchmark files: what lies over what, grids, --quick, and files that are none."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.benchmark.plan import MethodPlan, Plan, load_plan
from sheafalign_fl.config import load_settings
from sheafalign_fl.config.methods import METHODS
from sheafalign_fl.config.schema import GraphSettings
from sheafalign_fl.data.base import Split
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.errors import ConfigError
from tests.benchmark.toy_benchmark import toy_plan, write_benchmark

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"


def method(plan: Plan, name: str) -> MethodPlan:
    return next(item for item in plan.methods if item.method == name)


# ---- layers --------------------------------------------------------------------------------------


def test_a_methods_prescription_lies_over_the_file_and_its_entry_over_both(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        maps={"family": "linear"},
        graph={"topology": "ring"},
        objective={"temperature": 0.4, "laplacian": 2.0},
        methods={
            "file": None,
            "clip": {"method": "clip-pairs"},
            "mixed": {
                "method": "clip-pairs",
                "objective": {"laplacian": 0.5},
                "graph": {"dim": 6},
                "codec": "float16",
            },
        },
    )
    file, clip, mixed = (item.cell({}, 0) for item in plan.methods)
    assert (file.maps.family, file.graph.topology) == ("linear", "ring")
    assert (file.objective.temperature, file.objective.laplacian) == (0.4, 2.0)
    assert (clip.maps.family, clip.graph.topology, clip.objective.laplacian) == (
        "identity",
        "complete",
        0,
    )
    assert clip.objective.temperature == 0.4  # of which the method says nothing
    assert clip.graph.dim == 6
    assert (mixed.maps.family, mixed.objective.laplacian, mixed.codec) == (
        "identity",
        0.5,
        "float16",
    )
    assert all(item.engine == "inprocess" for item in (file, clip, mixed))
    assert [item.method for item in plan.methods] == ["file", "clip", "mixed"]
    assert method(plan, "mixed").fixed == ("method", "objective.laplacian", "graph.dim", "codec")


def test_a_method_of_the_file_lies_below_all_of_it(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        method="paper",
        objective={"temperature": 0.4},
        methods={"a": {}, "b": {"method": "sheafalign"}},
    )
    one, other = (item.cell({}, 0) for item in plan.methods)
    assert (one.training.learning_rate, one.maps.initial, one.objective.temperature) == (
        1e-4,
        "normal",
        0.4,
    )
    assert (other.training.learning_rate, other.maps.initial, other.objective.temperature) == (
        METHODS["sheafalign"]["training"]["learning_rate"],
        "orthogonal",
        0.4,
    )


def test_an_experiment_is_a_benchmark_of_one_method() -> None:
    for name in ("quickstart", "watch"):
        plan = load_plan(EXPERIMENTS / f"{name}.yaml")
        assert (plan.data, [item.method for item in plan.methods]) == (name, [name])
        expected = load_settings(EXPERIMENTS / f"{name}.yaml", ["engine=inprocess", "seed=5"])
        assert plan.methods[0].cell({}, 5) == expected
        assert len(plan.methods[0].points()) == 1


def test_the_files_name_is_its_own_or_what_it_says(tmp_path: Path) -> None:
    assert toy_plan(tmp_path, name=None).data == "toy"  # of toy.yaml
    assert toy_plan(tmp_path, name="else").data == "else"


def test_overrides_are_the_files_and_yield_to_methods(tmp_path: Path) -> None:
    path = write_benchmark(tmp_path)
    plan = load_plan(path, ["training.exchanges=9", "graph.dim=6", "maps.family=orthogonal"])
    lean, clip = (item.cell({}, 0) for item in plan.methods)
    assert lean.training.exchanges == clip.training.exchanges == 9
    assert (lean.graph.dim, lean.maps.family) == (3, "orthogonal")
    assert (clip.graph.dim, clip.maps.family) == (6, "identity")


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**40), st.sampled_from(list(METHODS)))
def test_a_cell_has_the_seed_it_is_asked_for(
    tmp_path_factory: pytest.TempPathFactory, seed: int, name: str
) -> None:
    plan = toy_plan(
        tmp_path_factory.mktemp("x"), seed=7, methods={"m": {"method": name}}, graph={"dim": 6},
        clients=["m0", "m1", "m2"],
    )  # fmt: skip
    cell = plan.methods[0].cell({}, seed)
    assert (cell.seed, cell.method, cell.evaluation.split) == (seed, name, "test")
    assert plan.methods[0].trial({}).seed == 0


def test_a_file_lies_over_the_one_that_it_includes(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    common = {
        "objective": {"temperature": 0.4, "reconstruction": 0.5},
        "methods": {
            "lean": {"codec": "float16"},
            "clip-pairs": {},
            "left": {},
            "random": {"method": "random"},
        },
        "tune": {"grid": {"training.learning_rate": [0.1, 0.2]}},
    }
    (tmp_path / "common" / "methods.yaml").write_text(yaml.safe_dump(common), encoding="utf-8")
    methods = {
        "lean": {"graph": {"dim": 3}},
        "clip-pairs": {"method": "clip-pairs"},
        "left": False,
        "own": {},
    }
    plan = toy_plan(
        tmp_path, include="common/methods.yaml", objective={"temperature": 0.3}, methods=methods
    )
    assert {item.method for item in plan.methods} == {"lean", "clip-pairs", "random", "own"}
    lean = method(plan, "lean").cell({}, 0)
    assert (lean.codec, lean.graph.dim) == ("float16", 3)
    assert (lean.objective.temperature, lean.objective.reconstruction) == (0.3, 0.5)
    assert method(plan, "clip-pairs").cell({}, 0).maps.family == "identity"
    assert [len(item.points()) for item in plan.methods] == [2, 2, 2, 2]


@pytest.mark.parametrize("clients", [["m0", "m1"], {"m0": None, "m1": {"dim": 6, "missing": 0.5}}])
def test_an_entry_may_say_something_of_every_client(clients: Any, tmp_path: Path) -> None:
    methods = {"small": {"method": "clip-pairs", "every_client": {"dim": 4}}, "same": {}}
    plan = toy_plan(tmp_path, clients=clients, methods=methods)
    small, same = (item.cell({}, 0) for item in plan.methods)
    assert [client.dim for client in small.clients.values()] == [4, 4]
    assert small.graph.dim == 4  # d_e follows d_i
    assert small.clients["m1"].missing == same.clients["m1"].missing
    assert same.clients["m0"].dim == 128


# ---- tuning --------------------------------------------------------------------------------------

TUNE = {
    "grid": {"training.learning_rate": [0.1, 0.2, 0.3], "objective.temperature": [0.5, 1]},
    "settings": {"training": {"exchanges": 2}, "evaluation": {"every": 1, "events": 7}},
}


def test_points_are_all_combinations_of_the_grid_in_its_order(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE).methods[0]
    assert [tuple(point.values()) for point in plan.points()] == [
        (rate, temperature) for rate in (0.1, 0.2, 0.3) for temperature in (0.5, 1)
    ]
    for point in plan.points():
        for found in (plan.trial(point), plan.cell(point, 3)):
            assert found.training.learning_rate == point["training.learning_rate"]
            assert found.objective.temperature == point["objective.temperature"]


def test_by_turns_each_key_is_tried_at_the_best_of_those_before(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune={**TUNE, "search": "by-turns"}).methods[0]
    assert plan.rounds == 2
    assert [tuple(point.values()) for point in plan.round(0, {})] == [
        (0.1, 0.5), (0.2, 0.5), (0.3, 0.5)
    ]  # fmt: skip
    best = plan.round(0, {})[2]
    assert [tuple(point.values()) for point in plan.round(1, best)] == [(0.3, 0.5), (0.3, 1)]
    fast = toy_plan(tmp_path, tune={**TUNE, "search": "by-turns"}, fast=True).methods[0]
    assert [fast.round(number, {}) for number in range(2)] == [fast.points()] * 2


def test_a_grid_is_tried_in_one_round(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE).methods[0]
    assert plan.rounds == 1
    assert plan.round(0, {}) == plan.points()
    with pytest.raises(ConfigError, match=r"tune\.search"):
        toy_plan(tmp_path, tune={**TUNE, "search": "random"})


def test_a_trial_is_measured_on_validation_events_and_only_a_trial(tmp_path: Path) -> None:
    for item in toy_plan(tmp_path, tune=TUNE).methods:
        for point in item.points():
            trial, cell = item.trial(point), item.cell(point, 3)
            assert (trial.evaluation.split, trial.seed, trial.training.exchanges) == (
                "validation",
                0,
                2,
            )
            assert (trial.evaluation.metrics, trial.evaluation.every) == (
                ("retrieval", "transfer"),
                0,
            )
            assert trial.evaluation.events == 7
            assert (cell.evaluation.split, cell.seed, cell.training.exchanges) == ("test", 3, 4)
            assert cell.evaluation.every == 2


def test_every_method_has_the_same_grid_unless_it_has_its_own(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path,
        tune=TUNE,
        methods={
            "a": {},
            "b": {"tune": {}},
            "c": {"tune": None},
            "d": {"tune": {"training.batch_size": [4, 8]}},
        },
    )
    counts = {item.method: len(item.points()) for item in plan.methods}
    assert counts == {"a": 6, "b": 1, "c": 6, "d": 2}
    assert method(plan, "b").points() == [{}]
    assert method(plan, "d").trial({"training.batch_size": 8}).training.exchanges == 2


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("evaluation.split", ["test", "validation"]),
        ("seed", [0, 1]),
        ("engine", ["inprocess", "pooled"]),
        ("training.learning_rate", [0.1, 0.1]),
    ],
)
def test_a_grid_cannot_make_a_trial_that_looks_at_test_events_or_none_at_all(
    key: str, values: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.split must be test|are the same trial"):
        toy_plan(tmp_path, tune={"grid": {key: values}})
    # Nor can the settings of all trials.
    plan = toy_plan(
        tmp_path,
        tune={"settings": {"seed": 5, "evaluation": {"split": "test", "metrics": ["probe"]}}},
    )
    trial = plan.methods[0].trial({})
    assert (trial.seed, trial.evaluation.split) == (0, "validation")


def test_data_without_labels_is_tuned_by_retrieval_alone(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path, tune=TUNE, evaluation={"metrics": ["consistency", "retrieval"]}
    ).methods[0]
    assert plan.trial(plan.points()[0]).evaluation.metrics == ("retrieval",)


# ---- quick ---------------------------------------------------------------------------------------


def test_quick_lies_over_everything_but_keeps_the_floor_untrained(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "tune": TUNE,
        "methods": {
            "a": {"training": {"exchanges": 50}},
            "random": {"method": "random"},
            "paper": {"method": "paper"},
        },
        "quick": {"training": {"exchanges": 2}, "data": {"options": {"events": 90}}},
    }
    full, quick = toy_plan(tmp_path, **changes), toy_plan(tmp_path, fast=True, **changes)
    assert [item.cell(item.points()[0], 0).training.exchanges for item in full.methods] == [
        50,
        0,
        4,
    ]
    assert [item.cell(item.points()[0], 0).training.exchanges for item in quick.methods] == [
        2,
        0,
        2,
    ]
    for item in quick.methods:
        points = item.points()
        assert points == [{"training.learning_rate": 0.1, "objective.temperature": 0.5}]
        assert item.cell(points[0], 0).data.options == {"events": 90}
        assert item.cell(points[0], 0).training.learning_rate == 0.1


def test_quick_without_anything_to_lay_over_tries_the_first_point_alone(tmp_path: Path) -> None:
    quick = toy_plan(tmp_path, fast=True, tune=TUNE)
    assert [len(item.points()) for item in quick.methods] == [1, 1]
    assert quick.methods[0].cell({}, 0).training.exchanges == 4


# ---- bad files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"methods": ["sheafalign", "paper"]},
            "methods must map each method's name to its settings",
        ),
        ({"methods": {}}, "methods is empty"),
        ({"methods": "paper"}, "methods must map"),
        ({"methods": {"a": "paper"}}, "methods must map"),
        ({"methods": {"a": {"method": "papre"}}}, "toy, method 'a': 'method'"),
        (
            {"methods": {"a": {"trainig": {}}}},
            "toy, method 'a': unknown key 'trainig'; did you mean 'training'",
        ),
        ({"methods": {"a": False}}, "methods is empty"),
        ({"methods": {"a": True}}, "methods must map"),
        ({"methods": {"a": {"variant": 3}}}, "methods.a: variant and tuned_as must be text"),
        ({"methods": {"a": {"tuned_as": 3}}}, "methods.a: variant and tuned_as must be text"),
        (
            {"methods": {"a": {"tuned_as": "a"}}},
            "methods.a.tuned_as: 'a' is not tuned in this file",
        ),
        (
            {"methods": {"a": {"tuned_as": "b"}}},
            "methods.a.tuned_as: 'b' is not tuned in this file",
        ),
        (
            {"methods": {"a": {}, "b": {"tuned_as": "a", "tune": {}}}},
            "methods.b: give tune or tuned_as, not both",
        ),
        ({"methods": {"a": {"every_client": 3}}}, "methods.a.every_client must be a mapping"),
        ({"methods": {"a": {"every_client": {"dimm": 3}}}}, "unknown key 'clients.m0.dimm'"),
        ({"include": 3}, "include must be the path of one file"),
        ({"include": "nowhere.yaml"}, "no configuration at"),
        ({"methods": {"../a": {}}}, "'../a' cannot name a method"),
        ({"methods": {"a/b": {}}}, "'a/b' cannot name a method"),
        ({"methods": {"": {}}}, "'' cannot name a method"),
        ({"trainig": {}}, "unknown key 'trainig'"),
        ({"training": 5}, "'training'"),
        ({"quick": [1]}, "quick must be a mapping"),
        ({"quick": 3}, "quick must be a mapping"),
        ({"tune": {"gird": {}}}, "tune.gird"),
        ({"tune": {"grid": {"training.learning_rate": 0.1}}}, "tune.grid.training.learning_rate"),
        ({"tune": {"grid": {"training.learning_rate": []}}}, "tune.grid.training.learning_rate"),
        (
            {"tune": {"grid": {"training.learning_rate": [[0.1]]}}},
            "tune.grid.training.learning_rate",
        ),
        ({"tune": {"grid": {"training.learning_rate": [-1.0, 0.1]}}}, "learning_rate"),
        ({"tune": {"grid": {"training.learning_rat": [0.1]}}}, "did you mean 'learning_rate'"),
        ({"tune": {"grid": {"training": [0.1]}}}, "'training'"),
        ({"tune": {"grid": {"": [0.1]}}}, "unknown key ''"),
        ({"tune": {"settings": {"training": {"exchange": 1}}}}, "did you mean 'exchanges'"),
        ({"tune": [1]}, "tune"),
        ({"methods": {"a": {"tune": 5}}}, "methods.a"),
        ({"methods": {"a": {"tune": {"training.learning_rate": 0.1}}}}, "methods.a"),
        ({"name": "../x"}, "'name'"),
        ({"name": ""}, "'name'"),
        ({"evaluation": {"split": "validation"}}, "evaluation.split must be test"),
        ({"evaluation": {"metrics": ["probe"]}}, "evaluation.metrics must have retrieval"),
    ],
)
@pytest.mark.parametrize("quick", [False, True])
def test_a_bad_file_is_one_clear_line(
    changes: dict[str, Any], message: str, quick: bool, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        toy_plan(tmp_path, fast=quick, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "section", ["training", "data", "clients", "graph", "maps", "objective", "evaluation"]
)
@pytest.mark.parametrize("value", ["null", "5", "[1]", "x"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_section_that_is_none_is_never_a_traceback(
    section: str, value: str, quick: bool, tmp_path: Path
) -> None:
    # Neither an entry nor --quick lays a good section over it.
    path = write_benchmark(tmp_path, methods={"a": {}}, quick={"name": "fast"})
    with pytest.raises(ConfigError) as caught:
        load_plan(path, [f"{section}={value}"], quick=quick)
    assert f"toy, method 'a': '{section}'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["null", "5", "[1]", "x"])
def test_what_an_entry_says_lies_over_a_section_that_is_none(value: str, tmp_path: Path) -> None:
    path = write_benchmark(tmp_path, methods={"a": {"graph": {"dim": 3}}})
    (item,) = load_plan(path, [f"graph={value}"]).methods
    assert item.cell({}, 0).graph == GraphSettings(dim=3)


def test_a_method_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = write_benchmark(tmp_path)
    path.write_text("clients: [m0, m1]\nmethods:\n  a: {}\n  a: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="given twice"):
        load_plan(path)


# ---- the benchmarks of the project ---------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((EXPERIMENTS / "benchmark").glob("*.yaml")), ids=lambda path: path.stem
)
@pytest.mark.parametrize("quick", [False, True])
def test_the_projects_benchmarks_compare_methods_under_equal_conditions(
    path: Path, quick: bool
) -> None:
    plan = load_plan(path, quick=quick)
    assert len(plan.methods) >= 2
    cells = [(item, item.cell(item.points()[0], 0)) for item in plan.methods]
    _, first = cells[0]
    for _, cell in cells:
        assert cell.data == first.data
        assert list(cell.clients) == list(first.clients)
        # Maps that are fitted afterwards are a method's own.
        same = {"every": 0, "refine": "none"}
        assert cell.evaluation.model_copy(update=same) == first.evaluation.model_copy(update=same)
    # Only a variant, which says what is special about it, may see more or fewer batches than the
    # others.
    trained = [
        cell.training for item, cell in cells if not item.variant and cell.training.exchanges
    ]
    assert (
        quick
        or len({(steps.batch_size, steps.exchanges * steps.batches) for steps in trained}) <= 1
    )
    grids = [item.grid for item in plan.methods if item.grid and not item.tuned_as]
    assert all(grid == grids[0] for grid in grids)
    trials = [
        item.trial(item.points()[0]).training.exchanges
        for item in plan.methods
        if len(item.points()) > 1
    ]
    assert len(set(trials)) <= 1


COMPARED = [
    path
    for folder in ("benchmark", "long", "paper")
    for path in sorted((EXPERIMENTS / folder).glob("*.yaml"))
    if path.stem not in ("options-halves", "deepsense")  # of one method
]


@pytest.mark.parametrize("path", COMPARED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_costs_no_byte_is_every_methods_but_the_papers(path: Path) -> None:
    """Whatever method `sheafalign` prescribes as its own default, others do not lack it here."""
    found = set()
    for item in load_plan(path).methods:
        cell = item.cell(item.points()[0], 0)
        if item.method in ("paper", "random") or item.base:
            continue
        objective = cell.objective
        found.add(
            (cell.training, objective.variance, objective.covariance, objective.label_smoothing)
        )
    assert len(found) == 1


# ---- variants ------------------------------------------------------------------------------------

LEAN: dict[str, Any] = {
    "of": ["sheaf", "clip"],
    "factors": {
        "codec": {"codec": "int4"},
        "dimension": {"dim": 3},
        "steps": {"training": {"local_steps": 2}},
    },
    "alone": ["clip"],
}
BASES: dict[str, Any] = {
    "sheaf": {"graph": {"dim": 5}},
    "clip": {"method": "clip-pairs", "every_client": {"dim": 6}},
}


def test_a_variant_is_the_same_choices_for_every_method(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, methods=BASES, variants={"lean": LEAN}, tune=TUNE)
    assert [(item.method, item.variant, item.base, item.tuned_as) for item in plan.methods] == [
        ("sheaf", "", "", ""),
        ("clip", "", "", ""),
        ("sheaf-lean", "lean", "sheaf", "sheaf"),
        ("clip-lean", "lean", "clip", "clip"),
        ("clip-lean-codec", "lean: codec", "clip", "clip"),
        ("clip-lean-dimension", "lean: dimension", "clip", "clip"),
        ("clip-lean-steps", "lean: steps", "clip", "clip"),
    ]
    point = plan.methods[0].points()[0]
    made = {item.method: item.cell(point, 0) for item in plan.methods}
    facts = {
        name: (cell.codec, cell.graph.dim, cell.clients["m0"].dim, cell.training.local_steps)
        for name, cell in made.items()
    }
    assert facts == {
        "sheaf": ("float32", 5, 6, 1),
        "clip": ("float32", 6, 6, 1),
        "sheaf-lean": ("int4", 3, 6, 2),
        "clip-lean": ("int4", 3, 3, 2),  # where all share one space, it is the clients' own
        "clip-lean-codec": ("int4", 6, 6, 1),
        "clip-lean-dimension": ("float32", 3, 3, 1),
        "clip-lean-steps": ("float32", 6, 6, 2),
    }


def test_an_including_file_changes_one_factor_or_leaves_the_variant_out(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text(
        yaml.safe_dump({"variants": {"lean": LEAN}}), encoding="utf-8"
    )
    steps = {"lean": {"factors": {"steps": {"training": {"exchanges": 7}}}}}
    plan = toy_plan(tmp_path, methods=BASES, include="common.yaml", variants=steps)
    training = method(plan, "clip-lean").cell({}, 0).training
    assert (training.local_steps, training.exchanges) == (2, 7)
    without = toy_plan(tmp_path, methods=BASES, include="common.yaml", variants={"lean": False})
    assert [item.method for item in without.methods] == ["sheaf", "clip"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"of": ["gone"]}, "variants.lean: there is no method 'gone'"),
        ({"alone": ["gone"]}, "there is no method 'gone'"),
        ({"of": []}, "variants.lean.of"),
        ({"factors": {}}, "variants.lean.factors"),
        ({"factor": {}}, "variants.lean.factor"),
        ({"factors": {"steps": {"training": {"local_steps": 0}}}}, "local_steps"),
    ],
)
def test_a_variant_that_cannot_be_made_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        toy_plan(tmp_path, methods=BASES, variants={"lean": {**LEAN, **changes}})
    assert "\n" not in str(caught.value)


def test_a_variant_takes_no_name_that_is_there(tmp_path: Path) -> None:
    taken = {**BASES, "clip-lean": {"graph": {"dim": 2}}}
    with pytest.raises(ConfigError, match="'clip-lean' is a method already"):
        toy_plan(tmp_path, methods=taken, variants={"lean": LEAN})
    with pytest.raises(ConfigError, match="variants must map"):
        toy_plan(tmp_path, methods=BASES, variants=["lean"])


def split_ids(plan: Plan, seed: int, split: Split) -> set[Any]:
    """Return the events of a split, as any client of the plan names them."""
    config = plan.methods[0].cell(plan.methods[0].points()[0], seed)
    found: set[Any] = set()
    for name, client in config.clients.items():
        data = load_modality(
            config.data.source, client.modality or name, seed, config.data.options, name
        )
        found |= set(data.ids_of(split).tolist())
    return found


@pytest.mark.parametrize("name", ["halves", "trio"])
def test_where_seed_0_tunes_for_all_its_validation_events_are_test_events_of_no_seed(
    name: str,
) -> None:
    plan = load_plan(EXPERIMENTS / "benchmark" / f"{name}.yaml", quick=True)
    assert not plan.methods[0].per_seed
    tuned_on = split_ids(plan, 0, "validation")
    assert tuned_on
    assert all(not tuned_on & split_ids(plan, seed, "test") for seed in range(5))


@pytest.mark.parametrize(
    "name",
    [
        "benchmark/multifeature",
        "benchmark/watch",
        "long/watch",
        "long/multifeature",
        "paper/compare",
    ],
)
def test_where_the_seed_draws_the_split_each_seed_is_tuned_for_itself(name: str) -> None:
    plan = load_plan(EXPERIMENTS / f"{name}.yaml")
    assert all(item.per_seed for item in plan.methods)
