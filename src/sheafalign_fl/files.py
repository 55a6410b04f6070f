"""Files and folders: written whole or not at all, locked, and where a user's own ones are."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from sheafalign_fl.errors import UserError

_APP = "sheafalign"
_OLD_HOME = ".sheafalign"


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader finds either the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Tail:
    """Reads on in a file that grows, from where it was before."""

    def __init__(self, path: Path) -> None:
        """Begin at the start of the file at `path`, which need not exist yet."""
        self._path, self._position = path, 0

    def lines(self) -> tuple[list[bytes], bool]:
        """Return the whole lines that were added, and whether the file began anew.

        A last line without its end is left for later. A file that has become shorter, as that of
        a resumed run does, is read from its start.
        """
        size = self._path.stat().st_size if self._path.is_file() else 0
        anew = size < self._position
        if anew:
            self._position = 0
        if size == self._position:
            return [], anew
        with self._path.open("rb") as file:
            file.seek(self._position)
            content = file.read(size - self._position)
        whole = content[: content.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.splitlines(keepends=True), anew


@contextmanager
def locked(folder: Path, taken: str) -> Iterator[None]:
    """Keep a second process from working in `folder`; raise `UserError` with `taken` if one does."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(taken) from None
    try:
        yield
    finally:
        lock.release()


def user_folder() -> Path:
    """Return the folder for what relays, nodes and bare runs keep on this machine.

    ``~/.sheafalign`` where an earlier version has made it, else where the system keeps such
    things: ``~/.local/state/sheafalign`` (XDG_STATE_HOME) on Linux.
    """
    old = Path.home() / _OLD_HOME
    return old if old.is_dir() else Path(platformdirs.user_state_dir(_APP, appauthor=False))


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``~/.cache/sheafalign-fl`` on Linux."""
    return Path(platformdirs.user_cache_dir("sheafalign-fl", appauthor=False))
