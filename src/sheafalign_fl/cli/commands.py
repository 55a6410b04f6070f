"""The command line: `sheafalign run | compare | check | report | encoders | data`, and `deploy`."""

import json
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer
from rich.console import Console

from sheafalign_fl.cli import deploy, machine
from sheafalign_fl.errors import SheafAlignError, UserError
from sheafalign_fl.extras import explained
from sheafalign_fl.version import __version__

EXIT_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Decentralised multimodal alignment: every modality is a client, and only comparison "
    "embeddings travel.",
)
data_app = typer.Typer(
    no_args_is_help=True, help="Data sources: what there is, and what a source offers."
)
app.add_typer(data_app, name="data")
deploy.add_commands(app)

ConfigPath = Annotated[
    Path, typer.Argument(help="A YAML configuration.", metavar="CONFIG", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting; may be given more than once."
    ),
]

DataPath = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Where the data lies, instead of the configuration's data.path.",
        show_default=False,
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sheafalign-fl {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:  [bold]sheafalign run experiments/quickstart.yaml[/bold]  ·  sheafalign run "
    "experiments/watch.yaml --set training.exchanges=50 --engine inprocess --out runs/try  ·  "
    "sheafalign run --resume runs/try"
)
def run(
    config: Annotated[
        Path | None, typer.Argument(help="A YAML configuration.", show_default=False)
    ] = None,
    overrides: Overrides = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="flower (Ray simulation through flwr run), inprocess, or pooled (joint training "
            "on pooled data, the reference).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder to make; default: runs/NAME-DATE.", show_default=False),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the interrupted run in this folder.", metavar="RUN_DIR"),
    ] = None,
    data: DataPath = None,
    attach: Annotated[
        Path | None,
        typer.Option(
            help="Wait for the run that was submitted to --relay from this folder.",
            metavar="RUN_DIR",
        ),
    ] = None,
    relay: Annotated[
        str | None,
        typer.Option(help="Run on this relay, whose nodes are elsewhere.", metavar="HOST:PORT"),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="Folder with an operator's keys, for --relay.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="For --relay: no TLS and no sealed edges.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar and no tables.")
    ] = False,
) -> None:
    """Run a federation, on this machine or on a relay, from handshake to report."""
    from sheafalign_fl.config import load_settings, parse_settings

    console = Console(stderr=True, quiet=quiet)
    deployment = deploy.deployment(relay, keys, insecure=insecure)
    if [config, resume, attach].count(None) != 2:
        raise UserError("give a configuration, --resume RUN_DIR or --attach RUN_DIR, and one only")
    _check_place(attach, relay, engine, data)
    if (known := resume or attach) is not None:
        if overrides or out or data:
            raise UserError(
                "--resume and --attach take the run as it was configured; leave out --set, --data "
                "and --out"
            )
        if engine is not None:
            _check_engine(engine)
        from sheafalign_fl.runs.folder import RunFolder

        settings = RunFolder(known).settings()
    else:
        changes = [*_changes(overrides, data), *([f"engine={engine}"] if engine else [])]
        given = _given(config)
        settings = (
            deploy.deployed_settings(given, changes, insecure=insecure, console=console)
            if deployment is not None
            else load_settings(given, changes)
        )
    parse_settings(settings.model_dump())
    # Once the settings are in order: these load torch and flwr.
    from sheafalign_fl.data.preparation import watched
    from sheafalign_fl.engines import launch
    from sheafalign_fl.report import print_summary
    from sheafalign_fl.runs.progress import follow

    path = known or out or launch.default_folder(settings)
    _make_importable(config)
    path.exists()  # a name that no folder can have is told here, not by the bar's thread
    try:
        bar = follow(path / "metrics.jsonl", settings.training.exchanges, console)
        with bar as count, watched(count):
            if attach is not None and deployment is not None:
                summary = launch.attach(path, deployment)
            elif resume is not None:
                summary = launch.resume(path, engine, deployment)
            else:
                summary = launch.start(settings, path, deployment)
    except KeyboardInterrupt:
        again = (
            ""
            if relay is None
            else f" --relay {relay}" + (" --insecure" if insecure else f" --keys {keys}")
        )
        console.print(f"interrupted; go on with: sheafalign run --resume {path}{again}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not quiet:
        print_summary(summary, Console())
    typer.echo(f"report: {path / 'report.html'}")


@app.command(
    epilog="Example:  [bold]sheafalign check experiments/watch.yaml --set "
    "training.batch_size=64[/bold]"
)
def check(config: ConfigPath, overrides: Overrides = None, data: DataPath = None) -> None:
    """Check a configuration and its data without running anything, and show what would run."""
    from sheafalign_fl.config import load_settings

    settings = load_settings(config, _changes(overrides, data))
    # Once the settings are in order: these load torch.
    from sheafalign_fl.cli.listings import print_checked
    from sheafalign_fl.engines.check import check as check_settings

    _make_importable(config)
    with _reading_shown():
        checked = check_settings(settings)
    print_checked(checked, Console())


@app.command(
    epilog="Examples:  [bold]sheafalign compare experiments/benchmark/*.yaml --seeds 0,1,2[/bold]  "
    "·  sheafalign compare experiments/benchmark/halves.yaml --quick --out runs/quick"
)
def compare(
    configs: Annotated[
        list[Path], typer.Argument(help="Benchmark files, or experiments.", show_default=False)
    ],
    seeds: Annotated[str, typer.Option(help="Seeds of every cell, comma-separated.")] = "0,1,2",
    out: Annotated[
        Path, typer.Option(help="Folder for everything; finished cells in it are kept.")
    ] = Path("runs/benchmark"),
    overrides: Overrides = None,
    data: DataPath = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Runs at the same time; default: one for each processor.", min=1),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few exchanges of everything: does it work?")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="Only these methods, comma-separated.", metavar="METHODS", show_default=False
        ),
    ] = None,
) -> None:
    """Compare methods over data sets and seeds; one report, one sentence per claim of the paper."""
    from sheafalign_fl.benchmark.plan import load_plan
    from sheafalign_fl.runs.progress import sweep_progress

    plans = [load_plan(config, _changes(overrides, data), quick=quick) for config in configs]
    # Once the plans are in order: these load torch, flwr and matplotlib.
    from sheafalign_fl.benchmark.launch import run_benchmark
    from sheafalign_fl.benchmark.report import print_benchmark
    from sheafalign_fl.benchmark.results import load_benchmark

    for config in configs:
        _make_importable(config)
    console = Console(stderr=True)
    try:
        with sweep_progress(console) as progress:
            folder = run_benchmark(plans, _seeds(seeds), out, jobs, progress, only)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on with what is left")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    print_benchmark(load_benchmark(folder / "benchmark.json"), Console())
    typer.echo(f"report: {folder / 'benchmark.html'}")


