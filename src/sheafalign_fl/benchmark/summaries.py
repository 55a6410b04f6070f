"""Means and spreads over seeds, and bytes to quality, out of a benchmark's cells."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isnan, sqrt

from sheafalign_fl.benchmark.results import Benchmark, Cell, Kind
from sheafalign_fl.benchmark.statistics import ENOUGH_SEEDS
from sheafalign_fl.numbers import human_bytes, mean, percent

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
FILLED: dict[str, Score] = {
    "1 missing": lambda cell: mean_filled(cell, 1),
    "2 missing": lambda cell: mean_filled(cell, 2),
}
"""An imputed score -> the same with the training mean in place of what is imputed."""
ON_PAIRS = {
    "R@1": "recall_at_1",
    "R@10": "recall_at_10",
    "transfer, prototypes": "transfer_prototype",
    "transfer, logistic": "transfer_probe",
}
"""Scores that are means over pairs -> the field of `PairFigures`."""
Pairs = frozenset[tuple[str, str]]
FRACTION = 0.95
"""Of a baseline's final quality, for the bytes to quality."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over `count` seeds.

    Of one seed the deviation is 0, and is not shown.
    """

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Return the spread of the values that are known, None without any.

        The value of a run that diverged (NaN) is not known.
        """
        known = [value for value in values if value is not None and not isnan(value)]
        if not known:
            return None
        centre = sum(known) / len(known)
        squares = sum((value - centre) ** 2 for value in known)
        return cls(centre, sqrt(squares / (len(known) - 1)) if len(known) > 1 else 0.0, len(known))

    @property
    def percent(self) -> str:
        """Fractions as "54.3 ± 1.2", to stand under a heading or before a sign that says %."""
        return (
            f"{percent(self.mean)} ± {percent(self.deviation)}"
            if self.count > 1
            else percent(self.mean)
        )

    @property
    def bytes(self) -> str:
        """Bytes as "1.09 MB ± 111 kB"; alone where all seeds agree."""
        text = human_bytes(round(self.mean))
        return f"{text} ± {human_bytes(round(self.deviation))}" if self.deviation else text


@dataclass(frozen=True)
class Entry:
    """One method in one variant on one data set, all seeds together."""

    data: str
    method: str
    variant: str
    kind: Kind
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The name in tables and figures: with the variant, unless the method is named after it."""
        if self.is_part:
            return f"{self.base}, {self.variant}"
        if self.base or self.variant in ("", self.method):
            return self.method
        return f"{self.method} ({self.variant})"

    def score(self, name: str, pairs: "Pairs | None" = None) -> Spread | None:
        """Return the spread of one of `SCORES`, or of one of `ON_PAIRS` over `pairs` alone."""
        return Spread.of(score_of(cell, name, pairs) for cell in self.cells)

    def filled(self, name: str) -> Spread | None:
        """Return the spread of a score of `FILLED` without imputation."""
        return Spread.of(FILLED[name](cell) for cell in self.cells)

    @property
    def base(self) -> str:
        """The method that this is a variant of by the file's `variants`."""
        return self.cells[0].base

    @property
    def is_part(self) -> bool:
        """Whether it has one factor of a variant alone; `decomposition` shows those."""
        return bool(self.base) and ": " in self.variant

    @property
    def own_edges(self) -> Pairs | None:
        """The pairs that it trains where more were measured, as of a star; None elsewhere."""
        pairs = self.cells[0].pairs
        own = frozenset((pair.source, pair.target) for pair in pairs if pair.trained)
        return own if own and len(own) < len(pairs) else None

    @property
    def payload_bytes(self) -> float:
        """Training payload, mean over seeds."""
        return sum(cell.payload_bytes for cell in self.cells) / len(self.cells)

    @property
    def message_bytes(self) -> float:
        """Training payload with all framing, mean over seeds."""
        return sum(cell.message_bytes for cell in self.cells) / len(self.cells)

    @property
    def relay_bytes(self) -> float:
        """What crosses the network by way of the relay in training, mean over seeds."""
        return sum(cell.relay_bytes for cell in self.cells) / len(self.cells)

    @property
    def framing(self) -> float:
        """Message bytes for one byte of payload; 1 where nothing is sent."""
        return self.message_bytes / self.payload_bytes if self.payload_bytes else 1.0

    @property
    def evaluation_bytes(self) -> tuple[float | None, float | None, float | None]:
        """Payload, messages and relay of all evaluations, means over seeds; None of before."""
        payload = mean(cell.evaluation_payload_bytes for cell in self.cells)
        messages = mean(cell.evaluation_message_bytes for cell in self.cells)
        return payload, messages, mean(cell.evaluation_relay_bytes for cell in self.cells)

    @property
    def exchanges(self) -> int:
        """Of every cell."""
        return self.cells[0].exchanges

    @property
    def bytes_per_exchange(self) -> float | None:
        """Training payload of one exchange; None where nothing was exchanged."""
        exchanges = self.cells[0].exchanges
        federated = exchanges > 0 and any(cell.curve for cell in self.cells)
        return self.payload_bytes / exchanges if federated else None


