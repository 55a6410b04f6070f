"""Simulated scenes in the format of DeepSense 6G, written once.

Prepared arrays are kept in each test's own folder.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sheafalign_fl.data.export import VARIANTS, export_deepsense6g
from tests.data.deepsense_files import SIZES

CopyExport = Callable[[str], Path]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for each variant; not to be changed."""
    root = tmp_path_factory.mktemp("deepsense6g")
    for variant in VARIANTS:
        events, frames = SIZES[variant]
        export_deepsense6g(
            root / variant, events=events, frames=frames, variant=variant, light=True
        )
    return root


@pytest.fixture
def copied(exports: Path, tmp_path: Path) -> CopyExport:
    """Return a function that copies a variant's folder, to be changed."""

    def copy(variant: str) -> Path:
        return Path(shutil.copytree(exports / variant, tmp_path / variant))

    return copy


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
