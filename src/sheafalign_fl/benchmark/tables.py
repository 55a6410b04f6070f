"""A benchmark's tables as text, for the terminal and the HTML report alike."""

from collections.abc import Sequence

from sheafalign_fl.benchmark.claims import BASELINES, Claim, Verdict
from sheafalign_fl.benchmark.results import Benchmark, Tuning
from sheafalign_fl.benchmark.summaries import (
    FRACTION,
    SCORES,
    Entry,
    Reached,
    best,
    bytes_to_quality,
    data_sets,
    entries,
    named,
    target_of,
)
from sheafalign_fl.numbers import NONE, count_of, duration, exact, human_bytes, percent
from sheafalign_fl.report.content import Table

SHORT = {
    "R@1": "R@1",
    "R@10": "R@10",
    "worst R@10": "worst R@10",
    "transfer, prototypes": "ZS proto",
    "transfer, logistic": "ZS logistic",
    "probe": "probe",
    "1 missing": "missing 1",
    "2 missing": "missing 2",
}
"""Score -> heading of its column. ZS: zero-shot transfer."""
_BRIEF = SHORT | {
    "worst R@10": "worst",
    "transfer, prototypes": "proto",
    "transfer, logistic": "logis",
    "1 missing": "1 miss",
    "2 missing": "2 miss",
}
MARKS: dict[Verdict, str] = {"holds": "✓", "does not hold": "✗", "not measured": "–"}
"""Signs that say the verdict without colour."""
ENOUGH_SEEDS = 3


def results_table(benchmark: Benchmark, data: str, *, brief: bool = False) -> Table:
    """Return all entries on `data`, the best main entry starred.

    Figures are mean ± standard deviation over seeds, in percent. `brief` leaves out deviations and
    side columns, so that the table fits a terminal of 80 columns.
    """
    found = entries(benchmark, data)
    names = [name for name in SCORES if any(entry.score(name) is not None for entry in found)]
    mains = [entry for entry in found if not entry.variant and entry.kind != "reference"]
    winners = {name: _winners(mains, name) for name in names}
    rows = []
    for entry in found:
        scores = tuple(
            _scored(entry, name, starred=entry.name in winners[name], brief=brief) for name in names
        )
        payload = human_bytes(round(entry.payload_bytes))
        if brief:
            rows.append((entry.method, *scores, payload))
        else:
            rows.append(
                (
                    entry.name,
                    entry.kind,
                    str(len(entry.cells)),
                    *scores,
                    f"{payload}\n{_an_exchange(entry)}",
                )
            )
    gallery = min(cell.gallery for entry in found for cell in entry.cells)
    note = (
        f"Percent, test events; retrieval among {exact(gallery)} events. * marks the best main "
        "entry (no variant, no reference). Payload is that of training, over all edges and "
        "directions."
    )
    if brief:
        columns = ("method", *(_BRIEF[name] for name in names), "payload")
        note += " proto, logis: zero-shot transfer. 1 miss, 2 miss: clients missing, imputed."
        return Table(f"{data}: results", columns, tuple(rows), note=note)
    columns = ("method", "kind", "seeds", *(SHORT[name] for name in names), "payload\nan exchange")
    return Table(
        f"{data}: results", columns, tuple(rows), text_columns=2, note=note, wide=frozenset({0})
    )


def bytes_table(benchmark: Benchmark, data: str) -> Table | None:
    """Return the bytes to `FRACTION` of each single-space baseline's final validation R@10."""
    found = entries(benchmark, data)
    baselines = [entry for name in BASELINES if (entry := named(found, name)) is not None]
    targets = [
        (entry.name, target) for entry in baselines if (target := target_of(entry)) is not None
    ]
    if not targets:
        return None
    reached = [bytes_to_quality(benchmark, data, target) for _, target in targets]
    rows = tuple(
        (several[0][0].name, *(_reached(one) for _, one in several))
        for several in zip(*reached, strict=True)
    )
    columns = ("method", *(f"R@10 of {percent(target)} % ({name})" for name, target in targets))
    note = (
        f"Training payload when validation R@10 first reached {100 * FRACTION:.0f} % of the "
        "baseline's final value; mean ± standard deviation over the seeds that got there. As fine "
        "as the steps between two validations."
    )
    return Table("Bytes to quality", columns, rows, note=note)


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
    """Return how many claims hold."""
    measured = [claim for claim in found if claim.verdict != "not measured"]
    holding = sum(claim.verdict == "holds" for claim in measured)
    return f"{holding} of {len(measured)} hold"


