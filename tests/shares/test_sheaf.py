"""The learnt sheaf out of shares: what the report shows, and what it asks of the folder."""

import shutil
from pathlib import Path

import pytest
import torch

import sheafalign_fl as sf
from sheafalign_fl.errors import DataError
from sheafalign_fl.report import write_report
from sheafalign_fl.runs.reading import read_run
from sheafalign_fl.shares import sheaf as learnt
from sheafalign_fl.shares.sheaf import read_sheaf
from tests.shares.conftest import Recorded


def test_a_model_and_its_folder_hold_the_same_sheaf(recorded: Recorded) -> None:
    model = sf.load_model(recorded.path)
    found, read = model.sheaf(), read_sheaf(recorded.path)
    assert read is not None
    assert (found.clients, found.edges) == (read.clients, read.edges)
    for (client, neighbour), P in found.restrictions.items():
        assert torch.equal(P, read.restrictions[client, neighbour])
        h = torch.eye(P.shape[1])
        z = model[client].restrict(neighbour, h.numpy())
        torch.testing.assert_close(torch.from_numpy(z.copy()), h @ P.T)
    spectrum = found.spectrum()
    dims = sum(share.facts.dim for share in model.values())
    assert len(spectrum.values) == dims
    assert spectrum.harmonic >= dims - sum(edge.dim for edge in found.edges)


def test_without_a_neighbour_there_is_no_sheaf(recorded: Recorded, tmp_path: Path) -> None:
    shutil.copytree(recorded.path / "shares/imu", tmp_path / "shares/imu")
    assert read_sheaf(tmp_path) is None
    with pytest.raises(DataError, match=r"'imu' has the neighbour '.*', whose share is not here"):
        sf.load_model(tmp_path).sheaf()
    assert read_sheaf(tmp_path / "nothing") is None


def test_the_report_shows_it_where_it_is_and_where_it_is_not_goes_without(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report([recorded.path], tmp_path / "whole.html")
    text = (tmp_path / "whole.html").read_text()
    found = read_sheaf(recorded.path)
    assert found is not None
    spectrum = found.spectrum()
    assert f"has {spectrum.harmonic} of the {len(spectrum.values)} dimensions" in text
    assert "Spectrum of the sheaf Laplacian" in text
    assert read_run(recorded.path).settings.maps.family == "linear"
    monkeypatch.setattr(learnt, "_MOST_DIMS", 3)
    write_report([recorded.path], tmp_path / "large.html")
    assert "harmonic" not in (tmp_path / "large.html").read_text()
