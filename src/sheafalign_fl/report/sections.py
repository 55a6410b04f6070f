"""The sections of one run's report: what is shown, and the sentence that explains it."""

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from sheafalign_fl.metrics.quality import Quality
from sheafalign_fl.metrics.registry import known_metric
from sheafalign_fl.numbers import (
    NONE,
    count_of,
    duration,
    exact,
    human_bytes,
)
from sheafalign_fl.report import graph_plot, plots
from sheafalign_fl.report.content import (
    MOST_ROWS,
    Table,
    absence_table,
    client_table,
    direction,
    edge_table,
    fault_table,
    graph_table,
    purpose_table,
    training_payload,
)
from sheafalign_fl.report.metric_tables import metric_table
from sheafalign_fl.report.page import (
    Html,
    badge,
    cards,
    code,
    columns,
    details,
    facts,
    figure,
    listing,
    named,
    paragraph,
    samples,
    section,
    source,
    table,
    together,
)
from sheafalign_fl.report.page import header as page_header
from sheafalign_fl.report.style import to_svg
from sheafalign_fl.runs.reading import Run
from sheafalign_fl.runs.warnings import validation_curve
from sheafalign_fl.sheaf.terms import weights_in_words

_MOST_FOLDED = 400
_MOST_SAMPLES = 12


def header(run: Run) -> Html:
    """Return title, state and key figures."""
    complete = run.summary is not None
    mark = (
        badge("completed")
        if complete
        else badge(f"interrupted at exchange {run.done}", "interrupted")
    )
    clients = run.settings.clients
    lead = (
        f"{count_of(len(clients), 'client')} on a {run.settings.graph.topology} graph, aligned in "
        f"{count_of(run.done, 'exchange')} of {run.settings.training.batch_size} events; seed "
        f"{run.settings.seed}."
    )
    parts = [*([] if complete else [_interrupted(run)]), cards(_key_figures(run))]
    return page_header("SheafAlign-FL run report", run.name, lead, parts, mark=mark)


def sections(run: Run) -> list[tuple[str, str, Html]]:
    """Return (anchor, title, HTML) of every section that has something to show."""
    builders = (
        ("learning", "Learning", _learning),
        ("quality", "Quality", _quality),
        ("communication", "Communication", _communication),
        ("federation", "Federation", _federation),
        ("data", "What the sensors see", _samples),
        ("facts", "Facts to know", _facts),
        ("reproduce", "Reproduce", _reproduce),
    )
    found = (
        (anchor, title, section(anchor, title, *build(run))) for anchor, title, build in builders
    )
    return [(anchor, title, content) for anchor, title, content in found if content is not None]


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


def draw(name: str, drawn: Figure | None, title: str, caption: str) -> Html | None:
    """Return a figure for the page, None where there was nothing to draw."""
    return None if drawn is None else figure(to_svg(drawn, name), title, caption)


_PICTURES: dict[str, Callable[[Run, Quality], Html | None]] = {
    "retrieval": lambda run, quality: draw(
        "matrix",
        plots.recall_matrix(quality.retrieval, list(run.settings.clients)),
        "Retrieval by direction",
        "R@10 from each client (row) to each neighbour (column). Good: dark everywhere. A pale row "
        "or column is a client that the others cannot understand; empty squares are no edges.",
    ),
    "missing": lambda run, quality: draw(
        "missing",
        plots.missing_curve(quality.missing, quality.probe),
        "When sensors fail",
        "Accuracy of one classifier over all clients' embeddings while some clients are missing, "
        "mean over the possible choices. Good: the blue line, where neighbours stand in for the "
        "missing, stays flat and above both fills.",
    ),
}
"""Metric -> what is drawn of it beside its table."""


def _interrupted(run: Run) -> Html:
    reason = f" ({run.status['reason']})" if run.status.get("reason") else ""
    return paragraph(
        f"This run was interrupted at exchange {run.done} of "
        f"{run.settings.training.exchanges}{reason}. Shown is all that was recorded until then. Go "
        "on with: ",
        code(f"sheafalign run --resume {run.path}"),
        kind="notice",
    )


def _key_figures(run: Run) -> list[tuple[str, str, str]]:
    quality, items = run.quality, []
    if quality is not None:
        for name in quality.measured():
            rows = quality.rows(name)
            shown = known_metric(name, rows).cards(rows, quality.split)
            items += [(card.title, card.value, card.remark) for card in shown]
    payload = training_payload(run.bytes)
    items.append(
        (
            "Training payload",
            human_bytes(payload),
            f"{exact(payload)} bytes of embeddings, all edges",
        )
    )
    remark = f"{count_of(run.done, 'exchange')}"
    items.append(("Wall time", duration(run.seconds), remark))
    return items


def _learning(run: Run) -> list[Html | None]:
    curve = validation_curve(run.settings, run.evaluations)
    return [
        *(paragraph(f"Careful: {line}.", kind="notice") for line in run.warnings),
        draw(
            "loss",
            plots.loss_curves(run.exchanges),
            "Loss against exchanges",
            "The objective that the clients minimise, as a mean over directed edges. Good: it "
            "falls and then flattens. Faint lines are single exchanges, clear lines a running "
            "mean; in shaded exchanges a client was absent.",
        ),
        draw(
            "retrieval",
            plots.retrieval_curves(run.evaluations, None if curve is None else curve.best),
            "Retrieval against exchanges and against bytes",
            "How often the true partner of an event is found among the first 1 or 10 held-out "
            "events of the other client. Good: a steep rise to the upper left, which is quality "
            "for few bytes. Bands reach from the worst to the best direction; diamonds are the "
            "final test events, whose gallery may be larger. A dotted line marks the exchange that "
            "was best on validation events: a curve that falls after it overfits.",
        ),
    ]


