"""A metric of one's own is one file: measured, written down, shown and compared like the others."""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sheafalign_fl.config import METRICS as NAMES
from sheafalign_fl.config.schema import OPEN_METRICS
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.metrics.base import FederationMetric, Numbers, Pair, PairMetric, Together
from sheafalign_fl.metrics.quality import BUILT_IN, Quality
from sheafalign_fl.metrics.registry import METRICS, known_metric, measured_metrics
from sheafalign_fl.numbers import with_spread
from sheafalign_fl.report import write_report
from sheafalign_fl.report.metric_tables import quality_tables
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATH = "own_metric:LinearCKA"


@pytest.fixture
def own_metric(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the example as a module that settings can name."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(METRICS, "_resolved", {})
    return importlib.import_module("own_metric")


def pair(a: Any, b: Any) -> Pair:
    none = np.full(len(a), -1)
    return Pair("x", "y", a, b, none, np.empty((0, 1)), np.empty(0, dtype=np.int64))


def cka_of_kernels(a: Any, b: Any) -> float:
    """Return CKA by its other definition: centred kernel matrices (arXiv 1905.00414, section 3)."""
    centre = np.eye(len(a)) - 1 / len(a)
    k, m = (centre @ z @ z.T @ centre for z in (a, b))
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_the_example_measures_what_the_paper_defines(own_metric: ModuleType) -> None:
    generator, metric = np.random.default_rng(0), own_metric.LinearCKA()
    a, b = generator.normal(size=(50, 6)), generator.normal(size=(50, 6))
    rotation = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    assert metric.measure(pair(a, b))["cka"] == pytest.approx(cka_of_kernels(a, b), rel=1e-9)
    assert metric.measure(pair(a, 3 * a @ rotation + 5))["cka"] == pytest.approx(1.0)
    assert metric.measure(pair(a, np.ones_like(a)))["cka"] == 0.0


@pytest.mark.slow
def test_the_example_runs_to_its_end(
    own_metric: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_metric.main(str(tmp_path / "run"))
    printed = re.findall(r"(\w+) – (\w+): CKA (\d\.\d{3})", capsys.readouterr().out)
    assert len(printed) == 3
    rows = json.loads((tmp_path / "run" / "summary.json").read_text())["quality"]["own"][PATH]
    assert [(row["source"], row["target"], f"{row['cka']:.3f}") for row in rows] == printed
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Linear CKA" in page
    assert own_metric.LinearCKA.explanation in page


@pytest.fixture
def two_runs(own_metric: ModuleType, tmp_path: Path, no_reports: None) -> list[Path]:
    """Return two finished runs of two seeds that measured retrieval and the example.

    The second one was given the class itself, as in a notebook.
    """
    paths = []
    for seed, metric in enumerate((PATH, own_metric.LinearCKA)):
        settings = toy_settings(seed=seed, evaluation={"metrics": ["retrieval", metric]})
        assert settings.evaluation.metrics == ("retrieval", PATH)
        RunFolder(tmp_path / str(seed)).create(settings)
        run_inprocess(settings, RunFolder(tmp_path / str(seed)))
        paths.append(tmp_path / str(seed))
    return paths


@pytest.mark.parametrize("here", [True, False], ids=["its code is here", "its code is not here"])
def test_runs_are_compared_by_it(
    two_runs: list[Path], tmp_path: Path, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its code is not known no file of results makes anybody import it."""
    if not here:
        monkeypatch.setattr(METRICS, "_resolved", {})
        monkeypatch.setattr("sheafalign_fl.config.registry.load_attribute", pytest.fail)
    qualities = [RunFolder(path).load_summary().quality for path in two_runs]
    values = [np.mean([row.cka for row in found.rows(PATH)]) for found in qualities]
    table = quality_tables(qualities[0])[-1]
    assert table.title == ("Linear CKA" if here else "LinearCKA")
    assert table.columns[-1] == ("CKA" if here else "cka")
    assert table.summary[0][-1] == f"{values[0]:{'.3f' if here else '.3g'}}"
    assert {row[0] for row in table.rows} == (
        {"m0 – m1", "m0 – m2", "m1 – m2"} if here else {"m0 → m1", "m0 → m2", "m1 → m2"}
    )
    write_report(two_runs, tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert with_spread(map(float, values)) in page


# ---- the registry --------------------------------------------------------------------------------


class Incomplete(PairMetric):
    """Does not say its columns."""

    title = "Incomplete"

    def measure(self, held: Pair) -> Numbers:
        """Return nothing."""
        return {}


class Gathering(FederationMetric):
    """Needs all embeddings in one place."""

    title = "Gathering"
    columns = METRICS["missing"].columns

    def measure(self, held: Together) -> list[Numbers]:
        """Return nothing."""
        return []


class Abstract(PairMetric):
    """Measures nothing."""


def test_settings_results_and_registry_name_the_same_metrics() -> None:
    assert tuple(NAMES) == tuple(METRICS) == BUILT_IN
    assert {name for name, metric in METRICS.items() if metric.leaves_client} == set(OPEN_METRICS)
    for name, metric in METRICS.items():
        assert name == metric.name
        assert (
            Quality.model_fields[name].annotation
            == tuple[
                metric.row,  # type: ignore[name-defined]
                ...,
            ]
        )
        assert {column.field for column in metric.columns} <= metric.row.model_fields.keys()
        assert metric.explanation
        assert metric.scores


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"{__name__}:Incomplete", "does not say its columns"),
        (f"{__name__}:Abstract", "abstract"),
        ("subprocess:Popen", "is no metric"),
        ("sheafalign_fl.metrics.base:mean_of", "is no metric"),
        ("no_such_module:Metric", "cannot be imported"),
    ],
)
def test_what_is_no_metric_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"evaluation\.metrics: .*{reason}"):
        METRICS.resolve(name, "evaluation.metrics")


def test_a_misspelt_metric_is_mended() -> None:
    with pytest.raises(ConfigError, match="did you mean 'retrieval'"):
        toy_settings(evaluation={"metrics": ["retreival"]})


def test_an_own_metric_that_gathers_embeddings_is_not_measured_sealed() -> None:
    evaluation = {"metrics": ["retrieval", f"{__name__}:Gathering"]}
    open_, sealed = (
        toy_settings(evaluation=evaluation, security={"sealed": sealed}) for sealed in (False, True)
    )
    assert list(measured_metrics(open_, final=True)) == evaluation["metrics"]
    assert list(measured_metrics(open_, final=False)) == ["retrieval"]
    with pytest.raises(ConfigError, match="Gathering' sends embeddings of held-out events"):
        measured_metrics(sealed, final=True)


def test_rows_of_an_unknown_metric_are_shown_as_they_are() -> None:
    rows = [{"client": "a", "events": 7, "depth": 0.25}, {"client": "b", "events": 7, "depth": 0.5}]
    quality = Quality.of("test", None, {"nowhere:Depth": rows, "retrieval": []})
    assert quality.measured() == ["nowhere:Depth"]
    (score,) = known_metric("nowhere:Depth", quality.rows("nowhere:Depth")).scores
    assert score.of(quality.rows("nowhere:Depth")) == 0.375
    (table,) = quality_tables(Quality.model_validate_json(quality.model_dump_json()))
    assert table.rows == (("a", "7", "0.25"), ("b", "7", "0.5"))
