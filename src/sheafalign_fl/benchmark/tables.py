"""A benchmark's tables as text, for the terminal and the HTML report alike."""

from collections.abc import Sequence

from sheafalign_fl.benchmark.byte_claims import BASELINES
from sheafalign_fl.benchmark.results import Benchmark, Tuning
from sheafalign_fl.benchmark.summaries import (
    FILLED,
    FRACTION,
    ON_PAIRS,
    SCORES,
    Entry,
    Reached,
    Spread,
    best,
    bytes_to_quality,
    entries,
    named,
    target_of,
    whole_entries,
)
from sheafalign_fl.numbers import NONE, exact, human_bytes, percent
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

OWN_EDGES = "own edges"


def results_table(benchmark: Benchmark, data: str, *, brief: bool = False) -> Table:
    """Return all entries on `data`, the best main entry starred.

    Figures are mean ± standard deviation over seeds, in percent. Below an entry that trains fewer
    pairs than were measured stand its means over those that it trains. `brief` leaves out
    deviations and side columns, so that the table fits a terminal of 80 columns.
    """
    found = whole_entries(benchmark, data)
    names = _measured(found, [name for name in SCORES if not (brief and name in FILLED)])
    mains = [entry for entry in found if not entry.variant and entry.kind != "reference"]
    winners = {name: _winners(mains, name) for name in names}
    rows = []
    for entry in found:
        scores = tuple(
            _scored(entry, name, starred=entry.name in winners[name], brief=brief) for name in names
        )
        own = tuple(_on_own_edges(entry, name, brief=brief) for name in names)
        if brief:
            payload = human_bytes(round(entry.payload_bytes))
            rows.append((entry.method, *scores, payload))
            rows += [(OWN_EDGES, *own, "")] if entry.own_edges else []
        else:
            seeds = str(len(entry.cells))
            rows.append((entry.name, entry.kind, seeds, *scores, _payload(entry)))
            rows += [(f"{entry.name}, {OWN_EDGES}", "", "", *own, "")] if entry.own_edges else []
    note = (
        f"Percent, test events. {conditions(benchmark, data)} * marks the best main entry (no "
        "variant, no reference). Bytes are those of training, over all edges and directions."
    )
    if any(entry.own_edges for entry in found):
        note += f" {OWN_EDGES}: the pairs that a method trains, where more are measured."
    if brief:
        columns = ("method", *(_BRIEF[name] for name in names), "payload")
        note += " proto, logis: zero-shot transfer."
        return Table(f"{data}: results", columns, tuple(rows), note=note)
    columns = (
        "method",
        "kind",
        "seeds",
        *(SHORT[name] for name in names),
        "payload\nan exchange",
    )
    return Table(
        f"{data}: results", columns, tuple(rows), text_columns=2, note=note, wide=frozenset({0})
    )


def missing_table(benchmark: Benchmark, data: str) -> Table | None:
    """Return what imputation gives beside the training mean in place of what is missing."""
    found = whole_entries(benchmark, data)
    names = _measured(found, list(FILLED))
    rows = tuple(
        (
            entry.name,
            *(
                text
                for name in names
                for spread in (entry.score(name), entry.filled(name))
                for text in (_shown(spread, brief=True),)
            ),
        )
        for entry in found
    )
    columns = ("method", *(head for name in names for head in (name, "mean-fill")))
    note = (
        "Percent; one classifier over all clients, of which so many are missing and imputed by one "
        "ridge regression (the paper's way in results of before it, or where nothing was received)."
    )
    return Table(f"{data}: missing clients", columns, rows, note=note) if names else None


def traffic_table(benchmark: Benchmark, data: str) -> Table:
    """Return the bytes of every entry: of training, and of all evaluations."""
    rows = tuple(
        (
            entry.name,
            *(
                human_bytes(round(count))
                for count in (entry.payload_bytes, entry.message_bytes, entry.relay_bytes)
            ),
            *(
                NONE if count is None else human_bytes(round(count))
                for count in entry.evaluation_bytes
            ),
        )
        for entry in entries(benchmark, data)
    )
    columns = ("method", "payload", "messages", "relay", "evaluation", "messages", "relay")
    note = (
        "Payload, messages with all framing, and what crosses the network by way of the relay: "
        "first of training, then of all evaluations."
    )
    return Table(f"{data}: bytes", columns, rows, note=note, wide=frozenset({0}))


