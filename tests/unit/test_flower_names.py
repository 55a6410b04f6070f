"""What is used of Flower that is not public: whoever moves it fails here, by name."""

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "src" / "sheafalign_fl" / "flower"
PUBLIC = {"flwr", "flwr.app", "flwr.clientapp", "flwr.serverapp"}


def private_names() -> list[str]:
    """Return ``module:name`` of everything that is imported from private modules of Flower."""
    found = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "flwr":
                found |= {f"{node.module}:{alias.name}" for alias in node.names}
    return sorted(name for name in found if name.partition(":")[0] not in PUBLIC)


def test_there_are_some() -> None:
    assert "flwr.supernode.fleet_http_client:FleetHttpClient" in private_names()


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
