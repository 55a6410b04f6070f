"""A benchmark's tables as text, for the terminal, the HTML report and README alike."""

from sheafalign_fl.benchmark.claims import Claim, claims
from sheafalign_fl.benchmark.results import Benchmark, Tuning
from sheafalign_fl.benchmark.summaries import SCORES, Entry, best, bytes_to, entries, target_of
from sheafalign_fl.report.content import Table
from sheafalign_fl.report.numbers import NONE, count_of, duration, human_bytes, mean, percent, percent_with_spread

_FRACTION = 0.95


def results_table(benchmark: Benchmark, data: str, *, brief: bool = False) -> Table:
    """Return all methods on `data`: mean ± standard deviation over seeds in percent, the best main entry starred.

    `brief` leaves out the deviations, so that the table fits a terminal.
    """
    found = entries(benchmark, data)
    names = [name for name in SCORES if any(entry.score(name) is not None for entry in found)]
    winners = {name: best([e for e in found if not e.variant and e.kind != "reference"], name) for name in names}
    rows = tuple(
        (
            entry.method,
            entry.variant or entry.kind,
            *(_scored(entry, name, starred=winners[name] is entry, brief=brief) for name in names),
            human_bytes(round(entry.payload_bytes)),
            NONE if entry.bytes_per_exchange is None else human_bytes(round(entry.bytes_per_exchange)),
        )
        for entry in found
    )
    first = found[0].cells
    seeds = ", ".join(str(cell.seed) for cell in first)
    note = (
        f"Percent, test events, {count_of(len(first), 'seed')} ({seeds}); retrieval among {first[0].gallery:,} events. "
        "* marks the best main entry; payload is that of training, over all edges and directions."
    )
    columns = ("method", "kind", *names, "payload", "an exchange")
    return Table(f"{data}: results", columns, rows, text_columns=2, note=note)


def bytes_table(benchmark: Benchmark, data: str) -> Table | None:
    """Return the bytes until validation R@10 reaches 95 % of each single-space baseline's final value."""
    found = entries(benchmark, data)
    baselines = [entry for entry in found if entry.method in ("imagebind", "clip-pairs") and entry.cells[0].curve]
    targets = {entry.method: target for entry in baselines if (target := target_of(entry, _FRACTION)) is not None}
    if not targets:
        return None
    rows = tuple(
        (entry.method, *(_reached(entry, target) for target in targets.values()))
        for entry in found
        if any(cell.curve for cell in entry.cells)
    )
    columns = ("method", *(f"R@10 of {percent(target)} % ({name})" for name, target in targets.items()))
    note = (
        "Training payload when validation R@10 first reached 95 % of the baseline's final value; mean over the seeds "
        "that got there. As fine as the steps between two validations."
    )
    return Table("Bytes to quality", columns, rows, note=note)


def claims_table(benchmark: Benchmark) -> Table:
    """Return one sentence for each claim and data set."""
    rows = tuple((row.data, row.claim, row.verdict, row.sentence) for row in claims(benchmark))
    return Table("Claims", ("data", "claim", "verdict", "by how much"), rows, text_columns=4, wide=frozenset({3}))


def tuning_table(tuning: Tuning) -> Table:
    """Return all trials of one method on one data set, the chosen one starred."""
    keys = tuple(tuning.trials[0].settings)
    scores = [trial.score for trial in tuning.trials]
    chosen = scores.index(max(scores))
    rows = tuple(
        (*(str(trial.settings[key]) for key in keys), percent(trial.score) + (" *" if index == chosen else ""))
        for index, trial in enumerate(tuning.trials)
    )
    return Table(f"{tuning.data}, {tuning.method}", (*keys, "score, %"), rows, text_columns=len(keys))


def facts_of(benchmark: Benchmark) -> list[tuple[str, str]]:
    """Return what a reader has to know to trust or repeat the benchmark."""
    seeds = sorted({cell.seed for cell in benchmark.cells})
    return [
        ("commit", benchmark.commit or "unknown"),
        ("versions", ", ".join(f"{name} {version}" for name, version in benchmark.versions.items())),
        ("runs", count_of(len(benchmark.cells), "cell")),
        ("seeds", ", ".join(map(str, seeds))),
        ("wall time", duration(benchmark.seconds)),
        ("tuning", f"maximises {benchmark.criterion}"),
    ]


def claims_tally(found: list[Claim]) -> str:
    """Return how many claims hold."""
    measured = [claim for claim in found if claim.verdict != "not measured"]
    holding = sum(claim.verdict == "holds" for claim in measured)
    return f"{holding} of {len(measured)} hold"


def _scored(entry: Entry, name: str, *, starred: bool, brief: bool) -> str:
    values = [SCORES[name](cell) for cell in entry.cells]
    return (percent(mean(values)) if brief else percent_with_spread(values)) + (" *" if starred else "")


def _reached(entry: Entry, target: float) -> str:
    found = bytes_to(entry, target)
    if found.payload_bytes is None:
        return "not reached"
    text = human_bytes(round(found.payload_bytes))
    return text if found.count == found.seeds else f"{text} ({found.count} of {found.seeds} seeds)"