def conditions(benchmark: Benchmark, data: str) -> str:
    """Return what figures are of: gallery, seeds, events of each split, and trials of tuning."""
    cells = [cell for cell in benchmark.cells if cell.data == data]
    gallery = min(cell.gallery for cell in cells)
    seeds = sorted({cell.seed for cell in cells})
    parts = [f"Retrieval among {exact(gallery)} events; seeds {_ranges(seeds)}"]
    splits = dict.fromkeys(split for cell in cells for split in cell.events)
    if splits:
        least = {
            split: min(cell.events[split] for cell in cells if split in cell.events)
            for split in splits
        }
        shared = ", ".join(f"{exact(count)} {split}" for split, count in least.items())
        parts.append(f"events of an edge, at least: {shared}")
    parts.append(_trials(benchmark, data))
    return f"{'; '.join(parts)}."


def _trials(benchmark: Benchmark, data: str) -> str:
    """Return how many trials of tuning each method had, and of which seed."""
    tuned = [item for item in benchmark.tuning if item.data == data]
    counts = sorted({len(item.trials) for item in tuned})
    if not counts:
        return "no tuning"
    count = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    whose = "seed 0" if all(item.seed is None for item in tuned) else "each seed for itself"
    return f"tuning: {count} trials for each tuned method, {whose}"


def _ranges(seeds: Sequence[int]) -> str:
    """Return seeds as 0–4, 7."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)


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
    note = "; ".join(
        f"{key} {value} is the {end} that was tried" for key, value, end in on_border(tuning)
    )
    return Table(title_of(tuning), (*keys, "score, %"), rows, text_columns=len(keys), note=note)


def title_of(tuning: Tuning) -> str:
    """Return whose tuning it is."""
    whose = "" if tuning.seed is None else f", seed {tuning.seed}"
    return f"{tuning.data}, {tuning.method}{whose}"


def on_border(tuning: Tuning) -> list[tuple[str, float, str]]:
    """Return (key, value, lowest or highest) of what was chosen where nothing lies beyond it."""
    if not tuning.trials:
        return []
    best_trial = max(tuning.trials, key=lambda trial: trial.score)
    found = []
    for key, value in best_trial.settings.items():
        tried = {trial.settings[key] for trial in tuning.trials if key in trial.settings}
        numbers = [other for other in tried if isinstance(other, int | float)]
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or len(numbers) < 2 or len(numbers) < len(tried):
            continue
        if value in (min(numbers), max(numbers)):
            found.append((key, float(value), "lowest" if value == min(numbers) else "highest"))
    return found


def _measured(found: Sequence[Entry], names: Sequence[str]) -> list[str]:
    """Return the scores that some entry has."""
    return [name for name in names if any(entry.score(name) is not None for entry in found)]


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
    text = _shown(entry.score(name), brief=brief)
    if text == NONE:
        return NONE
    filled = entry.filled(name) if name in FILLED else None
    if filled is not None:
        text = f"{text}\n({percent(filled.mean)})"
    # The star stands in front, so that the digits of a column stay under each other.
    return f"*{text}" if starred else text


def _on_own_edges(entry: Entry, name: str, *, brief: bool) -> str:
    """Return a score over the pairs that the entry trains, empty where it is no mean over pairs."""
    if name not in ON_PAIRS or entry.own_edges is None:
        return ""
    return _shown(entry.score(name, entry.own_edges), brief=brief)


def _shown(spread: Spread | None, *, brief: bool) -> str:
    if spread is None:
        return NONE
    # The deviation goes below the mean: eight columns of both side by side are wider than a page.
    return percent(spread.mean) if brief else spread.percent.replace(" ±", "\n±")


def _payload(entry: Entry) -> str:
    return f"{human_bytes(round(entry.payload_bytes))}\n{_an_exchange(entry)}"


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
