"""What a notebook does: names of the package, run, callbacks, tables, resume."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sheafalign_fl as sf
from sheafalign_fl.config import Settings
from sheafalign_fl.engines import inprocess
from sheafalign_fl.protocol.rows import AbsenceRow, EvaluationRow, ExchangeRow
from sheafalign_fl.runs.folder import RunFolder, read_rows
from sheafalign_fl.runs.ledger import read_ledger
from sheafalign_fl.runs.tables import Table
from tests.conftest import toy_settings

PUBLIC = {
    *("Callback", "Codec", "ConfigError", "DataError", "ModalityData", "Run", "RunError"),
    *("Settings", "SheafAlignError", "Table", "UserError", "__version__", "check", "resume"),
    *("load_model", "load_settings", "load_share", "read_run", "run", "save_arrays", "settings"),
}


class Heard(sf.Callback):
    """Remembers all that it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def on_start(self, settings: Settings, folder: Path) -> None:
        self.calls.append(("start", folder))

    def on_exchange(self, row: ExchangeRow) -> None:
        self.calls.append(("exchange", row.exchange))

    def on_evaluation(self, row: EvaluationRow) -> None:
        self.calls.append(("evaluation", row.exchange))

    def on_absence(self, row: AbsenceRow) -> None:
        self.calls.append(("absence", row.client))

    def on_end(self, run: sf.Run) -> None:
        self.calls.append(("end", run.done))


class Broken(sf.Callback):
    def on_exchange(self, row: ExchangeRow) -> None:
        raise RuntimeError(f"no disk for exchange {row.exchange}")


def test_the_public_names_are_these() -> None:
    assert sorted(sf.__all__) == sorted(PUBLIC)
    assert set(dir(sf)) == PUBLIC
    for name in PUBLIC:
        assert getattr(sf, name) is not None


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        sf.runn  # noqa: B018


def test_importing_the_package_loads_neither_torch_nor_flower() -> None:
    code = (
        "import sys, sheafalign_fl; print({'torch', 'flwr', 'ray', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.usefixtures("no_reports")
def test_a_run_tells_its_callbacks_everything_in_order(tmp_path: Path) -> None:
    heard = Heard()
    changed = {"exchanges": 4, "batch_size": 32}
    sf.run(
        toy_settings(),
        tmp_path / "run",
        [heard],
        training=changed,
        evaluation={"every": 2, "metrics": ["retrieval"]},
    )
    rows = [(row["kind"], row["exchange"]) for row in read_rows(tmp_path / "run/metrics.jsonl")]
    assert [kind for kind, _ in rows].count("evaluation") == 3
    assert heard.calls == [("start", tmp_path / "run"), *rows, ("end", 4)]


@pytest.mark.usefixtures("no_reports")
def test_a_callback_that_raises_is_named_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    run = sf.run(toy_settings(), tmp_path / "run", [Broken(), heard])
    assert run.done == 6
    assert ("exchange", 5) in heard.calls
    told = [record.getMessage() for record in caplog.records if "callback" in record.getMessage()]
    assert told == [
        "the callback Broken.on_exchange raised RuntimeError: no disk for exchange 0; "
        "it is not called again"
    ]


@pytest.mark.usefixtures("no_reports")
def test_tables_hold_what_the_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheafalign_fl.runs.tables.importlib.util.find_spec", lambda _: None)
    run = sf.run(toy_settings(evaluation={"every": 3}), tmp_path / "run")
    exchanges = [row for row in read_rows(run.path / "metrics.jsonl") if row["kind"] == "exchange"]
    assert len(run.losses) == sum(len(row["losses"]) for row in exchanges) * 5
    one = run.losses.where(exchange=2, source="m0", target="m1", term="contrastive")["value"]
    loss = next(x for x in exchanges[2]["losses"] if (x["source"], x["target"]) == ("m0", "m1"))
    assert one == [loss["contrastive"]]
    assert [dict(row) for row in run.ledger] == [
        vars(row) for row in read_ledger(run.path / "ledger.csv")
    ]
    assert run.summary is not None
    final = run.metrics.where(exchange=6, split="test", field="recall_at_10")
    assert final["value"] == [row.recall_at_10 for row in run.summary.quality.retrieval]
    assert set(run.metrics["split"]) == {"validation", "test"}


def test_a_table_is_columns_and_rows() -> None:
    table = Table(("a", "b"), [(1, "x"), (2, "y"), (3, "x")])
    assert table["b"] == ["x", "y", "x"]
    assert table[-1] == {"a": 3, "b": "x"}
    assert table[1:]["a"] == [2, 3]
    assert table.where(b="x")["a"] == [1, 3]
    assert [row["a"] for row in table] == [1, 2, 3]
    with pytest.raises(ValueError, match="not in tuple"):
        table["c"]


def test_arrays_in_memory_are_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(300, 4))
    data = sf.save_arrays(
        tmp_path / "arrays",
        {"a": shared @ rng.normal(size=(4, 6)), "b": shared @ rng.normal(size=(4, 5))},
        labels=(shared[:, 0] > 0).astype(int),
    )
    checked = sf.check({"data": data, "clients": ["a", "b"]}, training={"batch_size": 32})
    assert checked.settings.engine == "inprocess"
    assert sum(len(ids) for ids in checked.manifests["a"].events.values()) == 300
    assert checked.agreement.all_labels() == ("label",)


@pytest.mark.parametrize(
    ("modalities", "extra", "message"),
    [
        ({"a": np.zeros((3, 2))}, {}, "two modalities"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, {}, r"'b' has shape \(4, 2\)"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((3, 2))}, {"labels": [1, 2]}, "'label' has shape"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((3, 2))}, {"split": "test"}, "'split' has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_named_and_nothing_is_written(
    modalities: dict[str, Any], extra: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(sf.DataError, match=message):
        sf.save_arrays(tmp_path / "arrays", modalities, **extra)
    assert not (tmp_path / "arrays").exists()


def test_changes_lie_over_a_file_and_its_method(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("clients: [a, b]\ntraining: {exchanges: 9, batch_size: 8}\n", encoding="utf-8")
    changed = sf.settings(file, method="paper", training={"exchanges": 3}, seed=4)
    assert (changed.training.exchanges, changed.training.batch_size, changed.seed) == (3, 8, 4)
    assert changed.objective.laplacian == 1.0
    assert changed.engine == "flower"


@pytest.mark.usefixtures("no_reports")
def test_a_run_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    whole = sf.run(toy_settings(checkpoint={"every": 2}), tmp_path / "whole")
    settings = toy_settings(checkpoint={"every": 2})
    folder = RunFolder(tmp_path / "cut")
    folder.create(settings)
    inprocess.run_inprocess(settings, folder)
    folder.summary.unlink()
    folder.set_status("interrupted")
    for late in (folder.checkpoint_dir(6),):
        (late / "relay.json").unlink()
    heard = Heard()
    again = sf.resume(tmp_path / "cut", [heard])
    assert whole.summary is not None
    assert again.summary is not None
    assert again.summary.weights_digest == whole.summary.weights_digest
    assert heard.calls[-1] == ("end", 6)


def test_a_report_that_cannot_be_drawn_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("sheafalign_fl.report.html.write_report", fails)
    run = sf.run(toy_settings(), tmp_path / "run")
    assert run.summary is not None
    assert run.status["state"] == "completed"
    assert "RuntimeError: no font" in caplog.text
