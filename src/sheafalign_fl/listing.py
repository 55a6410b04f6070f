"""What is in a folder, without what other programs left there.

Finder, Explorer, Jupyter, archive programs and network drives write files of their own between
people's recordings, some under the very names that are looked for (``._frame001.mat``). Whatever
lists a folder lists it through here.
"""

from pathlib import Path

_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", ".ds_store", ".localized"}
"""Files that an otherwise empty folder may hold, in lower case."""
_FOREIGN = _LITTER | {
    "__macosx",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "@eadir",
}


def is_foreign(name: str) -> bool:
    """Say whether a file or folder of this name is hidden, or known to be another program's."""
    return name.startswith(".") or name.lower() in _FOREIGN


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what matches `pattern` in or below `folder`, sorted.

    What is foreign, or lies in what is, is left out.

    Parameters
    ----------
    folder
        May itself lie below a hidden folder; one that does not exist holds nothing.
    pattern
        As for `pathlib.Path.glob`: ``*.npz``, ``*/*.csv``, ``**/a*.mat``.
    """
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(map(is_foreign, path.relative_to(folder).parts))
    )


def is_free(path: Path) -> bool:
    """Say whether something new may be made at `path`.

    It may where nothing is there, or a folder that holds litter at most.
    """
    if path.is_symlink() or path.exists():
        return path.is_dir() and all(_is_litter(entry) for entry in path.iterdir())
    return True


def remove_free(path: Path) -> None:
    """Remove the folder `path`, of which `is_free` holds, with the litter in it, if it is there.

    Raises
    ------
    OSError
        It holds more than litter, or cannot be removed.
    """
    if path.is_dir():
        for entry in filter(_is_litter, list(path.iterdir())):
            entry.unlink()
        path.rmdir()


def _is_litter(path: Path) -> bool:
    return path.is_file() and (path.name.startswith("._") or path.name.lower() in _LITTER)
