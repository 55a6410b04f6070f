"""What the relay is told of an error: its reason, and where the client's data is its own, no more.

A message of a reader of data may hold a path or a value of a file. Where a node has keys, because
its relay is not to see data, such text stays in the node's own log.
"""

import logging
import os
import re

from flwr.app import Context

from sheafalign_fl.errors import ConfigError, ProtocolError, RunError, SheafAlignError

_log = logging.getLogger("sheafalign.node")
_FREE_OF_DATA = (ProtocolError, ConfigError, RunError)
_PATH = re.compile(r"(?<![\w.])(?:/|~/|[A-Za-z]:\\)[^\s'\",;:]+")


def reason(error: Exception, context: Context) -> str:
    """Return the reason that the relay is told; an unforeseen error goes to the log too."""
    known = isinstance(error, SheafAlignError)
    whole = str(error) if known else f"{type(error).__name__}: {error}"
    if not known:
        _log.exception("an error that nobody foresaw", exc_info=error)
    if "keys" not in context.node_config:
        return whole
    if known:
        _log.error("%s", whole)
    if isinstance(error, _FREE_OF_DATA):
        return _PATH.sub("(a path)", whole)
    name = context.node_config.get("client", "?")
    if isinstance(error, OSError) and error.errno is not None:
        # The system's own words for the kind of error name no file.
        return f"client '{name}' cannot go on: {os.strerror(error.errno)}; its own log says more"
    kind = "its data or files are" if known else f"{type(error).__name__}:"
    return f"client '{name}' cannot go on, {kind} not as they should be; its own log says more"
