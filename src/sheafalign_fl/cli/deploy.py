"""The part of the command line that deploys: `sheafalign keys | relay | node | status | deploy`."""

import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from sheafalign_fl.cli.doctor import doctor
from sheafalign_fl.cli.keys import keys_app
from sheafalign_fl.cli.runs import runs_app
from sheafalign_fl.errors import RunError, UserError
from sheafalign_fl.files import keep_private, private_folder, user_folder
from sheafalign_fl.flower.address import Address, parse_host

if TYPE_CHECKING:
    from sheafalign_fl.config import Settings
    from sheafalign_fl.config.policy import Policy
    from sheafalign_fl.engines.deployed import Deployment

HOME = user_folder()
deploy_app = typer.Typer(no_args_is_help=True, help="Files that start relay and nodes as services.")

Keys = Annotated[
    Path | None, typer.Option(help="Folder of keys: all of them, or this machine's own.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="No TLS, no node keys: for trials on one machine.")
]
RelayAddress = Annotated[
    str,
    typer.Option("--relay", help="Where the relay is, such as 10.0.0.1:9092.", metavar="HOST:PORT"),
]


Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="Answer /metrics and /health there, such as 127.0.0.1:9464."
    ),
]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(help="How the terminal's log is written; log files are JSON lines always."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE:NAME",
        help="Code that a configuration may name beside what is built in; may be given more than "
        "once.",
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(help="YAML file of what a configuration may ask of this machine.", metavar="FILE"),
]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.add_typer(keys_app, name="keys")
    app.add_typer(deploy_app, name="deploy")
    app.add_typer(runs_app, name="runs")
    app.command(epilog="Example:  [bold]sheafalign relay --keys keys --host 10.0.0.1[/bold]")(relay)
    app.command(
        epilog="Example:  [bold]sheafalign node lidar --relay 10.0.0.1:9092 --keys "
        "keys/clients/lidar --data recordings[/bold]"
    )(node)
    app.command(
        epilog="Example:  [bold]sheafalign status runs/street --relay 10.0.0.1:9092 --keys "
        "keys[/bold]"
    )(status)
    app.command(
        epilog="Example:  [bold]sheafalign doctor --relay 10.0.0.1:9092 --keys "
        "keys/clients/lidar[/bold]"
    )(doctor)


def relay(
    keys: Keys = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on, such as 10.0.0.1 or ::1; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 9092,
    state: Annotated[
        Path, typer.Option(help="Folder for logs and what the relay has to remember.")
    ] = HOME / "relay",
    database: Annotated[
        Path | None,
        typer.Option(help="Keep Flower's state in this SQLite file; default: in memory."),
    ] = None,
    runs: Annotated[
        Path, typer.Option(help="Folder that all run folders lie in; a run names one in it.")
    ] = Path("runs"),
    allow: Allow = None,
    policy: PolicyFile = None,
    insecure: Insecure = False,
    metrics: Metrics = None,
    log_format: LogFormat = "text",
    show: Annotated[
        bool, typer.Option("--show", help="Print the command that the relay is and end.")
    ] = False,
) -> None:
    """Run the relay until it is told to end."""
    from sheafalign_fl.deploy.keys import expiry_warning, load_relay_keys
    from sheafalign_fl.deploy.logs import print_log
    from sheafalign_fl.deploy.relay import RelaySettings
    from sheafalign_fl.deploy.relay import relay as run_relay

    _choose(keys, insecure=insecure)
    address = Address(parse_host(host), port)
    settings = RelaySettings(
        address,
        None if keys is None else load_relay_keys(keys),
        state.resolve(),
        database,
        runs,
        _policy(allow, policy),
        _monitoring(metrics),
    )
    if show:
        typer.echo(shlex.join(settings.command()))
        return
    keep_private()
    private_folder(state, "the relay's state folder")
    print_log(log_format)
    if settings.keys is not None and (warning := expiry_warning(settings.keys.certificate)):
        Console(stderr=True).print(f"warning: {warning}", markup=False)
    try:
        with run_relay(settings) as process:
            clients = "any client" if settings.keys is None else ", ".join(settings.keys.clients)
            typer.echo(f"relay at {address} is ready for {clients}")
            code = process.wait()
    except KeyboardInterrupt:  # SIGTERM too: it was told to end, and has
        typer.echo("the relay has ended")
        return
    raise RunError(f"the SuperLink ended with {code}; see {state / 'superlink.log'}")


