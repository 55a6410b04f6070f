"""What the command line makes of the machine it runs on: its terminal, its folders, its limits."""

import errno
import io
import os
import sys

from sheafalign_fl.errors import UserError

_OURS_TO_BEAR = {
    errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ELOOP, errno.EFBIG,
}  # fmt: skip
_MENDS = {
    errno.EMFILE: "raise the limit, with ulimit -n 4096",
    errno.ENOSPC: "free some, then go on with --resume",
    errno.EDQUOT: "free some, then go on with --resume",
}


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
    if error.errno not in _OURS_TO_BEAR:
        return None
    name = str(error.filename or "")
    where = f": {name if len(name) < 100 else name[:97] + '...'}" if name else ""
    mend = f"; {_MENDS[error.errno]}" if error.errno in _MENDS else ""
    return UserError(f"{os.strerror(error.errno).lower()}{where}{mend}")
