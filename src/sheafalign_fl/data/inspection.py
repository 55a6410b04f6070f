"""What is in a folder: modalities, events that pairs share, missing rates, label balance, flaws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sheafalign_fl.data import deepsense6g, mmfi, utd_mhad
from sheafalign_fl.data.base import SPLITS, ModalityData
from sheafalign_fl.data.clocks import Clock
from sheafalign_fl.data.oddities import oddities
from sheafalign_fl.data.own.arrays import present
from sheafalign_fl.data.own.proposals import Proposal, propose
from sheafalign_fl.data.own.unread import MEND, shown, unread
from sheafalign_fl.data.registry import complete_options, load_modality, source_info
from sheafalign_fl.errors import DataError, UserError
from sheafalign_fl.labels import kind_of, known
from sheafalign_fl.listing import listed


@dataclass(frozen=True)
class Pair:
    """Two modalities of a folder."""

    first: str
    second: str
    shared: Mapping[str, int]
    """Split -> events that both have."""
    disagree: int
    """Shared events that are in different splits."""
    problem: str | None
    """Why the two cannot be aligned, if they cannot."""


@dataclass(frozen=True)
class Inspection:
    """What a folder holds.

    Attributes
    ----------
    source
        The data source that reads it.
    options
        Its options, the folder and what its files suggest among them.
    modalities
        What could be loaded, by name.
    problems
        Modality -> why it could not be loaded.
    pairs
        All pairs of what could be loaded.
    clocks
        Modality -> how its times lie, where it has times.
    notes
        Why options were added to those that were given.
    warnings
        What would be learnt or measured wrongly, though it can be loaded.
    seed
        Of the splits.
    """

    source: str
    options: Mapping[str, Any]
    modalities: Mapping[str, ModalityData]
    problems: Mapping[str, str]
    pairs: tuple[Pair, ...]
    clocks: Mapping[str, Clock]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seed: int

    @property
    def events(self) -> int:
        """Return how many events at least one modality has."""
        ids: set[Any] = set()
        for data in self.modalities.values():
            ids.update(data.event_ids.tolist())
        return len(ids)

    @property
    def usable(self) -> bool:
        """Say whether nothing is wrong."""
        return not self.problems and not any(pair.problem for pair in self.pairs)


_PRESENT: Mapping[str, Callable[[Path], list[str]]] = {
    "folder": present,
    "mmfi": mmfi.present,
    "utd-mhad": utd_mhad.present,
    "deepsense6g": deepsense6g.present,
}
"""Source -> the modalities that a folder has for it."""


def inspect(
    place: Path, options: Mapping[str, Any], source: str | None = None, seed: int = 0
) -> Inspection:
    """Load everything in the folder `place` that some source knows.

    Parameters
    ----------
    options
        Of the source, without `path`.
    source
        Which source reads it; default: what it looks like.

    Raises
    ------
    DataError
        There is no such folder, or nothing in it that a source reads.
    """
    if not place.is_dir():
        raise DataError(f"there is no folder {place}")
    source, names = _recognised(place) if source is None else (source, _modalities(place, source))
    if not names:
        raise DataError(f"{place}: has nothing that the source '{source}' reads")
    given = {"path": str(place.resolve()), **options}
    proposal = Proposal()
    if source == "folder":
        proposal = propose(place, names, complete_options(given, source_info(source)))
    given |= proposal.options
    modalities: dict[str, ModalityData] = {}
    problems: dict[str, str] = {}
    for name in names:
        try:
            modalities[name] = load_modality(source, name, seed, given, name)
        except DataError as error:
            problems[name] = str(error)
    return Inspection(
        source,
        given,
        modalities,
        problems,
        tuple(_pair(one, other, modalities) for one, other in combinations(modalities, 2)),
        proposal.clocks,
        (*proposal.notes, *_unread(place, source, names)),
        tuple(oddities(modalities)),
        seed,
    )


def label_counts(data: ModalityData, label: str) -> dict[str, int]:
    """Return class -> number of events, by the classes' numbers, then how many are not labelled.

    Of several labels an event: label -> events that have it; of values: their range.
    """
    values, names = data.labels[label], data.classes.get(label, ())
    there = known(values)
    unknown = int((~there).sum())
    if kind_of(values) == "values":
        low, high = (
            f"{end(values[there]):.4g}" if there.any() else "?" for end in (np.min, np.max)
        )
        return {f"values {low} to {high}": int(there.sum())} | (
            {"not labelled": unknown} if unknown else {}
        )
    if kind_of(values) == "multi":
        codes, counts = np.arange(values.shape[1]), values[there].sum(axis=0)
    else:
        codes, counts = np.unique(values[there], return_counts=True)
    result = {
        names[code] if code < len(names) else str(code): int(count)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
    }
    return result | ({"not labelled": unknown} if unknown else {})


def _recognised(folder: Path) -> tuple[str, list[str]]:
    if listed(folder, "*.npz"):
        return "folder", present(folder)
    # Data sets of a known form consist of tables and folders of files too, so they come first.
    for source in (*(name for name in _PRESENT if name != "folder"), "folder"):
        if names := _PRESENT[source](folder):
            return source, names
    left = unread(folder, ())
    raise DataError(
        f"{folder}: is no data set that is known here; looked for MODALITY.npz, .csv, .tsv, "
        ".parquet, .wav, folders of .npy or sounds, the tables of DeepSense 6G "
        "(scenario31/scenario31.csv), E01/S01/A01 of MM-Fi, and a1_s1_t1_inertial.mat of UTD-MHAD"
        + (f"; {shown(left)} is not read: {MEND}" if left else "")
    )


def _unread(folder: Path, source: str, names: list[str]) -> tuple[str, ...]:
    """Say which recordings in a folder of the user's own no modality is read from."""
    found = unread(folder, names) if source == "folder" else []
    return (f"not read: {shown(found)}; {MEND}",) if found else ()


