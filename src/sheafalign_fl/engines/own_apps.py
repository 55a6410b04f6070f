"""The apps of this package by name, whatever else is called `clients` or `strategies` nearby.

A user's folder may hold packages or modules of these names, and the folder comes first where code
is looked for, so that the user's own encoders and data sources are found.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import sheafalign_fl
from sheafalign_fl.config.registry import load_attribute
from sheafalign_fl.errors import RunError

CLIENT_APP = "clients.client_app:app"
SERVER_APP = "strategies.server_app:app"


def own_package(name: str) -> Path:
    """Return the folder of the package `name` that was installed with this library.

    Raises
    ------
    RunError
        There is none.
    """
    library = Path(str(sheafalign_fl.__file__)).resolve().parent
    for root in (library.parent, library.parents[1]):  # of a wheel, of a checkout
        if (root / name / "__init__.py").is_file():
            return root / name
    raise RunError(f"the package '{name}' is not installed; install sheafalign-fl again")


def load_app(path: str, what: str) -> Any:
    """Return the Flower app at ``package.module:attribute`` of this package."""
    _claim(path.partition(".")[0])
    return load_attribute(path, what)


def _claim(name: str) -> None:
    """Let the package `name` be this one's, and modules that are only in a user's be found too."""
    folder = own_package(name)
    present = sys.modules.get(name)
    if (places := getattr(present, "__path__", None)) is None:  # none, or a module of that name
        _load(name, folder)
    elif str(folder) not in map(str, places):
        places.insert(0, str(folder))


def _load(name: str, folder: Path) -> None:
    file, places = folder / "__init__.py", [str(folder)]
    spec = spec_from_file_location(name, file, submodule_search_locations=places)
    if not isinstance(spec, ModuleSpec) or spec.loader is None:
        raise RunError(f"the package '{name}' cannot be loaded from {folder}")
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
