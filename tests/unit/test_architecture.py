"""The rules of ARCHITECTURE.md, read off the code."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "src" / "sheafalign_fl"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def offenders(paths: list[Path], forbidden: set[str]) -> list[str]:
    found = [(path, name) for path in paths for name in imports(path)]
    return [f"{path.relative_to(ROOT)}: {name}" for path, name in found if name.split(".")[0] in forbidden]


def test_only_one_package_of_the_library_imports_flower() -> None:
    paths = [path for path in files(LIBRARY) if LIBRARY / "flower" not in path.parents]
    assert offenders(paths, {"flwr", "ray"}) == []
    assert offenders(files(LIBRARY / "flower"), {"flwr"})


def test_imports_point_one_way() -> None:
    assert offenders(files(LIBRARY), {"clients", "strategies", "experiments", "tests"}) == []
    assert offenders(files(ROOT / "clients"), {"strategies", "experiments", "tests"}) == []
    assert offenders(files(ROOT / "strategies"), {"clients", "experiments", "tests"}) == []
    assert offenders(files(ROOT / "experiments"), {"tests"}) == []


def test_no_file_is_called_utils() -> None:
    everything = files(LIBRARY, ROOT / "clients", ROOT / "strategies", ROOT / "experiments", ROOT / "tests")
    assert not [path for path in everything if path.stem in {"utils", "helpers", "misc", "common"}]


@pytest.mark.parametrize("path", files(ROOT / "tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_is_defined_twice(path: Path) -> None:
    names = Counter(
        node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    )
    assert [name for name, count in names.items() if count > 1] == []
