"""Without labels a run measures what needs none, and says what it leaves out."""

import logging
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from sheafalign_fl.cli.listings import print_checked
from sheafalign_fl.config import Settings
from sheafalign_fl.config.schema import METRICS
from sheafalign_fl.engines.check import check
from sheafalign_fl.engines.inprocess import run_inprocess
from sheafalign_fl.report.tables import print_summary
from sheafalign_fl.runs.folder import RunFolder
from tests.conftest import toy_settings
from tests.federation.runs import SMALL


def printed(function: Callable[..., None], content: Any) -> str:
    console = Console(file=StringIO(), width=200)
    function(content, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_run_without_labels_measures_what_needs_none_and_says_so(
    run_folder: Callable[[Settings], RunFolder], caplog: pytest.LogCaptureFixture
) -> None:
    settings = toy_settings(
        data={"source": "tests.toy:trio", "options": {"bare": ["ab", "bc"]}},
        clients={"ab": SMALL, "bc": SMALL},
        evaluation={"metrics": METRICS},
        training={"exchanges": 3},
    )
    left_out = "transfer, probe, missing"
    assert f"no client has labels, so {left_out} are not measured" in printed(
        print_checked, check(settings)
    )
    with caplog.at_level(logging.WARNING, "sheafalign.relay"):
        run_inprocess(settings, folder := run_folder(settings))
    summary = folder.load_summary()
    quality = summary.quality
    assert len(quality.retrieval) == 2
    assert len(quality.consistency) == 1
    assert (quality.transfer, quality.probe, quality.missing) == ((), (), ())
    assert f"no client has labels, so {left_out} are not measured" in caplog.text
    assert f"No client has labels, so {left_out} are not measured" in printed(
        print_summary, summary
    )
