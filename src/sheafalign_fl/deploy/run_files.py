"""What an operator may fetch of a run: the files of its folder that hold results, and no others."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sheafalign_fl.engines.mirror import FILES, PART_BYTES, PREFIX
from sheafalign_fl.errors import UserError
from sheafalign_fl.runs.folder import check_run_name

_PATH = re.compile(re.escape(PREFIX).encode() + rb"(\d{1,20})(?:/([a-z.]{1,32}))?")
_OFFSET = re.compile(rb"(?:offset=(\d{1,15}))?")


def names_run_file(scope: Scope) -> bool:
    """Return whether a request asks for a run's files, spelled in the only way that there is."""
    found = _PATH.fullmatch(scope["raw_path"])
    return (
        scope["method"] == "GET"
        and found is not None
        and (found[2] is None or found[2].decode() in FILES)
        and _OFFSET.fullmatch(scope["query_string"]) is not None
    )


class RunFiles:
    """Answers requests that `names_run_file` knows."""

    def __init__(self, folder_of: Callable[[int], Path | None]) -> None:
        """Find the folder of a run by Flower's id of it."""
        self._folder_of = folder_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with JSON name -> bytes, or with a part of a file."""
        found, offset = _PATH.fullmatch(scope["raw_path"]), _OFFSET.fullmatch(scope["query_string"])
        assert found is not None  # noqa: S101 - the gate has asked `names_run_file`
        assert offset is not None  # noqa: S101
        folder = self._folder_of(int(found[1]))
        answer: Response
        if folder is None:
            answer = Response("there is no such run", 404)
        elif found[2] is None:
            sizes = {name: size for name in FILES if (size := _size(folder / name)) is not None}
            answer = JSONResponse(sizes)
        else:
            part = _part(folder / found[2].decode(), int(offset[1] or 0))
            answer = Response(part, 404 if part is None else 200)
        await answer(scope, receive, send)


def run_folder(runs: Path, given: object) -> Path | None:
    """Return the folder of a run whose `run-dir` is `given`; None if it has none."""
    try:
        return runs / check_run_name(str(given))
    except UserError:
        return None


def _size(path: Path) -> int | None:
    """Return the size of a regular file; None if there is none, or a link."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _part(path: Path, offset: int) -> bytes | None:
    """Return at most `PART_BYTES` of a file from `offset` on; None if it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        file.seek(offset)
        return file.read(PART_BYTES)
