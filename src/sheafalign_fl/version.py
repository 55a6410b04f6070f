"""The version of the installed software; pyproject.toml is its one source."""

from importlib.metadata import version

__version__ = version("sheafalign-fl")
