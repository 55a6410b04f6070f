"""The rules of ARCHITECTURE.md, read off the code; relative and delayed imports count too."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "sheafalign_fl": ROOT / "src",
    "clients": ROOT,
    "strategies": ROOT,
    "experiments": ROOT,
    "tests": ROOT,
}
"""Top-level package -> the folder that it lies in."""
ALLOWED = {
    "sheafalign_fl": {"sheafalign_fl"},
    "clients": {"sheafalign_fl", "clients"},
    "strategies": {"sheafalign_fl", "strategies"},
    "experiments": {"sheafalign_fl", "clients", "strategies", "experiments"},
}
"""Package -> the packages of this repository that it may import.

library <- clients, strategies <- experiments.
"""
PICTURE = re.search(
    r"## The library: rooms and floors.*?```\n(.*?)```",
    (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


def _floors() -> tuple[frozenset[str], ...]:
    """Return the names on each line of the picture, up to the gap before what they are for."""
    lines = PICTURE[1].splitlines() if PICTURE is not None else []
    names = (re.split(r" {2,}", line.strip())[0] for line in reversed(lines))
    return tuple(frozenset(re.split(r"[ ,]+", name.replace("/", ""))) for name in names)


FLOORS = _floors()
"""The rooms of the library from the ground up, as ARCHITECTURE.md draws them."""
FILES = {package: sorted((folder / package).rglob("*.py")) for package, folder in FOLDERS.items()}


def module_name(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Yield the full name of all that is imported in `tree`, ``from x import y`` as x and x.y."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(path: Path, root: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return set(imported(tree, module_name(path, root), path.name == "__init__.py"))


def top(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import flwr", {"flwr"}),
        ("import ray.util as x", {"ray.util"}),
        ("def f():\n    from flwr.app import Message", {"flwr.app", "flwr.app.Message"}),
        ("from . import b", {"p.q", "p.q.b"}),
        ("from .b import c", {"p.q.b", "p.q.b.c"}),
        ("from .. import clients", {"p", "p.clients"}),
        ("if TYPE_CHECKING:\n    import strategies", {"strategies"}),
    ],
)
def test_this_file_sees_every_kind_of_import(source: str, expected: set[str]) -> None:
    assert set(imported(ast.parse(source), "p.q.a", is_package=False)) == expected


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_between_packages_point_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES[package]
        for name in sorted(imports_of(path, FOLDERS[package]))
        if top(name) in FOLDERS and top(name) not in ALLOWED[package]
    ]
    assert wrong == []


def floor_of(name: str) -> int:
    """Return the floor of a module of the library; its root package is the roof."""
    room = name.split(".")[1] if "." in name else ""
    found = [index for index, rooms in enumerate(FLOORS) if room in rooms]
    return found[0] if found else len(FLOORS)


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def library_modules() -> dict[str, Path]:
    root = ROOT / "src"
    return {module_name(path, root): path for path in FILES["sheafalign_fl"]}


def test_every_room_of_the_library_has_a_floor() -> None:
    rooms = {room_of(name) for name in library_modules()} - {""}
    assert rooms == set().union(*FLOORS)
    assert len(rooms) == sum(map(len, FLOORS))


def test_no_arrow_runs_back_up() -> None:
    """Delayed imports count too: a lower floor must not even wait for a higher one."""
    modules = library_modules()
    wrong = [
        f"{name} imports {found}"
        for name, path in modules.items()
        for found in sorted(imports_of(path, ROOT / "src") & modules.keys())
        if floor_of(found) > floor_of(name)
        if not (found == "sheafalign_fl" and floor_of(name) < len(FLOORS))
    ]
    assert wrong == []


def test_folders_on_one_floor_do_not_know_each_other() -> None:
    modules = library_modules()
    folders = {room_of(name) for name, path in modules.items() if path.name == "__init__.py"}
    wrong = [
        f"{name} imports {found}"
        for name, path in modules.items()
        for found in sorted(imports_of(path, ROOT / "src") & modules.keys())
        if floor_of(found) == floor_of(name) and room_of(found) != room_of(name)
        if {room_of(found), room_of(name)} <= folders - {""}
    ]
    assert wrong == []


NAMED_ONE_BY_ONE = (
    *("protocol", "learner", "runs", "report", "flower", "engines", "deploy", "benchmark", "cli"),
    *("clients", "strategies"),
)
"""Rooms whose files the map of the code names, each in the row of its room."""


@pytest.mark.parametrize("room", NAMED_ONE_BY_ONE)
def test_the_map_names_every_file_of_a_room_and_no_other(room: str) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{room}/`[^|]*\|(.*)\|$", text, re.MULTILINE)
    assert row is not None
    named = set(re.findall(r"`([a-z_]+)`", row[1])) - {"sheafalign"}
    folder = ROOT / room if room in FOLDERS else ROOT / "src/sheafalign_fl" / room
    assert named == {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}


def test_every_path_that_the_map_names_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"(?<![\w/.])(?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|md)", text))
    rooms = (ROOT, ROOT / "src/sheafalign_fl")
    assert len(paths) > 30
    assert [path for path in paths if not any((room / path).is_file() for room in rooms)] == []


def test_flower_is_imported_by_rooms_that_run_federations_alone() -> None:
    users = {
        room_of(module_name(path, ROOT / "src"))
        for path in FILES["sheafalign_fl"]
        for name in imports_of(path, ROOT / "src")
        if top(name) in {"flwr", "ray"}
    }
    assert users == {"flower", "engines", "deploy"}


def test_what_is_not_public_in_flower_is_imported_in_one_room() -> None:
    public = {"flwr", "flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.app.user_config"}
    wrong = [
        f"{name} imports {found}"
        for name, path in library_modules().items()
        for found in sorted(imports_of(path, ROOT / "src"))
        if top(found) == "flwr" and room_of(name) != "flower"
        if found not in public and found.rpartition(".")[0] not in public
    ]
    assert wrong == []


def test_no_two_modules_of_the_library_import_each_other() -> None:
    """Imports at the top of a module; a delayed import inside a function may close a circle."""
    root = ROOT / "src"
    names = {module_name(path, root): path for path in FILES["sheafalign_fl"]}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        tree = ast.Module(
            [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)], []
        )
        graph[name] = {
            found for found in imported(tree, name, path.name == "__init__.py") if found in names
        } - {name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for following in sorted(graph[name]):
                # A package's __init__ gathers its modules; that they lie in it is no circle.
                if not name.startswith(f"{following}."):
                    visit(following, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_no_file_has_a_name_that_says_nothing() -> None:
    paths = [path for files in FILES.values() for path in files]
    assert [
        path
        for path in paths
        if path.stem in {"util", "utils", "helper", "helpers", "misc", "common"}
    ] == []


def functions(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every function and method, those inside others too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        name = getattr(node, "name", "")
        yield from functions(node, f"{prefix}{name}." if name else prefix)


TEST_FILES = [path for path in FILES["tests"] if path.name.startswith("test_")]


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_test_file_has_tests_and_none_of_them_hides_another(path: Path) -> None:
    names = [
        name
        for name in functions(ast.parse(path.read_text(encoding="utf-8")))
        if "test" in name.split(".")[-1]
    ]
    tests = Counter(name for name in names if name.split(".")[-1].startswith("test_"))
    assert tests
    assert [name for name, count in tests.items() if count > 1] == []