def _modalities(folder: Path, source: str) -> list[str]:
    source_info(source)
    if source not in _PRESENT:
        raise UserError(
            f"the source '{source}' reads no folder of yours; these do: {', '.join(_PRESENT)}"
        )
    return _PRESENT[source](folder)


def _pair(one: str, other: str, modalities: Mapping[str, ModalityData]) -> Pair:
    first, second = modalities[one], modalities[other]
    if (first.event_ids.dtype.kind == "U") != (second.event_ids.dtype.kind == "U"):
        nothing: dict[str, int] = dict.fromkeys(SPLITS, 0)
        return Pair(one, other, nothing, 0, "event ids are text in one and numbers in the other")
    _, here, there = np.intersect1d(first.event_ids, second.event_ids, return_indices=True)
    split = first.split[here]
    shared: dict[str, int] = {
        name: int((split == index).sum()) for index, name in enumerate(SPLITS)
    }
    disagree = int((split != second.split[there]).sum())
    return Pair(one, other, shared, disagree, _problem(first, second, len(here), disagree, shared))


def _nearly(first: ModalityData, second: ModalityData) -> str:
    """Say where text ids would agree but for spaces, leading zeros, or capitals."""
    if first.event_ids.dtype.kind != "U":
        return ""
    plain = [
        {text.strip().lower().lstrip("0") for text in data.event_ids.tolist()}
        for data in (first, second)
    ]
    both = len(plain[0] & plain[1])
    return f"; {both} would agree but for spaces, leading zeros or capitals" if both else ""


def _problem(
    first: ModalityData, second: ModalityData, count: int, disagree: int, shared: Mapping[str, int]
) -> str | None:
    if count == 0:
        (low, high), (least, most) = (
            np.sort(data.event_ids)[[0, -1]].tolist() for data in (first, second)
        )
        ranges, apart = f"{low} to {high} and {least} to {most}", high < least or most < low
        how = "never overlap" if apart else "interleave"
        return f"no event in common: ids (or clocks) {how}, {ranges}{_nearly(first, second)}"
    if disagree:
        return f"{disagree} shared events are in different splits"
    lacking = [name for name in ("train", "test") if shared[name] < 2]
    if not lacking:
        return None
    why = {note for data in (first, second) for note in data.notes if note.startswith("no ")}
    return "; ".join([f"fewer than 2 shared events for {' and '.join(lacking)}", *sorted(why)])
