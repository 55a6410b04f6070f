"""What is used of Flower that is not public: whoever moves it fails here, by name."""

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "src" / "sheafalign_fl" / "flower"
PUBLIC = {"flwr", "flwr.app", "flwr.clientapp", "flwr.serverapp"}


def by_name(tree: ast.AST) -> dict[str, str]:
    """Return variable -> module of Flower's, for ``x = importlib.import_module("flwr...")``."""
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign([ast.Name(variable)], ast.Call(_, [ast.Constant(str(module))])):
                if module.startswith("flwr."):
                    found[variable] = module
    return found


def names_in(tree: ast.AST) -> set[str]:
    """Return ``module:name`` of all that a file imports of Flower, or uses of its modules."""
    modules = by_name(tree)
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(str(module), aliases) if module.split(".")[0] == "flwr":
                found |= {f"{module}:{alias.name}" for alias in aliases}
            case ast.Attribute(ast.Name(variable), name) if variable in modules:
                found.add(f"{modules[variable]}:{name}")
    return found


def trees() -> list[ast.AST]:
    return [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.rglob("*.py"))]


def private_names() -> list[str]:
    """Return ``module:name`` of all that is used of private modules of Flower."""
    found = set().union(*map(names_in, trees()))
    return sorted(name for name in found if name.partition(":")[0] not in PUBLIC)


def replaced_names() -> list[str]:
    """Return ``module:name`` of what is replaced in modules of Flower by something of ours."""
    return sorted(
        f"{by_name(tree)[target.value.id]}:{target.attr}"
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id in by_name(tree)
    )


def test_there_are_some() -> None:
    assert {
        "flwr.supernode.fleet_http_client:FleetHttpClient",
        "flwr.superlink.cli.flower_superlink:SuperLinkLifespan",
    } <= set(private_names())
    assert replaced_names() == [
        "flwr.superlink.cli.flower_superlink:_get_superexec_command",
        "flwr.superlink.runtime.run_serverapp:run_",
    ]


@pytest.mark.parametrize("name", replaced_names())
def test_what_is_replaced_is_called_where_it_was(name: str) -> None:
    """Elsewhere a replacement would change nothing, and what was submitted would be run."""
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    assert callable(getattr(found, attribute))
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(inspect.getsource(found)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert attribute in calls


@pytest.mark.parametrize("name", private_names())
def test_a_private_name_of_flowers_is_where_it_was(name: str) -> None:
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        importlib.import_module(f"{module}.{attribute}")


@pytest.mark.parametrize(
    ("module", "holder", "parameters"),
    [
        ("flwr.supernode.fleet_http_client", "FleetHttpClient.from_server_address",
         ("server_address", "insecure", "root_certificates", "interceptors")),
        ("flwr.supercore.inflatable.inflatable_utils", "pull_objects",
         ("max_time", "initial_backoff", "backoff_cap")),
        ("flwr.supernode.node_auth_http_interceptor", "NodeAuthHttpInterceptor", ()),
    ],
)  # fmt: skip
def test_what_is_called_takes_what_it_took(
    module: str, holder: str, parameters: tuple[str, ...]
) -> None:
    found: Any = importlib.import_module(module)
    for part in holder.split("."):
        found = getattr(found, part)
    assert set(parameters) <= set(inspect.signature(found).parameters)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("flwr.cli.ls", ("status-details", '"status"', '"run-id"')),
        ("flwr.superlink.cli.flower_superlink", ("--disable-runtime-dependency-installation",)),
        ("flwr.cli.log", ("--stream/--show",)),
        ("flwr.superlink.grid.http_grid", ("pull_objects(",)),
    ],
)
def test_words_that_flowers_programs_are_asked_with_are_known_to_them(
    module: str, words: tuple[str, ...]
) -> None:
    source = inspect.getsource(importlib.import_module(module))
    assert [word for word in words if word not in source] == []
