"""`sheafalign keys`: the keys and certificates of a deployment."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sheafalign_fl.errors import UserError
from sheafalign_fl.flower.address import parse_host

keys_app = typer.Typer(no_args_is_help=True, help="Keys and certificates of a deployment.")
All = Annotated[Path, typer.Argument(help="Folder of all keys.", metavar="DIR", show_default=False)]
Name = Annotated[str, typer.Argument(help="Whose.", metavar="NAME", show_default=False)]
Days = Annotated[int, typer.Option(help="How long the certificate is valid.", min=1, max=3650)]


@keys_app.command(
    "init",
    epilog="Example:  [bold]sheafalign keys init keys --clients camera,lidar --host "
    "relay.lan[/bold]",
)
def keys_init(
    folder: Annotated[
        Path, typer.Argument(help="New folder for all keys.", metavar="DIR", show_default=False)
    ],
    clients: Annotated[
        str | None, typer.Option(help="Names of the clients, comma-separated.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Take the clients of this configuration.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address of the relay; may be given more than once."),
    ] = None,
    days: Annotated[
        int, typer.Option(help="How long the relay's certificate is valid.", min=1)
    ] = 825,
) -> None:
    """Make a certificate authority, the relay's certificate, and every client's keys."""
    from sheafalign_fl.config import load_settings
    from sheafalign_fl.deploy.issuing import init_keys

    if (clients is None) == (config is None):
        raise UserError("give --clients camera,lidar or --config FILE, and not both")
    names = (
        clients.split(",") if clients is not None else list(load_settings(config or Path()).clients)
    )
    init_keys(folder, names, [parse_host(name) for name in host or []], days)
    typer.echo(f"relay: copy {folder / 'relay'} to its machine")
    for name in names:
        typer.echo(f"client {name}: copy {folder / 'clients' / name} to its machine")
    typer.echo(f"operator: keep {folder / 'operators' / 'operator'} where runs are submitted")
    typer.echo(f"keep {folder / 'ca' / 'ca.key'} where no machine of the federation can read it")


@keys_app.command("add-client")
def keys_add_client(folder: All, name: Name, days: Days = 3650) -> None:
    """Make the keys of one more client; the others learn its key from the relay, signed."""
    from sheafalign_fl.deploy.changing import add_client

    add_client(folder, name, days)
    typer.echo(f"client {name}: copy {folder / 'clients' / name} to its machine")
    _tell_relay(folder)


@keys_app.command("add-operator")
def keys_add_operator(folder: All, name: Name, days: Days = 825) -> None:
    """Make the keys of one more operator, who may submit, list and stop runs."""
    from sheafalign_fl.deploy.changing import add_operator

    add_operator(folder, name, days)
    typer.echo(f"operator {name}: copy {folder / 'operators' / name} to their machine")


@keys_app.command("renew")
def keys_renew(folder: All, name: Name, days: Days = 825) -> None:
    """Sign the certificate of `relay`, an operator or a client anew; keys stay as they are."""
    from sheafalign_fl.deploy.changing import renew

    path = renew(folder, name, days)
    typer.echo(f"{name}: valid for {days} days; copy {path} to where it is used")


@keys_app.command("revoke")
def keys_revoke(folder: All, name: Name) -> None:
    """Take the certificate of an operator or a client back."""
    from sheafalign_fl.deploy.changing import revoke

    revoke(folder, name)
    typer.echo(f"{name} is out as soon as the relay knows")
    _tell_relay(folder)


@keys_app.command("list")
def keys_list(folder: All) -> None:
    """Show all certificates and until when they are valid."""
    from sheafalign_fl.deploy.changing import days_left, members
    from sheafalign_fl.deploy.keys import SOON_DAYS
    from sheafalign_fl.report.content import Table
    from sheafalign_fl.report.tables import rich_table

    known = list(members(folder))
    rows = tuple(
        (each.name, each.kind, f"{each.until:%Y-%m-%d}", str(days_left(each.until)))
        for each in known
    )
    columns = ("name", "kind", "valid until", "days left")
    Console().print(rich_table(Table("Certificates", columns, rows, text_columns=3)))
    for each in known:
        if each.kind != "revoked" and days_left(each.until) < SOON_DAYS:
            typer.echo(
                f"warning: {each.name} expires soon: sheafalign keys renew {folder} {each.name}"
            )


def _tell_relay(folder: Path) -> None:
    typer.echo(f"relay: copy {folder / 'relay'} to its machine again; it need not be restarted")
