"""The version of the installed software; pyproject.toml is its one source."""

from importlib.metadata import version

__version__ = version("sheafalign-fl")


def series(version: str) -> str:
    """Return the release series of a version, ``0.1`` of ``0.1.7``: its members work together."""
    return ".".join(version.split(".")[:2])
