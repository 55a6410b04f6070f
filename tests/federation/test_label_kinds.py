"""Labels that are values, or several an event: measured by what can use them, told by the rest."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sheafalign_fl.cli.listings import print_checked
from sheafalign_fl.config import Settings
from sheafalign_fl.data.base import ModalityData
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.errors import DataError
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.runs.folder import RunFolder
from sheafalign_fl.seeding import numpy_generator
from tests import toy
from tests.conftest import toy_settings
from tests.metrics import oracle

MEASURED = ["retrieval", "transfer", "probe", "missing"]


def source(modality: str, seed: int, **options: Any) -> ModalityData:
    """Return the toy data; option `kind` says what its one label is, `odd` whose is a class."""
    kind = "classes" if options.pop("odd", None) == modality else options.pop("kind")
    data = toy.source(modality, seed, **options)
    latent = numpy_generator(seed, "toy").normal(size=(400, 5))
    several = np.stack([latent[:, 0] > 0, latent[:, 1] > 0.5, latent[:, 2] > -1], axis=1)
    label: np.ndarray[Any, Any] = {
        "values": 20 + 5 * latent[:, 0] - latent[:, 1],
        "multi": several.astype(np.int64),
        "classes": several[:, 0].astype(np.int64),
    }[kind]
    if kind != "classes":
        label[::9] = np.nan if kind == "values" else -1
    rows = (data.event_ids - 3) // 7
    return replace(data, labels={"target": label[rows]}, classes={})


def settings_of(kind: str, rate: float = 1e-3, **options: Any) -> Settings:
    copying = {f"m{k}": {"dim": 6 + k, "encoder": "tests.toy:copying_encoder"} for k in range(3)}
    return toy_settings(
        data={"source": f"{__name__}:source", "options": {"kind": kind, **options}},
        clients=copying,
        training={"exchanges": 12, "batch_size": 32, "learning_rate": rate},
        evaluation={"every": 0, "metrics": MEASURED},
    )


def measured(settings: Settings, run_folder: Callable[[Settings], RunFolder]) -> Quality:
    run_inprocess(settings, folder := run_folder(settings))
    return folder.load_summary().quality


def test_values_are_probed_by_ridge_regression(
    run_folder: Callable[[Settings], RunFolder], caplog: pytest.LogCaptureFixture
) -> None:
    found = measured(settings := settings_of("values"), run_folder)
    assert "transfer need classes, so they are not measured: the label 'target' is values" in (
        caplog.text
    )
    assert found.transfer == ()
    assert all(row.mean_average_precision is None for row in found.retrieval)
    assert [row.missing for row in found.missing] == [0, 1, 2]
    for row in found.probe:
        data = client_data(row.client, settings)
        known = np.isfinite(data.labels["target"])
        assert row.accuracy is None
        assert row.events == int((known & (data.split == 2)).sum())
        assert row.mae is not None
        assert row.mae_of_mean is not None
        truth = data.labels["target"][known & (data.split == 2)]
        mean = data.labels["target"][known & (data.split == 0)].mean()
        assert row.mae_of_mean == pytest.approx(np.abs(truth - mean).mean(), rel=1e-6)
        assert row.mae < row.mae_of_mean
    whole, one, two = found.missing
    for missing in (whole, one, two):
        assert missing.ridge is not None
        assert missing.mae is not None
    assert (whole.ridge or 0) > (one.ridge or 0) > one.mean_fill
    assert (two.mae or 0) > (whole.mae or 0)


def test_a_probe_of_values_is_the_fit_on_the_rows(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    """Encoders that copy stay what they are where steps are too small to move them."""
    settings = settings_of("values", rate=1e-30)
    for row in measured(settings, run_folder).probe:
        data = client_data(row.client, settings)
        known = np.isfinite(data.labels["target"])
        fit, test = known & (data.split == 0), known & (data.split == 2)
        x, y = data.x.astype(float), data.labels["target"]
        x = (x - x[fit].mean(axis=0)) / x[fit].std(axis=0)
        answers = oracle.ridge(x[fit], y[fit][:, None], x[test])[:, 0]
        assert row.mae == pytest.approx(np.abs(answers - y[test]).mean(), rel=1e-4)
        left = np.square(answers - y[test]).sum() / np.square(y[test] - y[test].mean()).sum()
        assert row.r2 == pytest.approx(1 - left, rel=1e-4)


def test_several_labels_an_event_are_probed_each(
    run_folder: Callable[[Settings], RunFolder],
) -> None:
    settings = settings_of("multi")
    found = measured(settings, run_folder)
    assert found.transfer == ()
    for row in found.probe:
        data = client_data(row.client, settings)
        labels = data.labels["target"]
        known = (labels >= 0).all(axis=1)
        fit, test = labels[known & (data.split == 0)], labels[known & (data.split == 2)]
        always = (fit.mean(axis=0) > 0.5).astype(int)
        assert row.majority == pytest.approx((test == always).mean())
        assert row.accuracy is not None
        assert row.accuracy > float((test == always).mean())
        assert row.f1 is not None
        assert 0.5 < row.f1 <= 1.0
    assert found.missing[0].ridge == found.missing[0].imputed
    assert (found.missing[1].ridge or 0) > found.missing[1].mean_fill - 0.02


def test_check_says_in_one_line_what_is_skipped_and_why() -> None:
    checked = check(settings_of("multi"))
    told = checked.agreement.why_not_measured(MEASURED)
    assert told == (
        "transfer need classes, so they are not measured: the label 'target' is 3 labels an event"
    )
    console = Console(file=StringIO(), width=200)
    print_checked(checked, console)
    assert f"note: {told}" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_label_that_two_clients_mean_otherwise_is_refused() -> None:
    with pytest.raises(DataError, match="'target' is values for client 'm0' but classes for"):
        check(settings_of("values", odd="m1"))
