"""`sheafalign share | embed | search | impute | classify`: what was learnt, used."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sheafalign_fl.errors import UserError

if TYPE_CHECKING:
    from sheafalign_fl.shares.files import Events
    from sheafalign_fl.shares.heads import Head
    from sheafalign_fl.shares.model import Model

RunPath = Annotated[
    Path,
    typer.Argument(
        help="A run folder, a folder of shares, or one share.", metavar="RUN", show_default=False
    ),
]
Files = Annotated[
    list[str],
    typer.Argument(
        help="Events of a client: .npz with x (and event_id), .npy, .csv, .tsv, .parquet; in the "
        "sensor's own units.",
        metavar="CLIENT=FILE...",
        show_default=False,
    ),
]
File = Annotated[
    str,
    typer.Argument(
        help="Events of a client, in the sensor's own units.",
        metavar="CLIENT=FILE",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(help="Where to write: a file .npz, .csv or .parquet.", show_default=False),
]


AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="PACKAGE.MODULE:NAME",
        help="Code that a share from elsewhere may name; may be given more than once.",
    ),
]  # fmt: skip
Window = Annotated[
    int | None,
    typer.Option(
        help="Cut windows of so many samples from the files, for a run that was trained on such.",
        min=1, metavar="SAMPLES",
    ),
]  # fmt: skip
Stride = Annotated[
    int | None,
    typer.Option(
        help="Samples from one window to the next; default: the window's.", min=1,
        metavar="SAMPLES",
    ),
]  # fmt: skip


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Example:  [bold]sheafalign share runs/street[/bold]")(share)
    app.command(
        epilog="Example:  [bold]sheafalign embed runs/street camera=new.npz --out h.npz[/bold]"
    )(embed)
    app.command(
        epilog="Example:  [bold]sheafalign search runs/street camera=query.npz lidar=archive.npz "
        "-k 5 --out found.csv[/bold]"
    )(search)
    app.command(
        epilog="Example:  [bold]sheafalign impute runs/street lidar camera=new.npz radar=new.npz "
        "--out lidar.npz[/bold]"
    )(impute)
    app.command(
        epilog="Example:  [bold]sheafalign classify runs/street camera=new.npz --fit "
        "camera=labelled.npz --fit lidar=labelled.npz --out classes.csv[/bold]"
    )(classify)


def share(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(help="Where the data lies by now; default: where the run read it."),
    ] = None,
) -> None:
    """Make the shares of a run that left none, where its data can be read."""
    from sheafalign_fl.cli.commands import make_importable
    from sheafalign_fl.engines.sharing import make_shares

    make_importable(None)
    for folder in make_shares(run, data):
        typer.echo(f"share: {folder}")


def embed(
    run: RunPath,
    events: File,
    out: Out,
    window: Window = None,
    stride: Stride = None,
    allow: AllowCode = None,
) -> None:
    """Embed raw events: h, and z for every neighbour."""
    from sheafalign_fl.shares.files import check_output, write_results

    check_output(out)
    client, given = _one(events, _cutting(window, stride))
    model = loaded(run, allow)
    own = model[client]
    with _told():
        h = own.embed(given.given(client))
    z = {f"z_{other}": own.restrict(other, h) for other in own.neighbours}
    about = {"client": client, "run": own.facts.run_id}
    write_results(out, {"event_id": given.ids, "h": h, **z}, about)
    others = ", ".join(own.neighbours) or "nobody"
    typer.echo(f"{out}: {len(h)} events, h of {h.shape[1]} values, z for {others}")


def search(
    run: RunPath,
    query: File,
    gallery: File,
    out: Out,
    k: Annotated[int, typer.Option("-k", help="How many to find for each query.", min=1)] = 10,
    measure: Annotated[str, typer.Option(help="cosine or dot.")] = "cosine",
    window: Window = None,
    stride: Stride = None,
    allow: AllowCode = None,
) -> None:
    """Find the events of one client that are nearest to another's."""
    import numpy as np

    from sheafalign_fl.shares.files import check_output, write_results

    check_output(out)
    cutting = _cutting(window, stride)
    (source, asked), (target, among) = _one(query, cutting), _one(gallery, cutting)
    model = loaded(run, allow)
    with _told():
        found = model.search(
            (source, asked.given(source, target)),
            (target, among.given(target, source)),
            k,
            cast(Any, measure),  # checked there
        )
    queries, nearest = found.rows.shape
    write_results(
        out,
        {
            "query": np.repeat(asked.ids, nearest),
            "rank": np.tile(np.arange(1, nearest + 1), queries),
            "found": among.ids[found.rows.ravel()],
            "score": found.scores.ravel(),
        },
    )
    typer.echo(f"{out}: {nearest} of {among.count} events for each of {queries} queries")


