"""SheafAlign-FL: decentralised multimodal alignment on Flower (arXiv 2510.20540).

::

    import sheafalign_fl as sf

    run = sf.run("experiment.yaml", out="runs/x")
    run.metrics, run.losses, run.ledger   # tables
    run.report                            # the HTML report

    model = sf.load_model("runs/x")
    model["camera"].embed(x)              # what was learnt, on raw values

Names are loaded when they are first used, so that importing the package costs nothing and a
sensor's machine loads only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sheafalign_fl.api import check, resume, run, settings
    from sheafalign_fl.codecs.base import Codec
    from sheafalign_fl.config import Settings, load_settings
    from sheafalign_fl.data.arrays import save_arrays
    from sheafalign_fl.data.base import ModalityData
    from sheafalign_fl.errors import (
        ConfigError,
        DataError,
        RunError,
        SheafAlignError,
        UserError,
    )
    from sheafalign_fl.runs.callbacks import Callback
    from sheafalign_fl.runs.reading import Run, read_run
    from sheafalign_fl.runs.tables import Table
    from sheafalign_fl.shares.model import load_model
    from sheafalign_fl.shares.share import load_share
    from sheafalign_fl.version import __version__

_HOMES = {
    "Callback": "runs.callbacks",
    "Codec": "codecs.base",
    "ConfigError": "errors",
    "DataError": "errors",
    "ModalityData": "data.base",
    "Run": "runs.reading",
    "RunError": "errors",
    "Settings": "config",
    "SheafAlignError": "errors",
    "Table": "runs.tables",
    "UserError": "errors",
    "__version__": "version",
    "check": "api",
    "load_model": "shares.model",
    "load_settings": "config",
    "load_share": "shares.share",
    "read_run": "runs.reading",
    "resume": "api",
    "run": "api",
    "save_arrays": "data.arrays",
    "settings": "api",
}
"""Public name -> the module that it comes from."""
__all__ = [
    "Callback",
    "Codec",
    "ConfigError",
    "DataError",
    "ModalityData",
    "Run",
    "RunError",
    "Settings",
    "SheafAlignError",
    "Table",
    "UserError",
    "__version__",
    "check",
    "load_model",
    "load_settings",
    "load_share",
    "read_run",
    "resume",
    "run",
    "save_arrays",
    "settings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sheafalign_fl' has no attribute '{name}'")
    return getattr(import_module(f"sheafalign_fl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
