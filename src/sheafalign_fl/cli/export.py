"""`sheafalign export`: one client's share as a file for machines without this library."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.filesize import decimal

from sheafalign_fl.cli.use import AllowCode, loaded


def export(
    run: Annotated[
        Path,
        typer.Argument(help="A run's folder, or a share's.", metavar="RUN", show_default=False),
    ],
    client: Annotated[str, typer.Option(help="Whose share.", metavar="NAME", show_default=False)],
    to: Annotated[
        Literal["onnx", "torch"], typer.Option(help="ONNX, or torch's exported program (.pt2).")
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="A new folder; default: RUN/exports/NAME-FORM.", show_default=False),
    ] = None,
    allow: AllowCode = None,
) -> None:
    """Write what a client learnt, scaling inside, and compare the file with the share."""
    from sheafalign_fl.shares.export import export as write

    share = loaded(run, allow, client)[client]
    made = write(share, to, out or run / "exports" / f"{client}-{to}")
    typer.echo(
        f"{made.file}: {decimal(made.size)}; largest difference from the share "
        f"{made.difference:.1e}; inputs and outputs are told in the README.md beside it"
    )
