"""What a variant gains, taken apart: method, and each factor alone and all of them together.

All ratios are of bytes until one and the same R@10, so they can be multiplied: where the product of
the factors is not what all together gain, they depend on each other.
"""

from collections.abc import Sequence
from math import exp, log, prod

from sheafalign_fl.benchmark.results import Benchmark
from sheafalign_fl.benchmark.statistics import Paired
from sheafalign_fl.benchmark.summaries import (
    FRACTION,
    Entry,
    bytes_to,
    entries,
    first_reach,
    named,
    per_seed,
    score_of,
    target_of,
)
from sheafalign_fl.benchmark.variants import part_of
from sheafalign_fl.numbers import NONE, percent
from sheafalign_fl.report.content import Cells, Table


def decomposition_tables(benchmark: Benchmark, data: str) -> list[Table]:
    """Return a table for each variant on `data` of which single factors were run too."""
    there = entries(benchmark, data)
    variants = dict.fromkeys(entry.variant.partition(": ")[0] for entry in there if entry.is_part)
    tables = (_table(data, variant, there) for variant in variants)
    return [table for table in tables if table is not None]


def _table(data: str, variant: str, there: Sequence[Entry]) -> Table | None:
    start = part_of(variant, "")
    parts = [entry for entry in there if entry.base and entry.variant.startswith(start)]
    bases = [
        entry
        for name in dict.fromkeys(entry.base for entry in parts)
        if (entry := named(there, name)) is not None
    ]
    # Single spaces first, so that the method's own gain is what the sheaf adds to them.
    bases.sort(key=lambda entry: entry.kind == "sheaf")
    targets = [target for entry in bases if (target := target_of(entry)) is not None]
    if not targets:
        return None
    target = min(targets)
    rows: list[Cells] = []
    for base in bases:
        against = None if base is bases[0] else bases[0]
        rows.append(_row(base.name, "method" if against else NONE, base, against, target))
        own = [entry for entry in parts if entry.base == base.method]
        rows += [_row("", entry.variant.removeprefix(start), entry, base, target) for entry in own]
        gains = [_fewer(entry, base, target) for entry in own]
        known = [gain for gain in gains if gain is not None]
        product = _times(prod(known)) if len(known) == len(gains) else NONE
        rows.append(("", "these multiplied", "", product, "", ""))
        whole = next((e for e in there if (e.base, e.variant) == (base.method, variant)), None)
        if whole is not None:
            rows.append(_row("", "all together", whole, base, target))
    columns = (
        "method",
        "changed",
        f"to {percent(target)} %",
        "fewer",
        "R@10",
        "points",
    )
    note = (
        f"Training payload until validation R@10 is {100 * FRACTION:.0f} % of the lowest final "
        f"value of {' and '.join(base.name for base in bases)}. Fewer: how many times fewer bytes; "
        "points: of R@10 on test events. Both against the method's own row, and the method's row "
        "against the first; geometric mean and mean over the seeds, with the 95 % interval of the "
        "difference."
    )
    return Table(f"{data}: what {variant} gains", columns, tuple(rows), text_columns=2, note=note)


def _row(name: str, changed: str, entry: Entry, against: Entry | None, target: float) -> Cells:
    reached, score = bytes_to(entry, target), entry.score("R@10")
    spent = "not reached" if reached.spread is None else reached.spread.bytes
    if reached.spread is not None and reached.count < reached.seeds:
        spent = f"{spent} ({reached.count} of {reached.seeds} seeds)"
    shown = NONE if score is None else score.percent
    if against is None:
        return (name, changed, spent, NONE, shown, NONE)
    return (
        name,
        changed,
        spent,
        _times(_fewer(entry, against, target)),
        shown,
        _points(entry, against),
    )


def _fewer(entry: Entry, against: Entry, target: float) -> float | None:
    """Return how many times fewer bytes `entry` needs; None unless every seed gets there."""
    pairs = per_seed(entry, against, lambda cell: first_reach(cell, target))
    if not pairs or len(pairs) < min(len(entry.cells), len(against.cells)):
        return None
    return exp(sum(log(theirs / ours) for ours, theirs in pairs) / len(pairs))


def _points(entry: Entry, against: Entry) -> str:
    pairs = per_seed(entry, against, lambda cell: score_of(cell, "R@10"))
    if not pairs:
        return NONE
    found = Paired.of([ours - theirs for ours, theirs in pairs])
    if found.count < 2:
        return f"{100 * found.mean:+.1f}"
    low, high = found.interval()
    return f"{100 * found.mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _times(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.{0 if ratio >= 10 else 1}f}"