@app.command(epilog="Example:  [bold]sheafalign report runs/a runs/b --out comparison.html[/bold]")
def report(
    run_dirs: Annotated[
        list[Path], typer.Argument(help="Run folders; several are compared.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write; default: report.html in the (first) run folder."),
    ] = None,
) -> None:
    """Write the HTML report of a run again, or one that compares several runs."""
    from sheafalign_fl.report import write_report

    destination = out or run_dirs[0] / ("report.html" if len(run_dirs) == 1 else "comparison.html")
    write_report(run_dirs, destination)
    typer.echo(f"report: {destination}")


@app.command(epilog="Example:  [bold]sheafalign encoders --batch 32[/bold]")
def encoders(
    batch: Annotated[int, typer.Option(help="Events of a batch, for the times.", min=1)] = 128,
) -> None:
    """List the built-in encoders: inputs, parameters, and how long a batch takes here."""
    from sheafalign_fl.cli.listings import print_encoders

    print_encoders(batch, Console())


@data_app.command("list", epilog="Example:  [bold]sheafalign data list[/bold]")
def data_list() -> None:
    """List the built-in data sources."""
    from sheafalign_fl.cli.listings import print_sources

    print_sources(Console())


@data_app.command("describe", epilog="Example:  [bold]sheafalign data describe scenes[/bold]")
def data_describe(
    name: Annotated[
        str, typer.Argument(help="A source that `sheafalign data list` shows.", show_default=False)
    ],
) -> None:
    """Describe a data source: modalities, options, labels, where it comes from."""
    from sheafalign_fl.cli.listings import print_source

    print_source(name, Console())


@data_app.command(
    "check",
    epilog="Examples:  [bold]sheafalign data check recordings[/bold]  ·  "
    "sheafalign data check recordings --set period=0.1 --set window=4",
)
def data_check(
    path: Annotated[
        Path, typer.Argument(help="The folder of a data set.", metavar="PATH", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            help="An option of the data source; may be given more than once.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Which source reads it; default: what it looks like.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the splits.", min=0)] = 0,
) -> None:
    """Explain what a folder of recordings holds: modalities, shared events, labels, any faults."""
    from sheafalign_fl.cli.listings import print_inspection
    from sheafalign_fl.config import parse_assignments
    from sheafalign_fl.data.inspection import inspect

    with _reading_shown():
        inspection = inspect(path, parse_assignments(overrides or []), source, seed)
        from sheafalign_fl.engines.suggestion import suggest  # torch

        suggestion = suggest(inspection)
    print_inspection(inspection, suggestion, Console())
    if not inspection.usable or suggestion.problems:
        raise typer.Exit(UserError.exit_code)


