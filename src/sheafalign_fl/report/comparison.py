"""The report that compares several runs.

Runs that differ in nothing but their seed are one method; its values are mean and standard
deviation over seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sheafalign_fl.numbers import (
    count_of,
    duration,
    human_bytes,
    mean,
    percent,
)
from sheafalign_fl.report import comparison_plots, comparison_results
from sheafalign_fl.report.content import Cells, Table
from sheafalign_fl.report.page import Html, details, facts, paragraph, section, table
from sheafalign_fl.report.page import header as page_header
from sheafalign_fl.report.record import reproduce_facts
from sheafalign_fl.report.style import draw
from sheafalign_fl.runs.reading import Run

_ENOUGH_SEEDS = 5
_TARGETS = (0.5, 0.75, 0.9)
_NOT_THE_METHOD = {"seed", "name", "engine", "resources", "checkpoint"}
_MISSING = "not set"

Groups = Mapping[str, Sequence[Run]]


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return method -> its runs, in the order given. Methods of one name get a number."""
    methods: dict[str, list[Run]] = {}
    for run in runs:
        methods.setdefault(
            repr(run.settings.model_dump(mode="json", exclude=_NOT_THE_METHOD)), []
        ).append(run)
    groups: dict[str, list[Run]] = {}
    for members in methods.values():
        name, number = members[0].name, 2
        while name in groups:
            name, number = f"{members[0].name} ({number})", number + 1
        groups[name] = members
    return groups


def header(groups: Groups) -> Html:
    """Return title and what is compared."""
    count = sum(map(len, groups.values()))
    few = [
        name
        for name, runs in groups.items()
        if len({run.settings.seed for run in runs}) < _ENOUGH_SEEDS
    ]
    methods = count_of(len(groups), "method")
    lead = (
        f"{count_of(count, 'run')} of {methods}. Runs that differ only in their seed are one "
        "method: mean ± standard deviation over seeds."
    )
    title = " · ".join(groups) if len(groups) <= 4 else methods
    parts = []
    if few:
        text = f"Fewer than {_ENOUGH_SEEDS} seeds, so no claim can rest on it: {', '.join(few)}."
        parts.append(paragraph(text, kind="notice"))
    if unfinished := [
        str(run.path) for runs in groups.values() for run in runs if run.summary is None
    ]:
        text = f"Interrupted, so without test results: {', '.join(unfinished)}."
        parts.append(paragraph(text, kind="notice"))
    return page_header("SheafAlign-FL comparison", title, lead, parts)


def sections(groups: Groups) -> list[tuple[str, str, Html]]:
    """Return (anchor, title, HTML) of every section."""
    builders = (
        ("results", "Results", comparison_results.results),
        ("learning", "Quality against cost", _learning),
        ("failing", "When sensors fail", _missing),
        ("settings", "What differs", _differences),
        ("runs", "Runs", _runs),
    )
    found = (
        (anchor, title, section(anchor, title, *build(groups))) for anchor, title, build in builders
    )
    return [(anchor, title, content) for anchor, title, content in found if content is not None]


def _learning(groups: Groups) -> list[Html | None]:
    return [
        draw(
            "retrieval",
            comparison_plots.retrieval_comparison(groups),
            "Retrieval against exchanges and against bytes",
            "Mean R@10 over directions on validation events, one line for each run, one colour for "
            "each method. Good: high and far to the left. Left: what an exchange buys; right: what "
            "a byte buys.",
        ),
        _bytes_to_quality(groups),
    ]


def _bytes_to_quality(groups: Groups) -> Html | None:
    """Return the table of DESIGN section 5.6: training payload until R@10 reaches a target."""
    best = max(
        (value for runs in groups.values() for run in runs for _, value in _validation(run)),
        default=0.0,
    )
    if best <= 0:
        return None
    targets = [fraction * best for fraction in _TARGETS]
    rows = []
    for name, runs in groups.items():
        reached = [[_first_reach(run, target) for run in runs] for target in targets]
        rows.append((name, *(_bytes_reached(values) for values in reached)))
    columns = ("method", *(f"R@10 of {percent(target)} %" for target in targets))
    return table(
        Table("Bytes to quality", columns, tuple(rows)),
        "Training payload when validation R@10 first reached 50, 75 and 90 % of the best value "
        "that any run here reached. Mean over the runs that got there; fewer is better. It is only "
        "as fine as the steps between two evaluations.",
    )


def _missing(groups: Groups) -> list[Html | None]:
    return [
        draw(
            "missing",
            comparison_plots.missing_comparison(groups),
            "Accuracy with missing clients",
            "Accuracy of one classifier over all clients' embeddings, with those of missing "
            "clients imputed from their neighbours; mean over choices and seeds. Good: high and "
            "flat.",
        )
    ]


def _differences(groups: Groups) -> list[Html | None]:
    settings = {
        name: dict(_flat(runs[0].settings.model_dump(mode="json", exclude=_NOT_THE_METHOD)))
        for name, runs in groups.items()
    }
    keys = sorted({key for flat in settings.values() for key in flat})
    differing = [
        key for key in keys if len({flat.get(key, _MISSING) for flat in settings.values()}) > 1
    ]
    if not differing:
        return [
            paragraph("Nothing but seed, name, engine or resources differs between these runs.")
        ]
    rows: tuple[Cells, ...] = tuple(
        (key, *(flat.get(key, _MISSING) for flat in settings.values())) for key in differing
    )
    shown = Table(
        "Settings that are not the same", ("setting", *groups), rows, text_columns=1 + len(groups)
    )
    return [
        table(
            shown,
            "All other settings are equal, so differences in the results come from these and from "
            "the seed.",
        )
    ]


def _runs(groups: Groups) -> list[Html | None]:
    rows = tuple(
        (
            name,
            str(run.path),
            run.state,
            str(run.settings.seed),
            str(len(run.summary.absences) if run.summary is not None else len(run.absences)),
            str(run.done),
            duration(run.seconds),
        )
        for name, runs in groups.items()
        for run in runs
    )
    columns = ("method", "folder", "state", "seed", "absences", "exchanges", "wall time")
    return [
        table(Table("All runs", columns, rows, text_columns=3, wide=frozenset({1}))),
        *(
            details(f"{run.path}", facts(reproduce_facts(run)))
            for runs in groups.values()
            for run in runs
        ),
    ]


def _validation(run: Run) -> list[tuple[int, float]]:
    """Return (payload bytes, mean R@10) of every validation."""
    return [
        (row.payload_bytes, mean(item.recall_at_10 for item in row.quality.retrieval) or 0.0)
        for row in run.evaluations
        if row.quality.split == "validation" and row.quality.retrieval
    ]


def _first_reach(run: Run, target: float) -> int | None:
    return next((payload for payload, value in _validation(run) if value >= target), None)


def _bytes_reached(values: Sequence[int | None]) -> str:
    reached = [value for value in values if value is not None]
    if not reached:
        return "not reached"
    text = human_bytes(round(sum(reached) / len(reached)))
    return text if len(reached) == len(values) else f"{text} ({len(reached)} of {len(values)} runs)"


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, _plain(value)


def _plain(value: Any) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
