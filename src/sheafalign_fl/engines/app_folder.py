"""The Flower app as a folder that `flwr run` takes, put together from the installed packages.

A checkout's root is such a folder already, but the command line also has to work where the package
was installed from a wheel, and must not ship whatever else lies in a checkout.
"""

import shutil
from pathlib import Path

import flwr

from sheafalign_fl.engines.own_apps import CLIENT_APP, SERVER_APP, own_package
from sheafalign_fl.listing import listed
from sheafalign_fl.version import __version__

_PYPROJECT = """\
[project]
name = "sheafalign-fl-app"
version = "{version}"
description = "SheafAlign-FL"
license = {{ file = "LICENSE" }}
dependencies = ["flwr>={flwr}"]

[tool.flwr.app]
publisher = "sheafalign"
fab-format-version = 1
flwr-version-target = "{flwr}"
fab-include = ["LICENSE", "clients/**/*.py", "strategies/**/*.py"]

[tool.flwr.app.components]
serverapp = "{server}"
clientapp = "{client}"

[tool.flwr.app.config]
config = ""
run-dir = ""
resume = false
"""


def make_app_folder(destination: Path) -> Path:
    """Write the app into the new folder `destination` and return it.

    Raises
    ------
    RunError
        The packages `clients` and `strategies` are not installed beside the library.
    """
    destination.mkdir(parents=True)
    for package in ("clients", "strategies"):
        source = own_package(package)
        (destination / package).mkdir()
        for file in listed(source, "*.py"):
            shutil.copy(file, destination / package / file.name)
    (destination / "LICENSE").write_text("Apache-2.0\n", encoding="ascii")
    text = _PYPROJECT.format(
        version=__version__, flwr=flwr.__version__, server=SERVER_APP, client=CLIENT_APP
    )
    (destination / "pyproject.toml").write_text(text, encoding="ascii")
    return destination
