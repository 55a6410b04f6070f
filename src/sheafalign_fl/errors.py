"""Every error that this package raises on purpose.

::

    SheafAlignError                 exit code 1
    ├── UserError                   exit code 2: the user can mend it, one clear line, no traceback
    │   ├── ConfigError             a setting is wrong
    │   │   └── TopologyError       the graph is wrong
    │   └── DataError               a data set is wrong
    ├── ProtocolError               a frame or message is not what the protocol says
    │   ├── HandshakeError          a client may not take part; says why
    │   └── NotFiniteError          embeddings that hold infinity or no number
    └── RunError                    a run did not end well
"""


class SheafAlignError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line exits with."""

    exit_code: int = 1


class UserError(SheafAlignError):
    """Something that the user gave is wrong; the message says what, where, and what to do."""

    exit_code = 2


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, or impossible."""


class TopologyError(ConfigError):
    """The federation graph is impossible: unknown client, self-loop, double edge, not connected."""


class DataError(UserError):
    """A data set is missing, malformed, or lacks what a setting asks of it."""


class ProtocolError(SheafAlignError):
    """A frame or message breaks the protocol; its content is never trained on."""


class HandshakeError(ProtocolError):
    """A client was refused; the message names the client and the reason."""

    exit_code = 2


class NotFiniteError(ProtocolError):
    """A payload holds values that are not finite."""


class RunError(SheafAlignError):
    """A run ended without its result."""
