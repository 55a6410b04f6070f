"""`sheafalign doctor`: what is wrong with a machine of a deployment, and its cure."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sheafalign_fl.files import user_folder
from sheafalign_fl.flower.address import Address

EXIT_UNWELL = 1
_HOME = user_folder()


def doctor(
    relay: Annotated[
        str | None, typer.Option(help="Relay that this machine has to reach.", metavar="HOST:PORT")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="Folder of keys of this machine; without: no TLS.")
    ] = None,
    state: Annotated[
        Path, typer.Option(help="State folder of the relay or node on this machine.")
    ] = _HOME,
) -> None:
    """Look at clock, certificates, permissions, disk, versions and the way to the relay.

    Exits with 1 if something has to be mended.
    """
    from sheafalign_fl.deploy.doctor import FAILURE, Patient, examine
    from sheafalign_fl.report.content import Table
    from sheafalign_fl.report.tables import rich_table

    address = None if relay is None else Address.parse(relay)
    findings = examine(Patient(state, address, keys))
    rows = tuple((each.about, each.state, each.found, each.cure) for each in findings)
    table = Table("Findings", ("about", "state", "found", "cure"), rows, text_columns=4)
    Console().print(rich_table(table))
    failures = sum(each.state == FAILURE for each in findings)
    if failures:
        typer.echo(f"{failures} of {len(findings)} have to be mended", err=True)
        raise typer.Exit(EXIT_UNWELL)
    typer.echo("nothing has to be mended")
