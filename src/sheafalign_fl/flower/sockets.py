"""A private folder whose path is short enough for the unix sockets that Ray makes in it.

A socket's path has at most 107 bytes (103 on macOS), and Ray takes some 70 of them below its
folder. TMPDIR is longer than what is left on every Mac and in most jobs of a cluster, and a folder
on a network's disk may take no sockets.
"""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sheafalign_fl.errors import UserError
from sheafalign_fl.extras import require

RAY = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.0"
"""The longest socket that Ray makes below its folder; 4194304 is the largest process id of
Linux."""
_PREFIX = "sf-"
_SHORTEST = Path("/tmp")  # noqa: S108 - what is made in it is private to this user


@contextmanager
def socket_folder(below: str = RAY, what: str = "Ray") -> Iterator[Path]:
    """Yield a new folder for sockets that only this user can enter; it is removed at the end.

    It is looked for in RAY_TMPDIR, the folder for temporary files, /tmp, /var/tmp and
    XDG_RUNTIME_DIR.

    Parameters
    ----------
    below
        The longest path of a socket below the folder.
    what
        Whose sockets they are, for the message.

    Raises
    ------
    UserError
        None of them takes such sockets; says why.
    """
    refused = []
    for parent in _parents():
        try:
            made = tempfile.TemporaryDirectory(
                prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True
            )
        except OSError as error:
            refused.append(f"{parent} ({error.strerror})")
            continue
        with made as name:
            if (problem := _problem(Path(name), below)) is None:
                yield Path(name)
                return
            refused.append(f"{parent} ({problem})")
    raise UserError(
        f"{what} needs a folder for its sockets, and none of these will do: {', '.join(refused)}; "
        "set RAY_TMPDIR to a folder of yours on a local disk with a path of a few letters, "
        "or take engine: inprocess, which needs no sockets"
    )


def check_simulation() -> None:
    """Raise `UserError` if Ray is not installed, or there is no folder for its sockets."""
    require("ray", "engine: flower")
    with socket_folder():
        pass


def _parents() -> list[Path]:
    named = (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir())
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    found = [Path(name).absolute() for name in named if name] + [
        _SHORTEST,
        Path("/var/tmp"),  # noqa: S108
    ]
    return list(dict.fromkeys([*found, *([Path(runtime)] if runtime else [])]))


def _problem(folder: Path, below: str) -> str | None:
    """Return why no socket with a path as long as `below` can be made in `folder`, or None."""
    path = folder / ("s" * len(below))
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None