def node(
    client: Annotated[
        str, typer.Argument(help="Which client of the configuration this is.", show_default=False)
    ],
    relay: RelayAddress,
    keys: Keys = None,
    data: Annotated[Path | None, typer.Option(help="Where this machine's data lies.")] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder for checkpoints and logs; default: nodes/CLIENT in the user's state "
            "folder."
        ),
    ] = None,
    insecure: Insecure = False,
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="Take part in runs without sealed edges.")
    ] = False,
    allow: Allow = None,
    policy: PolicyFile = None,
    patience: Annotated[
        float | None,
        typer.Option(help="Seconds to go on trying to reach the relay; default: for ever.", min=0),
    ] = None,
    metrics: Metrics = None,
    log_format: LogFormat = "text",
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
    address = str(Address.parse(relay))
    if data is not None and not data.exists():
        raise UserError(f"--data {data}: there is no such folder or file")
    folder = state or HOME / "nodes" / client
    own = None if keys is None else load_client_keys(keys, client)
    credentials = None if own is None else Credentials(own.ca, own.load_node_key(), own.node_key)
    settings = NodeSettings(
        client,
        address,
        credentials,
        folder,
        data,
        own.folder if own else None,
        unsealed,
        patience,
        _policy(allow, policy),
        _monitoring(metrics),
    )
    if plain:
        typer.echo(shlex.join(settings.plain_command()))
        return
    keep_private()
    private_folder(folder, "the state folder")
    log_to(folder / "node.log", log_format)
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
    epilog="Example:  [bold]sheafalign deploy render services --config "
    "experiments/deploy.yaml[/bold]",
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

    address = Address.parse(relay)
    for path in render(folder, list(load_settings(config).clients), address):
        typer.echo(str(path))


def deployment(relay: str | None, keys: Path | None, *, insecure: bool) -> "Deployment | None":
    """Return where to run by `--relay`, `--keys` and `--insecure`; None: on this machine."""
    if relay is None:
        if keys is not None or insecure:
            raise UserError("--keys and --insecure are for --relay HOST:PORT")
        return None
    from sheafalign_fl.deploy.keys import expiry_warning, load_operator_keys
    from sheafalign_fl.engines.deployed import Deployment

    address = str(Address.parse(relay))
    _choose(keys, insecure=insecure)
    operator = None if keys is None else load_operator_keys(keys)
    if operator is not None and (warning := expiry_warning(operator.certificate)) is not None:
        Console(stderr=True).print(f"warning: {warning}", markup=False)
    return Deployment(address, operator)


def deployed_settings(
    config: Path, overrides: list[str], *, insecure: bool, console: Console
) -> "Settings":
    """Return the settings of a deployed run.

    What the file leaves open is chosen so that nothing is lost or seen.
    """
    from sheafalign_fl.config import parse_settings
    from sheafalign_fl.config.load import read_content
    from sheafalign_fl.config.schema import METRICS, OPEN_METRICS

    content = read_content(config, overrides)
    content["engine"] = "deployed"
    for section in ("security", "checkpoint", "evaluation"):
        if not isinstance(content.get(section), dict):
            content[section] = content.get(section) or {}
    content["security"].setdefault("sealed", not insecure)
    content["checkpoint"].setdefault("every", 1)
    if content["security"]["sealed"] is True and "metrics" not in content["evaluation"]:
        kept = [metric for metric in METRICS if metric not in OPEN_METRICS]
        content["evaluation"]["metrics"] = kept
        console.print(
            f"edges are sealed, so the metric '{', '.join(set(METRICS) & set(OPEN_METRICS))}', "
            "which the relay computes from embeddings, is left out"
        )
    return parse_settings(content, str(config))


def _policy(allow: list[str] | None, file: Path | None) -> "Policy":
    """Return what a configuration may ask of this machine, by `--allow` and `--policy`."""
    from sheafalign_fl.config.policy import Policy

    named = tuple(allow or ())
    if file is not None:
        return Policy.load(file, named)
    return Policy.of({"allow": named}, "--allow")


def _monitoring(text: str | None) -> Address | None:
    """Return where monitoring answers, by the option `--metrics`."""
    from sheafalign_fl.deploy.monitoring import monitoring_address

    return None if text is None else monitoring_address(text)


def _choose(keys: Path | None, *, insecure: bool) -> None:
    if keys is None and not insecure:
        raise UserError(
            "give --keys DIR (made by `sheafalign keys init`), or --insecure for a trial on one "
            "machine"
        )
    if keys is not None and insecure:
        raise UserError("--keys and --insecure exclude each other")


def _end_with(stop: Callable[[], None]) -> None:
    """End in good order when the process is told to."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop())
