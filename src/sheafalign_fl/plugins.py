"""The user's own code, named in a configuration by a dotted path ``package.module:attribute``."""

import importlib
import sys
from pathlib import Path
from typing import Any

from sheafalign_fl.errors import ConfigError


def load_attribute(path: str, where: str) -> Any:
    """Import ``package.module:attribute`` and return the attribute; it must be callable.

    The current folder is importable, as it is for ``python -m``.

    Raises
    ------
    ConfigError
        The path has no ``:``, or the module cannot be imported or lacks the attribute; the message starts with `where`.
    """
    module_name, separator, attribute = path.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(f"{where}: '{path}' is no dotted path; write package.module:attribute")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # an import runs the user's code, which may raise anything
        raise ConfigError(f"{where}: '{module_name}' cannot be imported: {error}") from None
    if not callable(found := getattr(module, attribute, None)):
        raise ConfigError(f"{where}: '{module_name}' has no callable '{attribute}'")
    return found