@dataclass(frozen=True)
class Reached:
    """Payload bytes until a target was reached: one value per run in `by_seed`, None for never."""

    by_seed: tuple[int | None, ...]

    @property
    def spread(self) -> Spread | None:
        """Mean and deviation of the bytes, over the runs that reached the target."""
        return Spread.of(self.by_seed)

    @property
    def payload_bytes(self) -> float | None:
        """Mean bytes of the runs that reached the target."""
        return None if self.spread is None else self.spread.mean

    @property
    def count(self) -> int:
        """How many runs reached the target."""
        return sum(value is not None for value in self.by_seed)

    @property
    def seeds(self) -> int:
        """How many runs there are."""
        return len(self.by_seed)


def data_sets(benchmark: Benchmark) -> list[str]:
    """Return the names of the data sets, in the order of the cells."""
    return list(dict.fromkeys(cell.data for cell in benchmark.cells))


def entries(benchmark: Benchmark, data: str) -> list[Entry]:
    """Return one entry for each method and variant on `data`, in the order of the cells."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in benchmark.cells:
        if cell.data == data:
            groups.setdefault((cell.method, cell.variant), []).append(cell)
    return [Entry(data, *name, cells[0].kind, tuple(cells)) for name, cells in groups.items()]


def whole_entries(benchmark: Benchmark, data: str) -> list[Entry]:
    """Return the entries on `data` without those that have one factor of a variant alone."""
    return [entry for entry in entries(benchmark, data) if not entry.is_part]


def named(found: Sequence[Entry], method: str, variant: str = "") -> Entry | None:
    """Return the entry of a method in a variant, by default its main one; None if there is none."""
    return next(
        (entry for entry in found if (entry.method, entry.variant) == (method, variant)), None
    )


def score_of(cell: Cell, name: str, pairs: Pairs | None = None) -> float | None:
    """Return one of `SCORES`; over `pairs` alone, None unless all of them were measured."""
    if pairs is None:
        return SCORES[name](cell)
    chosen = [pair for pair in cell.pairs if (pair.source, pair.target) in pairs]
    values = [getattr(pair, ON_PAIRS[name]) for pair in chosen]
    return None if len(values) < len(pairs) or None in values else sum(values) / len(values)


def per_seed(
    ours: Entry, theirs: Entry, score: Score, *, whole: bool = False
) -> list[tuple[float, float]]:
    """Return the scores of both with every seed that both have, in the order of the seeds.

    With `whole` the seeds beyond the last full `ENOUGH_SEEDS` are left out: who adds seeds to what
    is open looks at verdicts there and nowhere between.
    """
    first, second = ({cell.seed: score(cell) for cell in entry.cells} for entry in (ours, theirs))
    found = [
        (a, b)
        for seed in sorted(first.keys() & second.keys())
        if (a := first[seed]) is not None and (b := second[seed]) is not None
        if not (isnan(a) or isnan(b))
    ]
    full = len(found) - len(found) % ENOUGH_SEEDS
    return found[:full] if whole and full else found


def mean_filled(cell: Cell, missing: int) -> float | None:
    """Return the fused probe's accuracy with `missing` clients absent, and means in their place."""
    return next((point.mean_fill for point in cell.missing if point.missing == missing), None)


def imputed(cell: Cell, missing: int) -> float | None:
    """Return the fused probe's accuracy with `missing` clients absent and imputed.

    By the ridge that is the same for every method; where there is none (nothing was received, or
    results are of the time before it) the paper's way.
    """
    point = next((point for point in cell.missing if point.missing == missing), None)
    if point is None:
        return None
    return point.imputed if point.ridge is None else point.ridge


def final_validation(entry: Entry) -> Spread | None:
    """Return R@10 at the end of the learning curves, on validation events; None without curves."""
    return Spread.of(cell.curve[-1].recall_at_10 for cell in entry.cells if cell.curve)


def target_of(entry: Entry, fraction: float = FRACTION) -> float | None:
    """Return `fraction` of a baseline's final validation R@10, mean of seeds; None if no curve."""
    final = final_validation(entry)
    return None if final is None else fraction * final.mean


def bytes_to(entry: Entry, target: float) -> Reached:
    """Return the training payload until validation R@10 reached `target` (DESIGN section 5.6)."""
    return Reached(tuple(first_reach(cell, target) for cell in entry.cells))


def first_reach(cell: Cell, target: float) -> int | None:
    """Return the training payload when validation R@10 first reached `target`; None for never."""
    return next((point.payload_bytes for point in cell.curve if point.recall_at_10 >= target), None)


def bytes_to_quality(benchmark: Benchmark, data: str, target: float) -> list[tuple[Entry, Reached]]:
    """Return every entry with a learning curve on `data`, and its bytes until it reached `target`.

    `target`, of R@10 on validation events, is a fraction between 0 and 1; `target_of` derives it
    from a baseline.
    """
    return [
        (entry, bytes_to(entry, target))
        for entry in entries(benchmark, data)
        if any(cell.curve for cell in entry.cells)
    ]


def best(found: Sequence[Entry], name: str) -> Entry | None:
    """Return the entry with the highest mean of a score, first of equals; None if nobody has it."""
    scored = [
        (spread.mean, -index)
        for index, entry in enumerate(found)
        if (spread := entry.score(name)) is not None
    ]
    return found[-max(scored)[1]] if scored else None
