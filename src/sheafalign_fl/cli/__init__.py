"""The command line, `sheafalign`."""

from sheafalign_fl.cli.commands import app, main

__all__ = ["app", "main"]
