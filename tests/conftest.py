"""Fixtures that several test files share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.runs.folder import RunFolder
from strategies import server_app

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("random", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
"""The same examples in every run, so that a commit passes or fails once and for all; new ones are
looked for with HYPOTHESIS_PROFILE=random."""

MakeSettings = Callable[..., Settings]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: a file's may hold the time, and workers agree on names."""
    return argname if isinstance(val, bytes) else None


def toy_settings(**sections: Any) -> Settings:
    """Return small settings on the toy source; keyword arguments replace or extend sections.

    What the default method prescribes is left out: each test says itself which options it is
    about, and what is compared with joint training takes no step that joint training does not take.
    """
    content: dict[str, Any] = {
        "name": "toy",
        "engine": "inprocess",
        "data": {"source": "tests.toy:source"},
        "clients": {"m0": {"dim": 10}, "m1": {"dim": 12}, "m2": {"dim": 14}},
        "graph": {"topology": "complete", "dim": 8},
        # No term is 0, so that whatever is compared with an oracle is compared with all of them at
        # work.
        "objective": {
            "laplacian": 0.5,
            "reconstruction": 0.1,
            "cross_reconstruction": 0.3,
            "temperature": 0.3,
        },
        "training": {"exchanges": 6, "batch_size": 32},
        "evaluation": {"every": 0, "metrics": ["retrieval"]},
        "checkpoint": {"every": 0},
    }
    for name, value in sections.items():
        extends = isinstance(value, dict) and name not in ("clients", "data")
        content[name] = {**content.get(name, {}), **value} if extends else value
    return parse_settings(content, resolved=content.get("method", "sheafalign") == "sheafalign")


@pytest.fixture
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the runs' reports, which take longer to draw than a few exchanges to run."""
    monkeypatch.setattr(server_app, "draw_report", lambda _: None)


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[[Settings], RunFolder]:
    """Return a function that makes a run folder for settings."""
    count = iter(range(1000))

    def make(settings: Settings) -> RunFolder:
        folder = RunFolder(tmp_path / f"run-{next(count)}")
        folder.create(settings)
        return folder

    return make
