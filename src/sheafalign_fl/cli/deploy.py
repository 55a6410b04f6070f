"""The part of the command line that deploys: `sheafalign keys | relay | node | status | deploy`."""

import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sheafalign_fl.errors import RunError, UserError

if TYPE_CHECKING:
    from sheafalign_fl.config import Settings
    from sheafalign_fl.engines.deployed import Deployment

HOME = Path.home() / ".sheafalign"
keys_app = typer.Typer(no_args_is_help=True, help="Keys and certificates of a deployment.")
deploy_app = typer.Typer(no_args_is_help=True, help="Files that start relay and nodes as services.")

Keys = Annotated[
    Path | None, typer.Option(help="Folder of keys: all of them, or this machine's own.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="No TLS, no node keys: for trials on one machine.")
]
RelayAddress = Annotated[
    str, typer.Option("--relay", help="Where the relay is.", metavar="HOST:PORT")
]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.add_typer(keys_app, name="keys")
    app.add_typer(deploy_app, name="deploy")
    app.command(epilog="Example:  [bold]sheafalign relay --keys keys --host 10.0.0.1[/bold]")(relay)
    app.command(
        epilog="Example:  [bold]sheafalign node lidar --relay 10.0.0.1:9092 --keys keys/clients/lidar "
        "--data recordings[/bold]"
    )(node)
    app.command(
        epilog="Example:  [bold]sheafalign status runs/street --relay 10.0.0.1:9092 --keys keys[/bold]"
    )(status)


@keys_app.command(
    "init",
    epilog="Example:  [bold]sheafalign keys init keys --clients camera,lidar --host relay.lan[/bold]",
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
    from sheafalign_fl.deploy.keys import init_keys

    if (clients is None) == (config is None):
        raise UserError("give --clients camera,lidar or --config FILE, and not both")
    names = (
        clients.split(",") if clients is not None else list(load_settings(config or Path()).clients)
    )
    init_keys(folder, names, host or [], days)
    typer.echo(f"relay: copy {folder / 'relay'} to its machine")
    for name in names:
        typer.echo(f"client {name}: copy {folder / 'clients' / name} to its machine")
    typer.echo(f"keep {folder / 'ca' / 'ca.key'} where no machine of the federation can read it")


def relay(
    keys: Keys = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 9092,
    state: Annotated[
        Path, typer.Option(help="Folder for logs and what the relay has to remember.")
    ] = HOME / "relay",
    database: Annotated[
        Path | None,
        typer.Option(help="Keep Flower's state in this SQLite file; default: in memory."),
    ] = None,
    insecure: Insecure = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the flower-superlink command and end.")
    ] = False,
) -> None:
    """Run the relay until it is told to end."""
    from sheafalign_fl.deploy.keys import load_relay_keys
    from sheafalign_fl.deploy.logs import log_to
    from sheafalign_fl.deploy.relay import RelaySettings
    from sheafalign_fl.deploy.relay import relay as run_relay

    _choose(keys, insecure=insecure)
    settings = RelaySettings(
        host, port, None if keys is None else load_relay_keys(keys), state.resolve(), database
    )
    if show:
        typer.echo(shlex.join(settings.command()))
        return
    log_to(state / "relay.log")
    with run_relay(settings) as process:
        clients = "any client" if settings.keys is None else ", ".join(settings.keys.clients)
        typer.echo(f"relay at {host}:{port} is ready for {clients}")
        code = process.wait()
    raise RunError(f"flower-superlink ended with {code}; see {state / 'superlink.log'}")


def node(
    client: Annotated[
        str, typer.Argument(help="Which client of the configuration this is.", show_default=False)
    ],
    relay: RelayAddress,
    keys: Keys = None,
    data: Annotated[Path | None, typer.Option(help="Where this machine's data lies.")] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints and logs; default: ~/.sheafalign/nodes/CLIENT."),
    ] = None,
    insecure: Insecure = False,
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="Take part in runs without sealed edges.")
    ] = False,
    patience: Annotated[
        float | None,
        typer.Option(help="Seconds to go on trying to reach the relay; default: for ever.", min=0),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--show", help="Print the flower-supernode command and end.")
    ] = False,
) -> None:
    """Run one client's node until it is told to end."""
    from sheafalign_fl.deploy.keys import load_client_keys
    from sheafalign_fl.deploy.logs import log_to
    from sheafalign_fl.deploy.resident import NodeSettings, ResidentNode
    from sheafalign_fl.flower.fleet import Credentials

    _choose(keys, insecure=insecure)
    _check_address(relay)
    if data is not None and not data.exists():
        raise UserError(f"--data {data}: there is no such folder or file")
    folder = state or HOME / "nodes" / client
    own = None if keys is None else load_client_keys(keys, client)
    credentials = None if own is None else Credentials(own.ca, own.load_node_key(), own.node_key)
    settings = NodeSettings(
        client, relay, credentials, folder, data, own.folder if own else None, unsealed, patience
    )
    if plain:
        typer.echo(shlex.join(settings.plain_command()))
        return
    log_to(folder / "node.log")
    running = ResidentNode(settings)
    _end_with(running.stop)
    running.serve()
    typer.echo(f"node {client} has ended")


