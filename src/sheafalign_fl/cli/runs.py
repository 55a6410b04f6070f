"""`sheafalign runs list | stop | fetch`: the runs of a relay, for its operators."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sheafalign_fl.errors import UserError

if TYPE_CHECKING:
    from sheafalign_fl.flower.control import Control, RunState

runs_app = typer.Typer(no_args_is_help=True, help="Runs on a relay.")
RelayAddress = Annotated[
    str, typer.Option("--relay", help="Where the relay is.", metavar="HOST:PORT")
]
Keys = Annotated[Path | None, typer.Option(help="Folder with an operator's keys.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="The relay has no keys.")]
Run = Annotated[str, typer.Argument(help="Its number or name.", metavar="RUN", show_default=False)]


@runs_app.command("list")
def runs_list(relay: RelayAddress, keys: Keys = None, insecure: Insecure = False) -> None:
    """Show the runs that the relay knows since it was started, the latest first."""
    from sheafalign_fl.report.content import Table
    from sheafalign_fl.report.tables import rich_table

    with _connected(relay, keys, insecure=insecure) as control:
        rows = tuple(
            (run.run_id, _name(run), run.status, run.submitted[:19]) for run in control.runs()
        )
    if not rows:
        typer.echo("no run has been submitted since the relay was started")
        return
    columns = ("run", "name", "status", "submitted (UTC)")
    Console().print(rich_table(Table("Runs", columns, rows, text_columns=4)))


@runs_app.command("stop")
def runs_stop(run: Run, relay: RelayAddress, keys: Keys = None, insecure: Insecure = False) -> None:
    """Stop a run; it can be resumed."""
    with _connected(relay, keys, insecure=insecure) as control:
        control.stop(_find(control, run).run_id)
    typer.echo(f"run {run} is told to stop")


@runs_app.command("fetch")
def runs_fetch(
    run: Run,
    relay: RelayAddress,
    keys: Keys = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for it; default: runs/NAME.", show_default=False)
    ] = None,
    insecure: Insecure = False,
) -> None:
    """Copy a run's results and report, as far as it is."""
    from sheafalign_fl.engines.deployed import fetch
    from sheafalign_fl.runs.folder import check_run_name

    with _connected(relay, keys, insecure=insecure) as control:
        found = _find(control, run)
        folder = out or Path("runs") / check_run_name(_name(found))
        fetch(control, found.run_id, folder)
    typer.echo(f"{folder}: run {found.run_id}, {found.status}")


@contextmanager
def _connected(relay: str, keys: Path | None, *, insecure: bool) -> "Iterator[Control]":
    from sheafalign_fl.cli.deploy import deployment

    where = deployment(relay, keys, insecure=insecure)
    if where is None:
        raise UserError("give --relay HOST:PORT")
    control = where.connect()
    try:
        yield control
    finally:
        control.close()


def _name(run: "RunState") -> str:
    """Return the name of a run's folder on the relay, as far as it can be shown."""
    name = str(run.config.get("run-dir", ""))
    return name if name.isprintable() else ascii(name)


def _find(control: "Control", run: str) -> "RunState":
    """Return the run with this number, or the latest with this name."""
    for known in control.runs():
        if run in (known.run_id, _name(known)):
            return known
    raise UserError(f"the relay knows no run '{run}'; `sheafalign runs list` shows all")
