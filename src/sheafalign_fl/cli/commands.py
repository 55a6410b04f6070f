"""The command line: `sheafalign run | compare | check | report | encoders | data`, and `deploy`."""

import json
import logging
import re
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from rich.console import Console

from sheafalign_fl.cli import deploy, machine, use
from sheafalign_fl.cli.export import export
from sheafalign_fl.cli.serve import serve
from sheafalign_fl.errors import SheafAlignError, UserError
from sheafalign_fl.extras import explained
from sheafalign_fl.numbers import count_of
from sheafalign_fl.version import __version__

if TYPE_CHECKING:
    from sheafalign_fl.config import Settings
    from sheafalign_fl.runs.summary import Summary

EXIT_INTERRUPTED = 130
_MOST_SEEDS = 1000
_SEEDS = re.compile(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*")

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
use.add_commands(app)
app.command(
    epilog="Example:  [bold]sheafalign export runs/street --client camera --to onnx[/bold]"
)(export)
app.command(epilog="Example:  [bold]sheafalign serve runs/street --client camera[/bold]")(serve)

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
        typer.Option(
            help="Go on with the run in this folder: from where it was interrupted, or longer with "
            "--set training.exchanges=N.",
            metavar="RUN_DIR",
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Start from the last weights of the clients of this run; with --relay by its name "
            "there, from each node's own state.",
            metavar="RUN",
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            help="Log to tensorboard, mlflow or wandb; may be given more than once.",
            metavar="TRACKER",
        ),
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
    from sheafalign_fl.config import load_settings, parse_assignments

    console = Console(stderr=True, quiet=quiet)
    deployment = deploy.deployment(relay, keys, insecure=insecure)
    if [config, resume, attach].count(None) != 2:
        raise UserError("give a configuration, --resume RUN_DIR or --attach RUN_DIR, and one only")
    _check_place(attach, relay, engine, data)
    longer = parse_assignments(overrides or []) if resume is not None else {}
    if (known := resume or attach) is not None:
        if out or data or init_from or (overrides and attach is not None):
            raise UserError(
                "--resume and --attach take the run as it was configured; leave out --data, --out "
                "and --init-from, and --set with --attach"
            )
        settings = _known_settings(known, engine, longer)
    else:
        changes = [*_changes(overrides, data), *([f"engine={engine}"] if engine else [])]
        changes += [] if init_from is None else [_start_of(init_from, relay)]
        given = _given(config)
        settings = (
            deploy.deployed_settings(given, changes, insecure=insecure, console=console)
            if deployment is not None
            else load_settings(given, changes)
        )
    # Once the settings are in order: these load torch and flwr.
    from sheafalign_fl.data.preparation import watched
    from sheafalign_fl.engines import launch
    from sheafalign_fl.runs import callbacks
    from sheafalign_fl.runs.progress import follow
    from sheafalign_fl.runs.trackers import trackers

    path = known or out or launch.default_folder(settings)
    make_importable(config)
    told = trackers(track or [])
    path.exists()  # a name that no folder can have is told here, not by the bar's thread
    try:
        training = settings.training
        total = training.exchanges if training.epochs is None else None
        with follow(path / "metrics.jsonl", total, console) as count, watched(count):
            if known is None:
                settings = launch.checked(settings, deployment)
            with callbacks.follow(path, settings, told):
                if attach is not None and deployment is not None:
                    summary = launch.attach(path, deployment)
                elif resume is not None:
                    summary = launch.resume(path, engine, deployment, longer)
                else:
                    summary = launch.start_checked(settings, path, deployment)
    except KeyboardInterrupt:
        again = "" if relay is None else f" --relay {relay}{_trust(keys, insecure=insecure)}"
        console.print(f"interrupted; go on with: sheafalign run --resume {path}{again}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _tell(path, summary, quiet=quiet)


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

    make_importable(config)
    with _reading_shown():
        checked = check_settings(settings)
    print_checked(checked, Console())


@app.command(
    epilog="Examples:  [bold]sheafalign compare experiments/benchmark/*.yaml --seeds 0-4[/bold]  "
    "·  sheafalign compare experiments/benchmark/halves.yaml --quick --out runs/quick"
)
def compare(
    configs: Annotated[
        list[Path], typer.Argument(help="Benchmark files, or experiments.", show_default=False)
    ],
    seeds: Annotated[str, typer.Option(help="Seeds of every cell, such as 0-4 or 0,3.")] = "0-4",
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
    until_settled: Annotated[
        bool,
        typer.Option(
            "--until-settled", help="Beyond the first five seeds, only what is still open."
        ),
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="Begin no run after so many; default: no limit.", min=0),
    ] = None,
) -> None:
    """Compare methods over data sets and seeds; one report, one sentence per claim of the paper."""
    from sheafalign_fl.benchmark.plan import load_plan
    from sheafalign_fl.runs.progress import sweep_progress

    plans = [load_plan(config, _changes(overrides, data), quick=quick) for config in configs]
    # Once the plans are in order: these load torch, flwr and matplotlib.
    from sheafalign_fl.benchmark.report import print_benchmark
    from sheafalign_fl.benchmark.running import run_benchmark

    for config in configs:
        make_importable(config)
    console = Console(stderr=True)
    try:
        with sweep_progress(console) as progress:
            benchmark, left = run_benchmark(
                plans,
                _seeds(seeds),
                out,
                jobs,
                progress,
                only,
                until_settled=until_settled,
                minutes=minutes,
            )
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on with what is left")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    print_benchmark(benchmark, Console())
    if left:
        typer.echo(f"the minutes are over; the same command goes on with {count_of(left, 'run')}")
    typer.echo(f"report: {out / 'benchmark.html'}")


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
    """Return the seeds of a list such as 0,3 or 0-4,7."""
    matches = [_SEEDS.fullmatch(part) for part in text.split(",")]
    ends = [(int(match[1]), int(match[2] or match[1])) for match in matches if match is not None]
    fits = all(0 <= last - first < _MOST_SEEDS for first, last in ends)
    seeds = [seed for first, last in ends for seed in range(first, last + 1)] if fits else []
    if None in matches or not seeds or len(set(seeds)) != len(seeds):
        raise UserError(
            f"--seeds {text}: give different whole numbers from 0 on, such as 0-4 or 0,3"
        )
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


def _known_settings(run: Path, engine: str | None, changes: dict[str, Any]) -> "Settings":
    """Return the settings of a run that is there, with the changes that it goes on with."""
    from sheafalign_fl.config import parse_settings
    from sheafalign_fl.config.methods import merge
    from sheafalign_fl.runs.folder import RunFolder

    if engine is not None:
        _check_engine(engine)
    return parse_settings(merge(RunFolder(run).settings().model_dump(mode="json"), changes))


def _trust(keys: Path | None, *, insecure: bool) -> str:
    """Return the options that say how a relay is trusted, as they were given."""
    return " --insecure" if insecure else f" --keys {keys}"


def _tell(path: Path, summary: "Summary", *, quiet: bool) -> None:
    """Print a run's result, what to be careful of, and where its report lies."""
    from sheafalign_fl.report import print_summary
    from sheafalign_fl.runs.reading import read_run

    if not quiet:
        print_summary(summary, Console())
    for line in read_run(path).warnings:
        typer.echo(f"careful: {line}", err=True)
    typer.echo(f"report: {path / 'report.html'}")


def _start_of(run: str, relay: str | None) -> str:
    """Return the setting that lets a run start from another one's weights."""
    if relay is not None:  # a name, which the nodes know; a folder of this machine is called so
        return f"init_from={json.dumps(Path(run).name)}"
    if not Path(run).is_dir():
        raise UserError(f"--init-from {run}: there is no such run folder")
    return f"init_from={json.dumps(str(Path(run).resolve()))}"


def _given(config: Path | None) -> Path:
    if config is None:
        raise UserError("give a configuration")
    return config


def _check_engine(engine: str) -> None:
    from sheafalign_fl.engines.launch import ENGINES

    if engine not in ENGINES:
        raise UserError(f"--engine {engine}: it must be one of {', '.join(ENGINES)}")


def make_importable(config: Path | None) -> None:
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
