"""A run in a user's folder that has packages of our names in it."""

from pathlib import Path

import pytest

from tests.system.command import ROOT, sheafalign

OWN = '''"""The user's own clients, who buy things."""

raise RuntimeError("the user's shop was opened")
'''
SOURCE = '''"""The user's own data source."""

from tests.toy import source as toy


def source(modality, seed, **options):
    """Return toy data."""
    return toy(modality, seed, **options)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with `clients/`, `strategies.py`, a data source in `clients/`, and a run."""
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "__init__.py").write_text(OWN)
    (tmp_path / "clients" / "client_app.py").write_text(OWN)
    (tmp_path / "clients" / "my_source.py").write_text(SOURCE)
    (tmp_path / "strategies.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text(
        "data: {source: 'my_clients_data:source'}\nclients: {m0: {dim: 8}, m1: {dim: 8}}\n"
        "graph: {dim: 8}\ntraining: {exchanges: 2, batch_size: 32}\n"
        "evaluation: {every: 0, metrics: [retrieval]}\n"
    )
    (tmp_path / "my_clients_data.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.mark.slow
def test_the_inprocess_engine_runs_its_own_apps(folder: Path) -> None:
    done = sheafalign("run", "mine.yaml", "--engine", "inprocess", "--out", "run", "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "summary.json").is_file()


@pytest.mark.slow
def test_what_is_only_in_the_users_package_is_found_there(folder: Path) -> None:
    (folder / "clients" / "__init__.py").write_text('"""Nothing is sold here."""\n')
    done = sheafalign(
        "run", "mine.yaml", "--engine", "inprocess", "--out", "run", "-q",
        "--set", "data.source=clients.my_source:source", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_compare_runs_its_own_apps(folder: Path) -> None:
    done = sheafalign("compare", "mine.yaml", "--seeds", "0", "--quick", "--jobs", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "shop" not in done.stderr


@pytest.mark.slow
def test_the_default_engine_runs_its_own_apps(folder: Path) -> None:
    (folder / "clients" / "__init__.py").write_text('"""Nothing is sold here."""\n')
    done = sheafalign(
        "run", "mine.yaml", "--out", "run", "-q", "--set", "data.source=clients.my_source:source",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