def _quality(run: Run) -> list[Html | None]:
    quality = run.quality
    if quality is None:
        return [paragraph("Nothing was measured before the run ended.")]
    metrics = {name: known_metric(name, quality.rows(name)) for name in quality.measured()}
    wide = [name for name, metric in metrics.items() if not metric.narrow]
    drawn = [name for name in metrics if name not in wide and name in _PICTURES]
    plain = [name for name in metrics if name not in (*wide, *drawn)]
    return [
        paragraph(
            f"Measured on {quality.split} events, which no client has trained on; values in "
            "percent unless said otherwise."
        ),
        *(part for name in wide[:1] for part in _stacked(run, quality, name)),
        _projection(run),
        *(part for name in wide[1:] for part in _stacked(run, quality, name)),
        *(columns(*reversed(_stacked(run, quality, name))) for name in drawn),
        *(
            columns(*(_quality_table(quality, name) for name in plain[start : start + 2]))
            for start in range(0, len(plain), 2)
        ),
    ]


def _stacked(run: Run, quality: Quality, name: str) -> list[Html | None]:
    """Return a metric's table, and what is drawn of it."""
    return [_quality_table(quality, name), _picture(run, quality, name)]


def _picture(run: Run, quality: Quality, name: str) -> Html | None:
    return _PICTURES[name](run, quality) if name in _PICTURES else None


def _quality_table(quality: Quality, name: str) -> Html:
    short, whole = metric_table(quality, name), metric_table(quality, name, _MOST_FOLDED)
    shown = table(short, known_metric(name, quality.rows(name)).explanation)
    if whole.rows == short.rows:
        return shown
    return together([shown, details(f"All {len(whole.rows)} rows", table(whole))])


def _projection(run: Run) -> Html | None:
    if run.projection is None:
        return None
    name = direction(run.projection.source, run.projection.target).replace("→", "–")
    return draw(
        "projection",
        plots.projection_plot(run.projection),
        f"The comparison space of {name}",
        "Test events as both ends of one edge place them, flattened to two dimensions. Good: the "
        "two clients cover the same ground, lines are short, and events of one label lie together "
        "whichever sensor saw them. Two dimensions show only the stated part of the variance, so "
        "the tables above decide.",
    )


def _communication(run: Run) -> list[Html | None]:
    clients = list(run.settings.clients)
    edges = edge_table(run.bytes, clients)
    whole = edge_table(run.bytes, clients, most=_MOST_FOLDED)
    return [
        paragraph(
            "Counted message by message in the ledger, never computed from a formula. The headline "
            "is the payload of training; evaluation and setup never count as training."
        ),
        draw(
            "bytes",
            plots.bytes_bars(run.bytes, clients),
            "Bytes of training",
            "Payload is the encoded embeddings alone; framing is what surrounds them on the wire; "
            "relay is what the way through the relay adds, up and down again. Good: framing is "
            "hardly visible, and the bars are alike unless edges differ in dimension or events are "
            "missing.",
        ),
        table(purpose_table(run.bytes)) if run.bytes else None,
        table(edges) if edges is not None else None,
        details(f"All {len(whole.rows)} directed edges", table(whole))
        if edges is not None and whole is not None and whole.rows != edges.rows
        else None,
    ]


def _federation(run: Run) -> list[Html | None]:
    parts = [
        draw(
            "graph",
            graph_plot.graph_picture(run.settings),
            "The graph",
            "Who exchanges comparison embeddings with whom. A disc holds the dimension d of a "
            "client's own embedding; a number on an edge is the dimension of the comparison space "
            "that its two ends share.",
        )
    ]
    if run.summary is not None:
        for content in (client_table(run.summary.clients), graph_table(run.summary.edges)):
            shown = table(
                Table(
                    content.title,
                    content.columns,
                    content.rows[:_MOST_FOLDED],
                    (),
                    content.text_columns,
                )
            )
            name = f"{content.title}: {count_of(len(content.rows), 'row')}"
            if len(content.rows) > _MOST_FOLDED:
                name += f", the first {_MOST_FOLDED} here and all in summary.json"
            parts.append(details(name, shown) if len(content.rows) > MOST_ROWS else shown)
    return parts


def _samples(run: Run) -> list[Html | None]:
    if not run.samples:
        return []
    order = {client: index for index, client in enumerate(run.settings.clients)}
    found = sorted(run.samples.items(), key=lambda item: order.get(item[0], len(order)))
    shown = dict(found[:_MOST_SAMPLES])
    more = (
        f" The first {len(shown)} of {len(run.samples)} clients."
        if len(shown) < len(run.samples)
        else ""
    )
    return [
        paragraph(
            "One event as each client's own sensor sees it; no client ever sees another's." + more
        ),
        samples(shown),
    ]


def _facts(run: Run) -> list[Html | None]:
    absences = run.summary.absences if run.summary else run.absences
    away, faulty = absence_table(absences), fault_table(run.faults)
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
    if run.summary is not None and run.summary.stopped:
        items.append(f"The run {run.summary.stopped}.")
    if run.summary is not None and (best := run.summary.best) is not None:
        items.append(
            f"The checkpoint after {best.exchange} exchanges, best by {best.score} on validation "
            "events, is kept at every client beside the last; the result above is of the last."
        )
    items += [
        named(client.name, f"started from {client.start}")
        for client in (run.summary.clients if run.summary else ())
        if client.start
    ]
    items += [
        named(name, "its encoder, and the maps that it started with, stayed as they were")
        for name, client in run.settings.clients.items()
        if client.freeze
    ]
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


def _reproduce(run: Run) -> Sequence[Html | None]:
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
