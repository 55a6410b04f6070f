"""The sections of one run's report: what is shown, and the sentence that explains it."""

from sheafalign_fl.numbers import count_of
from sheafalign_fl.report import graph_plot, plots
from sheafalign_fl.report.content import (
    MOST_ROWS,
    Table,
    client_table,
    edge_table,
    graph_table,
    purpose_table,
)
from sheafalign_fl.report.page import (
    Html,
    badge,
    cards,
    code,
    details,
    paragraph,
    samples,
    section,
    table,
)
from sheafalign_fl.report.page import header as page_header
from sheafalign_fl.report.quality import MOST_FOLDED, key_figures, quality_section
from sheafalign_fl.report.record import facts_section, reproduce_section
from sheafalign_fl.report.sheaf import sheaf_section
from sheafalign_fl.report.style import draw
from sheafalign_fl.runs.reading import Run
from sheafalign_fl.runs.warnings import validation_curve

_MOST_SAMPLES = 12


def header(run: Run) -> Html:
    """Return title, state and key figures."""
    complete = run.summary is not None
    mark = badge(run.state, "" if run.state == "completed" else "interrupted")
    clients = run.settings.clients
    lead = (
        f"{count_of(len(clients), 'client')} on a {run.settings.graph.topology} graph, aligned in "
        f"{count_of(run.done, 'exchange')} of {run.settings.training.batch_size} events; seed "
        f"{run.settings.seed}."
    )
    parts = [*([] if complete else [_interrupted(run)]), cards(key_figures(run))]
    return page_header("SheafAlign-FL run report", run.name, lead, parts, mark=mark)


def sections(run: Run) -> list[tuple[str, str, Html]]:
    """Return (anchor, title, HTML) of every section that has something to show."""
    builders = (
        ("learning", "Learning", _learning),
        ("quality", "Quality", quality_section),
        ("communication", "Communication", _communication),
        ("federation", "Federation", _federation),
        ("sheaf", "Sheaf", sheaf_section),
        ("data", "What the sensors see", _samples),
        ("facts", "Facts to know", facts_section),
        ("reproduce", "Reproduce", reproduce_section),
    )
    found = (
        (anchor, title, section(anchor, title, *build(run))) for anchor, title, build in builders
    )
    return [(anchor, title, content) for anchor, title, content in found if content is not None]


def _interrupted(run: Run) -> Html:
    reason = f" ({run.status['reason']})" if run.status.get("reason") else ""
    return paragraph(
        f"This run was interrupted at exchange {run.done} of "
        f"{run.settings.training.exchanges}{reason}. Shown is all that was recorded until then. Go "
        "on with: ",
        code(f"sheafalign run --resume {run.path}"),
        kind="notice",
    )


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


def _communication(run: Run) -> list[Html | None]:
    clients = list(run.settings.clients)
    edges = edge_table(run.bytes, clients)
    whole = edge_table(run.bytes, clients, most=MOST_FOLDED)
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
                    content.rows[:MOST_FOLDED],
                    (),
                    content.text_columns,
                )
            )
            name = f"{content.title}: {count_of(len(content.rows), 'row')}"
            if len(content.rows) > MOST_FOLDED:
                name += f", the first {MOST_FOLDED} here and all in summary.json"
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
