"""What the command line makes of the machine it runs on: its terminal, its folders, its limits."""

import errno
import io
import os
import sys

from sheafalign_fl.errors import UserError

_ROOM = "make room, then go on with --resume"
_RIGHTS = "it has to belong to the user that runs this"
_LOOK = " (`sheafalign doctor` looks at room and rights)"
_CURES = {
    errno.ENOSPC: _ROOM + _LOOK,
    errno.EDQUOT: f"{_ROOM}, or raise this user's quota{_LOOK}",
    errno.EROFS: "it is mounted read-only; give another folder" + _LOOK,
    errno.EACCES: _RIGHTS + _LOOK,
    errno.EPERM: _RIGHTS + _LOOK,
    errno.EMFILE: "raise the limit, with ulimit -n 4096",
    errno.ENFILE: "end other programs, or raise the limit, with sysctl fs.file-max",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a symbolic link leads back to itself; remove it",
    errno.EFBIG: "raise the limit, with ulimit -f unlimited, or give a folder on another disk",
    errno.EIO: "the disk or the line to it fails: see the system's log, or give another folder",
    errno.ESTALE: "mount the network's disk again",
}
"""What can be done about an error that is the machine's: nothing in this program would mend it."""


def fit_the_terminal() -> None:
    """Let a character that the output's encoding lacks be a question mark, not the end of a run."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def check_folder() -> None:
    """Raise `UserError` where the current folder was removed: torch would end the process."""
    try:
        os.getcwd()  # noqa: PTH109 (what torch and its libraries ask)
    except OSError:
        raise UserError("the current folder does not exist any more; cd to one that does") from None


def explained(error: OSError) -> UserError | None:
    """Return what to say of a limit or right of the machine; None for what may be our mistake."""
    if error.errno not in _CURES:
        return None
    name = str(error.filename or "")
    where = f": {name if len(name) < 100 else name[:97] + '...'}" if name else ""
    return UserError(f"{os.strerror(error.errno).lower()}{where}; {_CURES[error.errno]}")
