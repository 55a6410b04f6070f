"""What a run's report tells of the run itself: facts to know, and how to reproduce it."""

from collections.abc import Sequence

from sheafalign_fl.numbers import NONE, count_of, exact
from sheafalign_fl.report.content import Table, absence_table, departure_table, fault_table
from sheafalign_fl.report.page import (
    Html,
    code,
    details,
    facts,
    listing,
    named,
    paragraph,
    source,
    table,
)
from sheafalign_fl.runs.reading import Run
from sheafalign_fl.sheaf.terms import weights_in_words


def facts_section(run: Run) -> list[Html | None]:
    """Return what a reader has to know of a run: faults, absences, resumption, notes."""
    absences = run.summary.absences if run.summary else run.absences
    away, faulty = absence_table(absences), fault_table(run.faults)
    gone = departure_table(run.summary.departures if run.summary else ())
    items: list[Html | str] = []
    if faulty is None:
        items.append("No client saw an edge change or refused what a neighbour sent.")
    if (partial := sum(bool(point.absent) for point in run.exchanges)) > 0:
        items.append(
            f"In {exact(partial)} of {exact(len(run.exchanges))} exchanges at least one client was "
            "absent."
        )
    elif away is None:
        items.append("No absences: every client took part in every recorded exchange.")
    if run.summary is not None and run.summary.resumed:
        items.append(
            f"The run was resumed {count_of(run.summary.resumed, 'time')}; its result is that of "
            "one run."
        )
    items.append(_ledger_fact(run))
    for client in run.summary.clients if run.summary else ():
        items += [named(client.name, note) for note in client.notes]
    return [
        listing(items),
        table(gone) if gone is not None else None,
        table(
            away,
            "Clients that failed, were late or came back. The others went on without their edges; "
            "a stale answer came too late and was thrown away.",
        )
        if away is not None
        else None,
        table(
            faulty,
            "Who is suspected, as far as the clients' watches can tell: a sensor's fault shows on "
            "its edges, an edge's on that edge alone. Embeddings that were refused left their edge "
            "out of that exchange; all other edges were trained.",
        )
        if faulty is not None
        else None,
        paragraph(
            "One seed is no claim: compare at least three with ",
            code("sheafalign report RUN RUN RUN"),
            ".",
        ),
    ]


def _ledger_fact(run: Run) -> str:
    if run.summary is None or not run.ledger_rows:
        return f"The ledger holds {exact(run.ledger_rows)} rows, one for each message."
    same = {_key(row): row for row in run.summary.bytes} == {_key(row): row for row in run.traffic}
    verdict = (
        "add up to exactly the totals of the summary"
        if same
        else "DO NOT add up to the totals of the summary"
    )
    return f"The ledger's {exact(run.ledger_rows)} rows, one for each message, {verdict}."


def _key(row: object) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in ("source", "target", "purpose"))


def reproduce_section(run: Run) -> Sequence[Html | None]:
    """Return what it takes to have the same run again, and to see that it is the same."""
    digests = run.summary.weights_digest if run.summary else {}
    rows = tuple((name, digest) for name, digest in digests.items())
    weights = Table("Final weights", ("client", "SHA-256"), rows, text_columns=2)
    return [
        facts(reproduce_facts(run)),
        paragraph(
            "With the configuration below in config.yaml, the same seed gives the same weights:"
        ),
        source("sheafalign run config.yaml"),
        details("The resolved configuration, config.yaml", source(run.config_text)),
        details("Digests of the final weights: equal runs have equal digests", table(weights))
        if rows
        else None,
    ]


def reproduce_facts(run: Run) -> list[tuple[str, Html | str]]:
    """Return what names this run exactly."""
    weights = " + ".join(
        f"{weight:g} × {words}" for words, weight in weights_in_words(run.settings.objective)
    )
    training = run.settings.training
    versions = (
        run.summary.versions
        if run.summary
        else {k: v for k, v in run.versions.items() if k != "commit"}
    )
    commit = run.summary.commit if run.summary else run.versions.get("commit")
    return [
        ("seed", str(run.settings.seed)),
        ("engine", run.summary.engine if run.summary else run.settings.engine),
        ("started", run.summary.started if run.summary else NONE),
        ("objective", f"{weights}; temperature {run.settings.objective.temperature:g}"),
        ("maps", f"{run.settings.maps.family}, initially {run.settings.maps.initial}"),
        (
            "optimiser",
            f"{training.optimiser}, learning rate {training.learning_rate:g}, {training.dtype}",
        ),
        ("codec", run.settings.codec),
        (
            "configuration digest",
            code(run.summary.config_digest if run.summary else run.settings.digest()),
        ),
        ("commit", code(commit or "unknown")),
        (
            "versions",
            ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        ),
    ]
