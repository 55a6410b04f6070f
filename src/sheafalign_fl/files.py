"""Files and folders: written whole or not at all, locked, and where a user's own ones are."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from sheafalign_fl.errors import UserError
from sheafalign_fl.listing import remove_free

_APP = "sheafalign"
_OLD_HOME = ".sheafalign"


def write_atomically(path: Path, content: bytes, *, public: bool = False) -> None:
    """Write `content` to `path` so that a reader finds either the old file or the whole new one.

    Only its owner can read it, unless it is `public`: state, results and samples come from data
    that may be private.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if public:
            Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(folder: Path, *, public: bool = False) -> Iterator[Path]:
    """Give a folder to fill that becomes `folder` at the end of the block, whole or not at all.

    Nobody else can enter it, unless it is `public`. `folder` has to be free (`listing.is_free`).

    Raises
    ------
    OSError
        It cannot be made; or `folder` is not free by then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield made
        if public:
            made.chmod(0o755)
        remove_free(folder)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def keep_private() -> None:
    """Let nothing that this process and its children make be readable by others."""
    os.umask(0o077)


def private_folder(folder: Path, name: str) -> None:
    """Make a folder that its owner alone can enter; one that is there becomes so.

    Raises
    ------
    UserError
        It cannot be made or written to; says why, and calls it `name`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise UserError(
            f"{name} {folder} cannot be written to: {error.strerror}; `sheafalign doctor` looks "
            "at permissions and disk"
        ) from None


class Tail:
    """Reads on in a file that grows, from where it was before."""

    def __init__(self, path: Path) -> None:
        """Begin at the start of the file at `path`, which need not exist yet."""
        self._path, self._position, self._last = path, 0, b""

    def lines(self) -> tuple[list[bytes], bool]:
        """Return the whole lines that were added, and whether the file began anew.

        A last line without its end is left for later. A file that was cut, as that of a resumed
        run is, is read from its start, even if it has grown beyond the old place since.
        """
        size = self._path.stat().st_size if self._path.is_file() else 0
        anew = size < self._position or not self._goes_on()
        if anew:
            self._position, self._last = 0, b""
        if size == self._position:
            return [], anew
        with self._path.open("rb") as file:
            file.seek(self._position)
            content = file.read(size - self._position)
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        self._position += len(whole)
        self._last = lines[-1] if lines else self._last
        return lines, anew

    def _goes_on(self) -> bool:
        """Return whether the line that was read last, if any, is still where it was."""
        if not self._last:
            return True
        with self._path.open("rb") as file:
            file.seek(self._position - len(self._last))
            return file.read(len(self._last)) == self._last


@contextmanager
def locked(folder: Path, taken: str) -> Iterator[None]:
    """Keep a second process out of `folder`; raise `UserError` with `taken` if one works there."""
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