def tuning_table(tuning: Tuning) -> Table:
    """Return all trials of one method on one data set, the chosen one starred."""
    keys = tuple(dict.fromkeys(key for trial in tuning.trials for key in trial.settings))
    scores = [trial.score for trial in tuning.trials]
    # As the sweep chooses: the first of equals.
    chosen = scores.index(max(scores)) if scores else -1
    rows = tuple(
        (
            *(str(trial.settings.get(key, NONE)) for key in keys),
            ("*" if index == chosen else "") + percent(trial.score),
        )
        for index, trial in enumerate(tuning.trials)
    )
    return Table(
        f"{tuning.data}, {tuning.method}", (*keys, "score, %"), rows, text_columns=len(keys)
    )


def facts_of(benchmark: Benchmark) -> list[tuple[str, str]]:
    """Return what a reader has to know to trust or repeat the benchmark."""
    seeds = sorted({cell.seed for cell in benchmark.cells})
    return [
        ("commit", benchmark.commit or "unknown"),
        (
            "versions",
            ", ".join(f"{name} {version}" for name, version in benchmark.versions.items()),
        ),
        ("runs", count_of(len(benchmark.cells), "cell")),
        ("seeds", ", ".join(map(str, seeds))),
        ("wall time", duration(benchmark.seconds)),
        ("tuning", f"maximises {benchmark.criterion}"),
    ]


def warnings_of(benchmark: Benchmark) -> list[str]:
    """Return what weakens the figures: seeds too few or twice, a tuning that told nothing apart."""
    found = [entry for data in data_sets(benchmark) for entry in entries(benchmark, data)]
    seeds = [
        (f"{entry.name} on {entry.data}", [cell.seed for cell in entry.cells]) for entry in found
    ]
    few = [name for name, own in seeds if len(set(own)) < ENOUGH_SEEDS]
    twice = [name for name, own in seeds if len(set(own)) < len(own)]
    flat = [
        f"{item.method} on {item.data}"
        for item in benchmark.tuning
        if len(item.trials) > 1 and len({trial.score for trial in item.trials}) == 1
    ]
    texts = []
    if few:
        texts.append(
            f"Fewer than {ENOUGH_SEEDS} seeds, so no claim can rest on it: {'; '.join(few)}."
        )
    if twice:
        texts.append(
            "A seed is there twice, so means and deviations are not over seeds: "
            f"{'; '.join(twice)}."
        )
    if flat:
        texts.append(
            "All trials scored the same, so tuning chose nothing and took the first: "
            f"{'; '.join(flat)}."
        )
    return texts


def _legend() -> str:
    return ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())


def _winners(mains: Sequence[Entry], name: str) -> set[str]:
    """Return who is best, with all whose figure reads the same.

    Else the order of the rows would decide between equals.
    """
    top = best(mains, name)
    means = {
        entry.name: percent(spread.mean)
        for entry in mains
        if (spread := entry.score(name)) is not None
    }
    return set() if top is None else {own for own, mean in means.items() if mean == means[top.name]}


def _scored(entry: Entry, name: str, *, starred: bool, brief: bool) -> str:
    spread = entry.score(name)
    if spread is None:
        return NONE
    # The deviation goes below the mean: eight columns of both side by side are wider than a page.
    text = percent(spread.mean) if brief else spread.percent.replace(" ±", "\n±")
    # The star stands in front, so that the digits of a column stay under each other.
    return f"*{text}" if starred else text


def _an_exchange(entry: Entry) -> str:
    return (
        NONE if entry.bytes_per_exchange is None else human_bytes(round(entry.bytes_per_exchange))
    )


def _reached(reached: Reached) -> str:
    if reached.spread is None:
        return "not reached"
    text = reached.spread.bytes
    return (
        text
        if reached.count == reached.seeds
        else f"{text} ({reached.count} of {reached.seeds} seeds)"
    )