def impute(
    run: RunPath,
    client: Annotated[
        str, typer.Argument(help="Who is missing.", metavar="CLIENT", show_default=False)
    ],
    events: Files,
    out: Out,
    method: Annotated[
        str, typer.Option(help="ridge (closed form), dual (trained maps) or mean.")
    ] = "ridge",
    window: Window = None,
    stride: Stride = None,
    allow: AllowCode = None,
) -> None:
    """Stand in for a client that is missing: its h, and how far off that may be."""
    from sheafalign_fl.shares.files import check_output, together, write_results

    check_output(out)
    given = together(_several(events, _cutting(window, stride)))
    model = loaded(run, allow)
    present = {name: each.given(name, client) for name, each in given.items()}
    with _told():
        found = model.impute(client, present, cast(Any, method))  # checked there
    ids = next(iter(given.values())).ids
    about = {"client": client, "run": model[client].facts.run_id, "method": method}
    write_results(out, {"event_id": ids, "h": found.values, "error": found.error}, about)
    typer.echo(
        f"{out}: {len(ids)} events; mean square error {found.error.mean():.4g}, of the training "
        f"mean {found.floor:.4g}; {found.unexplained:.1%} is left unexplained"
    )


def classify(
    run: RunPath,
    events: Files,
    out: Out,
    fit: Annotated[
        list[str] | None,
        typer.Option(
            help="Labelled events of a client to fit a head on; may be given more than once.",
            metavar="CLIENT=FILE",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Which label, where files have several.")
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(help="A head, instead of --fit: its folder, or the name it is kept under."),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Folder to save the fitted head in.")] = None,
    keep: Annotated[
        str | None, typer.Option(help="Name to keep the fitted head under, beside the shares.")
    ] = None,
    window: Window = None,
    stride: Stride = None,
    allow: AllowCode = None,
) -> None:
    """Answer from whichever sensors are given: classes or labels with probabilities, or values."""
    from sheafalign_fl.shares.files import check_output, together, write_results
    from sheafalign_fl.shares.head_folder import find_head, kept_head

    check_output(out)
    if (fit is None) == (head is None):
        raise UserError("give --fit CLIENT=FILE with labelled events, or --head DIR, and one only")
    if (save is not None or keep is not None) and fit is None:
        raise UserError("--save and --keep keep a head that --fit fits; leave it out")
    folders = [] if save is None else [save]
    if keep is not None:
        folders.append(kept_head(run, keep))
    cutting = _cutting(window, stride)
    given = together(_several(events, cutting))
    model = loaded(run, allow)
    saved = None if head is None else find_head(run, head)
    fitted = (
        _fitted(model, together(_several(fit or [], cutting)), label)
        if saved is None
        else model.load_head(saved)
    )
    with _told():
        found = fitted.predict({name: each.given(name) for name, each in given.items()})
    ids = next(iter(given.values())).ids
    columns = {"event_id": ids, "answer": found.labels}
    if found.probabilities is not None:
        columns |= {
            f"p_{name}": found.probabilities[:, index] for index, name in enumerate(found.classes)
        }
    write_results(out, columns)
    for folder in folders:
        fitted.save(folder)
    error = "" if found.error is None else f", to {', '.join(f'{e:.4g}' for e in found.error)}"
    typer.echo(f"{out}: {len(ids)} events, answered from {', '.join(found.present)}{error}")


def _fitted(model: "Model", given: "Mapping[str, Events]", label: str | None) -> "Head":
    labels = next(iter(given.values())).labels(label)
    return model.fit_head(labels, {name: each.given(name) for name, each in given.items()})


def loaded(run: Path, allow: list[str] | None, client: str | None = None) -> "Model":
    """Return the shares in `run`, or the one of `client`."""
    from sheafalign_fl.cli.commands import make_importable
    from sheafalign_fl.shares.model import load_model

    make_importable(None)
    return load_model(run, allow=allow or (), client=client)


@contextmanager
def _told() -> Iterator[None]:
    """Say in a line of its own what to be careful of."""
    from sheafalign_fl.shares.inputs import careful

    with careful() as told:
        yield
    for line in told:
        typer.echo(f"careful: {line}", err=True)


def _cutting(window: int | None, stride: int | None) -> tuple[int, int] | None:
    """Return window and stride; None where events are taken as they are."""
    if window is None and stride is not None:
        raise UserError("--stride goes with --window")
    return None if window is None else (window, stride or window)


def _one(text: str, cutting: tuple[int, int] | None = None) -> "tuple[str, Events]":
    return next(iter(_several([text], cutting).items()))


def _several(
    texts: Sequence[str], cutting: tuple[int, int] | None = None
) -> "Mapping[str, Events]":
    from sheafalign_fl.shares.files import read_events

    found: dict[str, Events] = {}
    for text in texts:
        client, separator, path = text.partition("=")
        if not (separator and client and path):
            raise UserError(f"'{text}': write CLIENT=FILE, such as camera=new.npz")
        if client in found:
            raise UserError(f"'{client}' is given twice")
        read = read_events(Path(path))
        found[client] = read if cutting is None else read.cut(*cutting)
    return found