@data_app.command(
    "export",
    epilog="Example:  [bold]sheafalign data export scenes --format deepsense6g recordings --events "
    "2000 --light[/bold]",
)
def data_export(
    source: Annotated[str, typer.Argument(help="What to write: scenes.", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(help="A new or empty folder.", metavar="DIR", show_default=False)
    ],
    file_format: Annotated[str, typer.Option("--format", help="Format of the files: deepsense6g.")],
    variant: Annotated[str, typer.Option(help="plain, blockage, challenge or authors.")] = "plain",
    events: Annotated[int, typer.Option(help="Frames of all sequences together.")] = 2000,
    frames: Annotated[int, typer.Option(help="Frames of a sequence.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the world and of all noise.")] = 0,
    light: Annotated[
        bool, typer.Option("--light", help="Small pictures, point clouds and radar cubes.")
    ] = False,
    modalities: Annotated[
        str | None,
        typer.Option(help="Only these, comma-separated, such as camera,beam.", show_default=False),
    ] = None,
) -> None:
    """Write simulated scenes in the format of a recorded data set, to try its loader without it."""
    from sheafalign_fl.data.export import export_deepsense6g
    from sheafalign_fl.runs.progress import count_progress

    if source != "scenes":
        raise UserError(f"{source}: only scenes can be exported")
    if file_format != "deepsense6g":
        raise UserError(f"--format {file_format}: it must be deepsense6g")
    wanted = None if modalities is None else [name.strip() for name in modalities.split(",")]
    console = Console(stderr=True)
    try:
        with count_progress("events", events, console) as done:
            export_deepsense6g(
                folder,
                events=events,
                frames=frames,
                seed=seed,
                variant=cast(Any, variant),  # checked there
                modalities=wanted,
                light=light,
                on_event=done,
            )
    except KeyboardInterrupt:
        console.print("interrupted; nothing was kept")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    typer.echo(f"written: {folder}")


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise UserError(f"--seeds {text}: give different whole numbers from 0 on, such as 0,1,2")
    return seeds


def _reading_shown() -> AbstractContextManager[None]:
    """Show a bar on a terminal for files that are read while the block runs."""
    from sheafalign_fl.data.preparation import watched
    from sheafalign_fl.runs.progress import count_progress

    console = Console(stderr=True)
    return watched(lambda name, total: count_progress(name, total, console))


def _check_place(
    attach: Path | None, relay: str | None, engine: str | None, data: Path | None
) -> None:
    """Refuse options of a run that do not fit the place where it runs."""
    if attach is not None and relay is None:
        raise UserError("--attach is for a run on a relay; give --relay HOST:PORT")
    if relay is not None and (engine or data):
        raise UserError(
            "--engine and --data are for runs on this machine; with --relay the nodes do the work, "
            "each on its own data (sheafalign node --data)"
        )


def _changes(overrides: list[str] | None, data: Path | None) -> list[str]:
    """Return the overrides of a command, those of its other options among them."""
    if data is None:
        return overrides or []
    if not data.exists():
        raise UserError(f"--data {data}: there is no such folder or file")
    return [*(overrides or []), f"data.path={json.dumps(str(data.resolve()))}"]


def _given(config: Path | None) -> Path:
    if config is None:
        raise UserError("give a configuration")
    return config


def _check_engine(engine: str) -> None:
    from sheafalign_fl.engines.launch import ENGINES

    if engine not in ENGINES:
        raise UserError(f"--engine {engine}: it must be one of {', '.join(ENGINES)}")


def _make_importable(config: Path | None) -> None:
    """Let dotted paths in a configuration find modules in the current folder and beside it.

    Before any installed package of the same name: some install a package called `tests`.
    """
    folders = [Path.cwd(), *([config.resolve().parent] if config is not None else [])]
    for folder in map(str, folders):
        sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]


def _terminate(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line: one clear line and an exit code for every error that is foreseen."""
    signal.signal(signal.SIGTERM, _terminate)
    machine.fit_the_terminal()
    _log_to_terminal()
    _exit(app)


def _log_to_terminal() -> None:
    from sheafalign_fl.runs.progress import TerminalLog

    handler = TerminalLog(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(capture=True)


def _exit(command: Callable[[], object]) -> None:
    try:
        machine.check_folder()
        command()
    except SheafAlignError as error:
        typer.echo(f"error: {error}" if error.exit_code else str(error), err=bool(error.exit_code))
        raise SystemExit(error.exit_code) from None
    except ModuleNotFoundError as error:
        if (missing := explained(error)) is None:
            raise
        typer.echo(f"error: {missing}", err=True)
        raise SystemExit(missing.exit_code) from None
    except OSError as error:
        if (limit := machine.explained(error)) is None:
            raise
        typer.echo(f"error: {limit}", err=True)
        raise SystemExit(limit.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
