"""Means and spreads over seeds, and bytes to quality, out of a benchmark's cells."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

from sheafalign_fl.benchmark.results import Benchmark, Cell, Kind

Score = Callable[[Cell], float | None]

SCORES: dict[str, Score] = {
    "R@1": lambda cell: cell.recall_at_1,
    "R@10": lambda cell: cell.recall_at_10,
    "worst R@10": lambda cell: cell.worst_recall_at_10,
    "transfer, prototypes": lambda cell: cell.transfer_prototype,
    "transfer, logistic": lambda cell: cell.transfer_probe,
    "probe": lambda cell: cell.probe,
    "1 missing": lambda cell: imputed(cell, 1),
    "2 missing": lambda cell: imputed(cell, 2),
}
"""What methods are compared by, best when high."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over `count` seeds; 0 for one seed."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Return the spread of the values that are known, None without any."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        centre = sum(known) / len(known)
        squares = sum((value - centre) ** 2 for value in known)
        return cls(centre, sqrt(squares / (len(known) - 1)) if len(known) > 1 else 0.0, len(known))


@dataclass(frozen=True)
class Entry:
    """One method on one data set, all seeds together."""

    data: str
    method: str
    variant: str
    kind: Kind
    cells: tuple[Cell, ...]

    def score(self, name: str) -> Spread | None:
        """Return the spread of one of `SCORES`."""
        return Spread.of(SCORES[name](cell) for cell in self.cells)

    @property
    def payload_bytes(self) -> float:
        """Training payload, mean over seeds."""
        return sum(cell.payload_bytes for cell in self.cells) / len(self.cells)

    @property
    def bytes_per_exchange(self) -> float | None:
        """Training payload of one exchange; None where nothing was exchanged."""
        exchanges = self.cells[0].exchanges
        federated = exchanges > 0 and any(cell.curve for cell in self.cells)
        return self.payload_bytes / exchanges if federated else None


@dataclass(frozen=True)
class Reached:
    """Payload bytes until a target was reached: the mean over the `count` of `seeds` runs that reached it."""

    payload_bytes: float | None
    count: int
    seeds: int


def data_sets(benchmark: Benchmark) -> list[str]:
    """Return the names of the data sets, in the order of the cells."""
    return list(dict.fromkeys(cell.data for cell in benchmark.cells))


def entries(benchmark: Benchmark, data: str) -> list[Entry]:
    """Return one entry for each method on `data`, in the order of the cells."""
    groups: dict[str, list[Cell]] = {}
    for cell in benchmark.cells:
        if cell.data == data:
            groups.setdefault(cell.method, []).append(cell)
    return [Entry(data, method, cells[0].variant, cells[0].kind, tuple(cells)) for method, cells in groups.items()]


def imputed(cell: Cell, missing: int) -> float | None:
    """Return the fused probe's accuracy with `missing` clients absent and imputed."""
    return next((point.imputed for point in cell.missing if point.missing == missing), None)


def target_of(entry: Entry, fraction: float) -> float | None:
    """Return `fraction` of the final validation R@10 of a baseline, mean over seeds; None without a curve."""
    finals = [cell.curve[-1].recall_at_10 for cell in entry.cells if cell.curve]
    return fraction * sum(finals) / len(finals) if finals else None


def bytes_to(entry: Entry, target: float) -> Reached:
    """Return the training payload when validation R@10 was first at `target` or above (DESIGN section 5.6)."""
    reached = [
        point.payload_bytes
        for cell in entry.cells
        if (point := next((point for point in cell.curve if point.recall_at_10 >= target), None)) is not None
    ]
    mean = sum(reached) / len(reached) if reached else None
    return Reached(mean, len(reached), len(entry.cells))


def best(found: Sequence[Entry], name: str) -> Entry | None:
    """Return the entry with the highest mean of a score, the first of equals; None where nobody has it."""
    scored = [(spread.mean, -index) for index, entry in enumerate(found) if (spread := entry.score(name)) is not None]
    return found[-max(scored)[1]] if scored else None
