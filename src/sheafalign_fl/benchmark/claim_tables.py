"""The verdicts on claims as tables, for the terminal and the HTML report alike."""

from collections.abc import Sequence

from sheafalign_fl.benchmark.statistics import ENOUGH_SEEDS
from sheafalign_fl.benchmark.verdicts import Claim, Verdict
from sheafalign_fl.numbers import NONE, count_of
from sheafalign_fl.report.content import Table

MARKS: dict[Verdict, str] = {"holds": "✓", "does not hold": "✗", "open": "?", "not measured": "–"}
"""Signs that say the verdict without colour."""


def claims_table(found: Sequence[Claim]) -> Table:
    """Return one sentence for each claim and data set, claim by claim."""
    ordered = [
        claim
        for name in dict.fromkeys(claim.claim for claim in found)
        for claim in found
        if claim.claim == name
    ]
    rows = tuple(
        (row.claim, row.data, f"{MARKS[row.verdict]} {row.verdict}", row.sentence)
        for row in ordered
    )
    columns = ("claim", "data", "verdict", "by how much")
    return Table("Claim by claim", columns, rows, text_columns=4, wide=frozenset({0, 3}))


def claims_matrix(found: Sequence[Claim]) -> Table:
    """Return claims by data sets: a sign for each verdict."""
    sets = tuple(dict.fromkeys(claim.data for claim in found))
    verdicts = {(claim.claim, claim.data): claim.verdict for claim in found}
    rows = tuple(
        (name, *(MARKS[verdicts.get((name, data), "not measured")] for data in sets))
        for name in dict.fromkeys(claim.claim for claim in found)
    )
    return Table("At a glance", ("claim", *sets), rows, text_columns=1 + len(sets), note=_legend())


def claims_lists(found: Sequence[Claim]) -> Table:
    """Return each claim's data sets by verdict; it folds into narrow terminals, unlike a matrix."""
    rows = []
    for name in dict.fromkeys(claim.claim for claim in found):
        mine = [claim for claim in found if claim.claim == name]
        lists = (
            ", ".join(claim.data for claim in mine if claim.verdict == verdict) or NONE
            for verdict in MARKS
        )
        rows.append((name, *lists))
    return Table(
        f"Claims: {claims_tally(found)}",
        ("claim", *MARKS),
        tuple(rows),
        text_columns=1 + len(MARKS),
    )


def claims_tally(found: Sequence[Claim]) -> str:
    """Return how many claims hold, do not hold, and are open."""
    counts = {verdict: sum(claim.verdict == verdict for claim in found) for verdict in MARKS}
    return (
        f"{counts['holds']} of {len(found) - counts['not measured']} hold, "
        f"{counts['does not hold']} do not, {counts['open']} are open"
    )


def still_open(found: Sequence[Claim]) -> list[str]:
    """Return what is open, and how many seeds that needs; a line for those with enough of them."""
    opened = [claim for claim in found if claim.verdict == "open"]
    few = [claim for claim in opened if (claim.seeds or 0) < ENOUGH_SEEDS]
    lines = []
    if few:
        lines.append(
            f"Open for want of seeds: {count_of(len(few), 'claim')}; a verdict needs at least "
            f"{ENOUGH_SEEDS}."
        )
    for claim in opened:
        if claim not in few:
            needed = (
                "no number of seeds can be told"
                if claim.needed is None
                else (f"about {claim.needed} would settle it if nothing changed")
            )
            lines.append(f"Open: {claim.data}, {claim.claim}, {claim.seeds} seeds; {needed}.")
    return lines


def _legend() -> str:
    return ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
