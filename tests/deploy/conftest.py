"""Fixtures that several files of this folder share."""

from pathlib import Path

import pytest

from sheafalign_fl.deploy.issuing import init_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all keys of the clients camera and lidar."""
    folder = tmp_path_factory.mktemp("keys") / "keys"
    init_keys(folder, ["camera", "lidar"], [])
    return folder