def status(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder.", metavar="RUN_DIR", show_default=False)
    ] = None,
    relay: Annotated[
        str | None, typer.Option(help="Relay to ask for its nodes.", metavar="HOST:PORT")
    ] = None,
    keys: Keys = None,
    insecure: Insecure = False,
    state: Annotated[
        Path, typer.Option(help="The relay's state folder, which names its nodes.")
    ] = HOME / "relay",
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on looking until Ctrl-C or the run's end.")
    ] = False,
) -> None:
    """Show nodes, modalities, last exchange, times and bytes of a deployed run."""
    from sheafalign_fl.deploy.status import show, show_live

    if run is None and relay is None:
        raise UserError("give a run folder, or --relay HOST:PORT, or both")
    where = deployment(relay, keys, insecure=insecure)
    (show_live if watch else show)(run, where, state, Console())


@deploy_app.command(
    "render",
    epilog="Example:  [bold]sheafalign deploy render services --config experiments/deploy.yaml[/bold]",
)
def deploy_render(
    folder: Annotated[
        Path, typer.Argument(help="New folder for the files.", metavar="DIR", show_default=False)
    ],
    config: Annotated[Path, typer.Option(help="Whose clients they are for.", show_default=False)],
    relay: RelayAddress = "relay:9092",
) -> None:
    """Write systemd units and a compose file for the relay and every client."""
    from sheafalign_fl.config import load_settings
    from sheafalign_fl.deploy.render import render

    _check_address(relay)
    for path in render(folder, list(load_settings(config).clients), relay):
        typer.echo(str(path))


def deployment(relay: str | None, keys: Path | None, *, insecure: bool) -> "Deployment | None":
    """Return where to run by the options `--relay`, `--keys` and `--insecure`; None: on this machine."""
    from sheafalign_fl.engines.deployed import Deployment, find_ca

    if relay is None:
        if keys is not None or insecure:
            raise UserError("--keys and --insecure are for --relay HOST:PORT")
        return None
    _check_address(relay)
    _choose(keys, insecure=insecure)
    return Deployment(relay, None if keys is None else find_ca(keys))


def deployed_settings(
    config: Path, overrides: list[str], *, insecure: bool, console: Console
) -> "Settings":
    """Return the settings of a deployed run: what the file leaves open is chosen so that nothing is lost or seen."""
    from sheafalign_fl.config import parse_settings
    from sheafalign_fl.config.load import read_content
    from sheafalign_fl.config.schema import METRICS

    content = read_content(config, overrides)
    content["engine"] = "deployed"
    for section in ("security", "checkpoint", "evaluation"):
        if not isinstance(content.get(section), dict):
            content[section] = content.get(section) or {}
    content["security"].setdefault("sealed", not insecure)
    content["checkpoint"].setdefault("every", 1)
    if content["security"]["sealed"] is True and "metrics" not in content["evaluation"]:
        content["evaluation"]["metrics"] = [metric for metric in METRICS if metric != "missing"]
        console.print(
            "edges are sealed, so the metric 'missing', which the relay computes from embeddings, is left out"
        )
    return parse_settings(content, str(config))


def _choose(keys: Path | None, *, insecure: bool) -> None:
    if keys is None and not insecure:
        raise UserError(
            "give --keys DIR (made by `sheafalign keys init`), or --insecure for a trial on one machine"
        )
    if keys is not None and insecure:
        raise UserError("--keys and --insecure exclude each other")


def _check_address(address: str) -> None:
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--relay {address}: write it as HOST:PORT, such as 10.0.0.1:9092")


def _end_with(stop: Callable[[], None]) -> None:
    """End in good order when the process is told to."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop())
