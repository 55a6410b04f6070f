"""What earlier versions wrote is read, resumed or refused with a reason (docs/compatibility.md).

``tests/data_files/run_7bb4eeb`` is a whole run of commit 7bb4eeb, with its checkpoint half way.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

import sheafalign_fl as sf
from sheafalign_fl.config import Settings
from sheafalign_fl.config.digest import LATER
from sheafalign_fl.config.schema import ObjectiveSettings, TrainingSettings
from sheafalign_fl.engines.launch import resume
from sheafalign_fl.errors import DataError, RunError
from sheafalign_fl.report import write_report
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.runs.ledger import read_ledger
from sheafalign_fl.runs.reading import read_run
from tests.conftest import toy_settings

FILES = Path(__file__).parents[1] / "data_files"
OLD = FILES / "run_7bb4eeb"
FIRST_SETTINGS = FILES / "settings_7bb4eeb.json"
"""Dotted name -> default of every setting of commit 7bb4eeb."""


@pytest.fixture
def old(tmp_path: Path) -> RunFolder:
    shutil.copytree(OLD, tmp_path / "old")
    return RunFolder(tmp_path / "old")


def said(old: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(old.summary.read_text(encoding="utf-8"))
    return content


def test_a_run_of_schema_version_1_is_read(old: RunFolder) -> None:
    raw, run = said(old), sf.read_run(old.path)
    assert raw["schema_version"] == 1
    assert run.summary is not None
    assert run.done == raw["exchanges"] == 4
    assert run.summary.weights_digest == raw["weights_digest"]
    recalls = [row.recall_at_1 for row in run.summary.quality.retrieval]
    assert recalls == [row["recall_at_1"] for row in raw["quality"]["retrieval"]]
    # The ledger's rows, added up by this version, are the totals that the old one wrote.
    assert {row.model_dump_json() for row in run.traffic} == {
        json.dumps(row, separators=(",", ":")) for row in raw["bytes"]
    }
    assert len(list(read_ledger(old.ledger))) == run.ledger_rows > 0
    assert [point.exchange for point in run.exchanges] == [0, 1, 2, 3]
    lines = old.metrics.read_text(encoding="utf-8").splitlines()
    rows = [row for line in lines if (row := json.loads(line))["kind"] == "exchange"]
    for point, row in zip(run.exchanges, rows, strict=True):
        totals = [loss["total"] for loss in row["losses"]]
        assert point.losses["total"] == pytest.approx(sum(totals) / len(totals))


def test_a_report_of_it_is_drawn(old: RunFolder) -> None:
    write_report([old.path], old.report)
    content = old.report.read_text(encoding="utf-8")
    assert said(old)["config_digest"] in content
    assert "add up to exactly the totals of the summary" in content


def test_a_configuration_of_before_keeps_its_digest(old: RunFolder) -> None:
    """Fails where a new setting changes the digest of every configuration of before."""
    assert old.settings().digest() == said(old)["config_digest"]


def defaults(model: type[BaseModel], within: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted name and the default of every setting, those of sections among them."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        sections = [
            kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if sections:
            yield from defaults(sections[0], f"{within}{name}.")
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            yield f"{within}{name}", json.loads(json.dumps(default))


def test_settings_that_the_first_version_did_not_have_are_listed_as_later() -> None:
    """Fails where a new setting is forgotten, one is taken away, or a default is changed."""
    first = json.loads(FIRST_SETTINGS.read_text(encoding="utf-8"))
    now = dict(defaults(Settings))
    assert {name: now[name] for name in first} == first
    added = now.keys() - first.keys()
    # Of these the digest has nothing, then and now.
    machines_own = {name for name in added if name.startswith(("checkpoint.", "resources."))}
    assert added - machines_own - {"data.path"} == LATER


@pytest.mark.parametrize("model", [ObjectiveSettings, TrainingSettings])
def test_what_was_added_since_counts_where_it_is_set(
    model: type[ObjectiveSettings | TrainingSettings], old: RunFolder
) -> None:
    section = "objective" if model is ObjectiveSettings else "training"
    written = yaml.safe_load(old.config.read_text(encoding="utf-8"))
    other: dict[str, Any] = {
        "false_negatives": "mask", "terms": {"tests.toy:own_term": 0.5}, "replay": 2,
        "replay_batches": 3, "clip": 1.0, "min_clients": 2,
    }  # fmt: skip
    digests = [old.settings().digest()]
    for name in set(model.model_fields) - set(written[section]):
        changed = model.model_validate({name: other.get(name, 0.3)})
        value = getattr(old.settings(), section).model_copy(update={name: getattr(changed, name)})
        digests.append(old.settings().model_copy(update={section: value}).digest())
    assert len(digests) == len(set(digests)) > 4


def test_an_old_checkpoint_goes_on_to_the_weights_that_the_old_version_had(
    old: RunFolder, no_reports: None
) -> None:
    finished = said(old)
    old.summary.unlink()
    old.set_status("interrupted", "stopped by the user")
    checkpoint = old.last_checkpoint()
    assert checkpoint is not None
    assert checkpoint.exchange == 2
    summary = resume(old.path)
    assert summary.resumed == 1
    assert summary.weights_digest == finished["weights_digest"]
    training = [row for row in finished["bytes"] if row["purpose"] == "train"]
    edges = {(row["source"], row["target"]): row["payload_bytes"] for row in training}
    assert edges == {
        (row.source, row.target): row.payload_bytes
        for row in summary.bytes
        if row.purpose == "train"
    }


def test_a_newer_summary_is_refused_with_its_reason(old: RunFolder) -> None:
    old.summary.write_text(
        json.dumps({**said(old), "schema_version": 2, "something": 1}), encoding="utf-8"
    )
    readers: tuple[Callable[[], object], ...] = (
        lambda: read_run(old.path),
        old.load_summary,
        lambda: write_report([old.path], old.report),
    )
    for reader in readers:
        with pytest.raises(DataError, match=r"its schema version is 2, .* reads up to 1"):
            reader()


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"schema_version": "x"}', "{", "\udcff"])
def test_a_damaged_summary_is_no_newer_one(content: str, old: RunFolder) -> None:
    old.summary.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match="damaged") as caught:
        read_run(old.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"format": 2, "else": 1}, "is of checkpoint format 2, .* reads up to 1"),
        ({"exchange": 2}, "is damaged"),
        ([], "is damaged"),
        ("x", "is damaged"),
    ],
)
def test_a_checkpoint_that_is_not_understood_is_refused_with_its_reason(
    content: object, reason: str, old: RunFolder
) -> None:
    old.summary.unlink()
    old.set_status("interrupted")
    path = old.checkpoint_dir(2) / "relay.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=reason) as caught:
        resume(old.path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_says_its_format(
    run_folder: Callable[[Settings], RunFolder], old: RunFolder
) -> None:
    folder = run_folder(toy_settings())
    checkpoint = old.last_checkpoint()
    assert checkpoint is not None
    folder.complete_checkpoint(checkpoint, keep=1)
    written = json.loads((folder.checkpoint_dir(2) / "relay.json").read_text(encoding="utf-8"))
    assert written["format"] == 1
    assert folder.last_checkpoint() == checkpoint
