"""What other programs leave in folders is neither read, nor counted, nor in the way."""

import ast
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheafalign_fl.data.inspection import inspect
from sheafalign_fl.data.registry import load_modality
from sheafalign_fl.deploy.issuing import init_keys
from sheafalign_fl.deploy.keys import load_relay_keys
from sheafalign_fl.listing import is_free, listed, remove_free
from sheafalign_fl.runs.folder import RunFolder
from tests.data.mmfi_files import write_mmfi
from tests.data.utd_mhad_files import write_utd_mhad

ROOT = Path(__file__).resolve().parents[2]
LISTING = {"listdir", "scandir", "glob", "iglob", "rglob", "iterdir", "walk", "fwalk"}
"""Functions and methods that list folders."""
NOT_THROUGH_LISTED = {
    "src/sheafalign_fl/listing.py": "is where folders are listed, and litter is looked for",
    "src/sheafalign_fl/data/registry.py": "stamps thousands of files by scandir, by is_foreign too",
    "src/sheafalign_fl/deploy/doctor.py:_private": "hidden files can be read by others as well",
    "src/sheafalign_fl/runs/folder.py:complete_checkpoint": "removes whatever is there",
    "experiments/structure.py": "counts files of a checkout of ours",
}
"""File, or function of it, that lists a folder by itself -> why."""
LITTER = ("._{}", ".{}.swp", ".DS_Store", "Thumbs.db", "desktop.ini")
FOLDERS = (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git")


def litter(root: Path) -> None:
    """Put beside every file what other programs write, some under names that loaders look for."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        for name in LITTER:
            (path.parent / name.format(path.name)).write_bytes(b"\x00\x05\x16\x07 not yours")
        for folder in FOLDERS:
            (path.parent / folder).mkdir(exist_ok=True)
            shutil.copy(path, path.parent / folder / path.name)


def own(root: Path) -> Path:
    rng = np.random.default_rng(0)
    root.mkdir()
    for name in ("camera", "lidar"):
        np.savez(
            root / f"{name}.npz",
            x=rng.normal(size=(40, 3)),
            event_id=np.arange(40),
            label=np.where(np.arange(40) % 2, "odd", "even"),
        )
    return root


MAKERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "folder": (own, "camera"),
    "mmfi": (lambda root: write_mmfi(root, modalities=("rgb", "csi"), frames=10), "csi"),
    "utd-mhad": (lambda root: write_utd_mhad(root, modalities=("inertial",)), "inertial"),
}


def listings(tree: ast.AST, function: str = "") -> Iterator[tuple[str, str]]:
    """Yield the function and the call of all that lists a folder, whoever's module it is of."""
    for node in ast.iter_child_nodes(tree):
        inner = node.name if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.rpartition(".")[2] in LISTING and called != "ast.walk":
                yield inner, called
        yield from listings(node, inner)


def test_this_file_sees_every_kind_of_listing() -> None:
    source = """
from glob import iglob
def one(folder):
    return [path for path in sorted(folder.glob("*"))], os.walk(folder), ast.walk(folder)
class Two:
    def three(self): return {name for name in iglob(self.folder)}
"""
    found = list(listings(ast.parse(source)))
    assert found == [("one", "folder.glob"), ("one", "os.walk"), ("three", "iglob")]


def test_whatever_lists_a_folder_lists_it_without_litter() -> None:
    found = set()
    for package in ("src", "clients", "strategies", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            for function, _ in listings(ast.parse(path.read_text(encoding="utf-8"))):
                found.add(name if name in NOT_THROUGH_LISTED else f"{name}:{function}")
    assert found == set(NOT_THROUGH_LISTED)


@pytest.mark.parametrize("source", MAKERS)
def test_loaders_read_what_they_would_read_without_it(source: str, tmp_path: Path) -> None:
    make, modality = MAKERS[source]
    folder = make(tmp_path / "data")
    options = {"path": str(folder)} | ({} if source == "folder" else {"cache": False})
    clean = load_modality(source, modality, 0, options, "test")
    before = inspect(folder, {})
    litter(folder)
    littered = load_modality(source, modality, 0, options, "test")
    np.testing.assert_array_equal(littered.event_ids, clean.event_ids)
    np.testing.assert_array_equal(littered.x, clean.x)
    assert littered.labels.keys() == clean.labels.keys()
    after = inspect(folder, {})
    assert after.source == before.source == source
    assert after.modalities.keys() == before.modalities.keys()
    assert not after.problems


@given(
    names=st.lists(
        st.text(st.characters(codec="ascii", exclude_characters="/\x00*?[]"), min_size=1).filter(
            lambda name: name not in (".", "..")
        ),
        max_size=4,
        unique_by=str.casefold,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_all_but_hidden_and_known_names_are_listed(names: list[str], tmp_path: Path) -> None:
    root = tmp_path / "many"
    shutil.rmtree(root, ignore_errors=True)
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "a.csv").touch()
    known = {"thumbs.db", "__macosx", "desktop.ini", "lost+found", "@eadir", "$recycle.bin"}
    expected = {
        name
        for name in names
        if not name.startswith(".") and name.lower() not in {*known, "icon\r"}
    }
    assert [path.name for path in listed(root)] == sorted(expected)
    assert {path.parent.name for path in listed(root, "*/*.csv")} == expected


def test_a_folder_below_a_hidden_one_is_listed(tmp_path: Path) -> None:
    place = tmp_path / ".local" / "share"
    place.mkdir(parents=True)
    (place / "a.npz").touch()
    assert listed(place, "*.npz") == [place / "a.npz"]
    assert listed(tmp_path, "**/*.npz") == []
    assert listed(tmp_path / "absent") == []


def test_a_folder_with_litter_alone_is_free(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert is_free(folder)
    folder.mkdir()
    (folder / ".DS_Store").touch()
    (folder / "._a").touch()
    assert is_free(folder)
    (folder / ".git").mkdir()  # nobody's litter
    assert not is_free(folder)
    with pytest.raises(OSError, match="not empty"):
        remove_free(folder)
    (folder / ".git").rmdir()
    remove_free(folder)
    assert not folder.exists()
    folder.touch()
    assert not is_free(folder)


def test_keys_are_made_over_litter_and_read_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / ".DS_Store").touch()
    init_keys(folder, ["camera", "lidar"], ["localhost"])
    for place in (folder / "relay" / "clients", folder / "relay"):
        (place / "._camera.pub").write_bytes(b"\x00")
    assert set(load_relay_keys(folder / "relay").clients) == {"camera", "lidar"}


def test_a_run_folder_may_have_litter(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    place = folder.checkpoints / ".ipynb_checkpoints"
    place.mkdir(parents=True)
    (place / "relay.json").write_text("{}")
    assert folder.last_checkpoint() is None
