"""Recordings that lie in a folder of the user's and are not read: they are named, never lost."""

from collections.abc import Iterable
from pathlib import Path

from sheafalign_fl.data.own.arrays import one_form
from sheafalign_fl.data.tables import arrays as event_files
from sheafalign_fl.data.tables import columns as table_files
from sheafalign_fl.data.tables.recordings import files_of_events, stem_of
from sheafalign_fl.listing import listed

_FOREIGN = {
    "MATLAB": (".mat",),
    "HDF5": (".h5", ".hdf5", ".hdf"),
    "netCDF": (".nc",),
    "an array without its events": (".npy",),
    "pickle": (".pkl", ".pickle", ".joblib"),
    "torch": (".pt", ".pth"),
    "a spreadsheet": (".xlsx", ".xls", ".ods"),
    "Feather": (".feather",),
    "video": (".mp4", ".avi", ".mov", ".mkv"),
    "sound": (".mp3", ".m4a", ".aac"),
    "ROS": (".bag", ".db3", ".mcap"),
    "EDF": (".edf", ".bdf"),
    "TDMS": (".tdms",),
    "points": (".pcd", ".ply", ".las", ".laz"),
    "bytes of its own form": (".bin", ".dat", ".raw"),
}
"""Kind of recording that the source `folder` does not read -> endings of its files."""
_KINDS = {ending: kind for kind, endings in _FOREIGN.items() for ending in endings}
_READ = (".npz", *table_files.ENDINGS, *event_files.SOUNDS)
_SHOWN = 5
MEND = "save x and event_id (or time) as MODALITY.npz"


def beside(folder: Path, modality: str, read: Path) -> list[Path]:
    """Return the recordings of a modality in `folder` other than the one that is `read`.

    Folders with a file for each event count too, as `NAME` beside `NAME.npz`.
    """
    found = []
    for path in listed(folder):
        if path == read:
            continue
        if path.is_dir():
            name = path.name if files_of_events(path) else ""
        else:
            name = stem_of(path, (*_READ, *_KINDS))
        if name and one_form(name) == one_form(modality):
            found.append(path)
    return found


def unread(folder: Path, modalities: Iterable[str]) -> list[Path]:
    """Return the recordings in `folder` of a kind that is not read, but for the `modalities`.

    What lies beside a modality of its name is `beside` it.
    """
    known = {one_form(name) for name in modalities}
    return [
        path
        for path in listed(folder)
        if path.is_file() and (name := stem_of(path, _KINDS)) and one_form(name) not in known
    ]


def shown(paths: list[Path]) -> str:
    """Return the names of files with their kinds, the first few of many."""
    names = ", ".join(_with_kind(path) for path in paths[:_SHOWN])
    return f"{names} and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else names


def _with_kind(path: Path) -> str:
    kind = _KINDS.get(path.suffix.lower())
    return f"{path.name} ({kind})" if kind else path.name
