"""Reading many frames once: in parallel, and kept as plain arrays until a file's content changes.

A cache entry is a folder ``$XDG_CACHE_HOME/sheafalign-fl/KEY`` with `x.npy` and `index.json`; KEY
is a digest of the reader and the files' names. A file counts as unchanged if its size and times
are, else if its SHA-256 is; changed files alone are read again.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.data.readers import BadFileError, Mended, Reader
from sheafalign_fl.errors import DataError

Files = tuple[Path, ...]
"""The files of one frame, nearly always one."""
_CHUNK = 64
_FORMAT = 1
Watcher = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Is told what is read and how many files there are; yields what is told how many are done."""


@contextmanager
def _unwatched(_what: str, _files: int) -> Iterator[Callable[[int], None]]:
    yield lambda _done: None


_watcher: ContextVar[Watcher] = ContextVar("watcher", default=_unwatched)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` how reading goes while the block runs; nobody is told otherwise."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@dataclass(frozen=True)
class Fault:
    """Why a frame cannot be used."""

    file: str
    reason: str
    known: bool
    """A documented fault of the data set."""


@dataclass(frozen=True)
class Prepared:
    """What a reader made of some frames.

    Attributes
    ----------
    x
        Float32, (frames, ...), read-only and on disk where it is cached. Rows with faults are zero.
    faults
        Row -> what is wrong with it.
    mended
        Row -> how a known fault was made good.
    read
        How many frames were read from their files; the others came from the cache.
    """

    x: NDArray[np.float32]
    faults: dict[int, Fault]
    mended: dict[int, str]
    read: int


@dataclass(frozen=True)
class _Entry:
    """One frame in the index of the cache."""

    stamp: list[list[int]]
    """Of each file: size, time of its content and of its inode, in ns; empty where it does not
    exist."""
    digest: str
    """SHA-256 over all its files."""
    fault: dict[str, Any] | None = None
    mended: str | None = None


def prepare(reader: Reader, frames: Sequence[Files], what: str, *, cache: bool = True) -> Prepared:
    """Return all `frames` as one array.

    Parameters
    ----------
    reader
        Reads one frame. All frames must have one shape; those that differ from most are faults.
    frames
        The files of each frame.
    what
        What is read, for the progress bar.
    cache
        Keep the result on disk, and use what is there.

    Raises
    ------
    DataError
        Not one frame could be read.
    """
    folder = _folder(reader, frames) if cache else None
    entries, old = _cached(folder, len(frames))
    stale = [row for row, files in enumerate(frames) if not _fresh(entries, row, files)]
    if folder is not None and not stale and old is not None:
        return _prepared(old, entries, 0)
    if folder is not None and old is not None:
        stale = _changed(entries, stale, frames)
    arrays = _read(reader, frames, stale, what)
    if old is not None and any(
        array is not None and array.shape != old.shape[1:] for _, array in arrays.values()
    ):
        # Most frames may now have another shape, which those in the cache do not tell.
        old, stale = None, list(range(len(frames)))
        arrays = _read(reader, frames, stale, what)
    x = _joined(arrays, entries, old, frames)
    prepared = _prepared(x, entries, len(stale))
    if len(prepared.faults) == len(frames):
        fault = prepared.faults[0]
        raise DataError(
            f"{fault.file}: {fault.reason}; not one of {len(frames)} frames could be read"
        )
    return prepared if folder is None else replace(prepared, x=_keep(folder, x, entries))


def cache_folder() -> Path:
    """Return where prepared arrays are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sheafalign-fl"


def _folder(reader: Reader, frames: Sequence[Files]) -> Path:
    key = hashlib.sha256(f"{_FORMAT}\n{reader!r}\n".encode())
    for files in frames:
        key.update(("\x1f".join(map(str, files)) + "\n").encode(errors="surrogateescape"))
    return cache_folder() / key.hexdigest()[:32]


def _cached(
    folder: Path | None, count: int
) -> tuple[list[_Entry | None], NDArray[np.float32] | None]:
    """Return the entries and the array in the cache, or nothing if they are absent or damaged."""
    nothing: tuple[list[_Entry | None], None] = ([None] * count, None)
    if folder is None:
        return nothing
    try:
        entries = [_Entry(**entry) for entry in json.loads((folder / "index.json").read_text())]
        x = np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError, EOFError):
        return nothing
    return (
        (list(entries), x)
        if len(entries) == count and x.shape[:1] == (count,) and x.dtype == np.float32
        else nothing
    )


def _fresh(entries: list[_Entry | None], row: int, files: Files) -> bool:
    entry = entries[row]
    return entry is not None and entry.stamp == _stamp(files)


def _stamp(files: Files) -> list[list[int]]:
    stamps = []
    for path in files:
        try:
            status = path.stat()
            stamps.append([status.st_size, status.st_mtime_ns, status.st_ctime_ns])
        except OSError:
            stamps.append([])
    return stamps


def _digest(files: Files) -> str:
    digest = hashlib.sha256()
    for path in files:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError:
            digest.update(b"absent")
    return digest.hexdigest()


def _changed(entries: list[_Entry | None], stale: list[int], frames: Sequence[Files]) -> list[int]:
    """Return the rows of `stale` whose content changed; note the others' new times in `entries`."""
    changed = []
    for row in stale:
        stamp, digest, entry = _stamp(frames[row]), _digest(frames[row]), entries[row]
        if entry is None or digest != entry.digest:
            changed.append(row)
        else:
            entries[row] = replace(entry, stamp=stamp)
    return changed


def _read(
    reader: Reader, frames: Sequence[Files], rows: list[int], what: str
) -> dict[int, tuple[_Entry, Any]]:
    """Return row -> entry and array (None if faulty), read by as many threads as processors."""

    def one(row: int) -> tuple[int, _Entry, Any]:
        # The stamp is taken first: a file that changes while it is read is read again the next
        # time.
        stamp, digest = _stamp(frames[row]), _digest(frames[row])
        entry = _Entry(stamp, digest)
        try:
            values = reader(*frames[row])
        except BadFileError as error:
            file = error.file or next(
                (path for path in frames[row] if not path.is_file()), frames[row][0]
            )
            return (
                row,
                replace(entry, fault=asdict(Fault(str(file), error.reason, error.known))),
                None,
            )
        if isinstance(values, Mended):
            entry, values = replace(entry, mended=values.how), values.values
        return row, entry, np.asarray(values, dtype=np.float32)

    result: dict[int, tuple[_Entry, Any]] = {}
    # Decoders and transforms let go of Python's lock, so threads do; they share the reader without
    # pickling.
    with (
        _watcher.get()(what, len(rows)) as done,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        for start in range(
            0, len(rows), _CHUNK
        ):  # in chunks, so that Ctrl-C does not wait for all that is queued
            for row, entry, array in pool.map(one, rows[start : start + _CHUNK]):
                result[row] = entry, array
            done(len(result))
    return result


def _joined(
    read: dict[int, tuple[_Entry, Any]],
    entries: list[_Entry | None],
    old: NDArray[np.float32] | None,
    frames: Sequence[Files],
) -> NDArray[np.float32]:
    """Return one array of what was read and of the cache; note in `entries` what was read."""
    shape = _usual_shape([array.shape for _, array in read.values() if array is not None], old)
    x = np.zeros((len(frames), *shape), dtype=np.float32)
    if old is not None and old.shape[1:] == shape:
        x[:] = old
    for row in list(read):
        entry, array = read.pop(row)  # let go of at once: together they are as large as the result
        entries[row] = entry
        if array is None or array.shape == shape:
            x[row] = 0.0 if array is None else array
            continue
        reason = f"gives an array of shape {array.shape}, but most give {shape}"
        entries[row] = replace(entry, fault=asdict(Fault(str(frames[row][0]), reason, known=False)))
        x[row] = 0.0
    return x


def _usual_shape(shapes: list[tuple[int, ...]], old: NDArray[np.float32] | None) -> tuple[int, ...]:
    if old is not None:
        return old.shape[1:]
    return max(sorted(set(shapes)), key=shapes.count, default=())


def _prepared(x: NDArray[np.float32], entries: list[_Entry | None], read: int) -> Prepared:
    rows = {row: entry for row, entry in enumerate(entries) if entry is not None}
    faults = {row: Fault(**entry.fault) for row, entry in rows.items() if entry.fault}
    mended = {row: entry.mended for row, entry in rows.items() if entry.mended and not entry.fault}
    return Prepared(x, faults, mended, read)


def _keep(
    folder: Path, x: NDArray[np.float32], entries: list[_Entry | None]
) -> NDArray[np.float32]:
    """Write a cache entry whole or not at all; return the array as it lies there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".new-", dir=folder.parent, ignore_cleanup_errors=True
        ) as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            new.mkdir()
            np.save(new / "x.npy", x)
            (new / "index.json").write_text(
                json.dumps([asdict(entry) for entry in entries if entry is not None])
            )
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        return np.load(folder / "x.npy", mmap_mode="r")  # type: ignore[no-any-return]
    except (
        OSError
    ):  # the disk is full, or another process was faster: the data is here all the same
        return x


def check_faults(
    prepared: Prepared, where: Sequence[str], modality: str, policy: str
) -> tuple[str, ...]:
    """Return notes on the frames that are left out.

    Parameters
    ----------
    where
        File and row that name each frame.
    policy
        stop: faults that are not known ones of the data set are an error; drop: they are left out.

    Raises
    ------
    DataError
        There are such faults and the policy is to stop; names the first with file and row, and
        counts the others.
    """
    known = {row: fault for row, fault in prepared.faults.items() if fault.known}
    other = {row: fault for row, fault in prepared.faults.items() if not fault.known}
    if other and policy == "stop":
        row = min(other)
        more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
        raise DataError(
            f"{where[row]}: {modality}: {other[row].file} {other[row].reason}{more}; mend it, "
            "or leave such frames out with data.options.bad: drop"
        )
    notes = [
        f"{how} in {list(prepared.mended.values()).count(how)} of {len(where)} frames"
        for how in dict.fromkeys(prepared.mended.values())
    ]
    for faults, kind in ((known, "a known fault of this data"), (other, "bad files")):
        if faults:
            row = min(faults)
            notes.append(
                f"{len(faults)} of {len(where)} frames left out, {kind} (first: {where[row]}: "
                f"{Path(faults[row].file).name} {faults[row].reason})"
            )
    return tuple(notes)
