"""The Flower ServerApp: read the configuration, open the run folder, run the strategy."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from sheafalign_fl.config import Settings, decode
from sheafalign_fl.config.admission import admit
from sheafalign_fl.config.policy import under
from sheafalign_fl.deploy.briefing import given_policy, registered_nodes, runs_folder
from sheafalign_fl.deploy.logs import JsonLines
from sheafalign_fl.engines.inprocess import InProcessGrid
from sheafalign_fl.errors import SheafAlignError, UserError
from sheafalign_fl.files import user_folder
from sheafalign_fl.flower.fetching import fetch_without_delay
from sheafalign_fl.flower.place import relay_policy
from sheafalign_fl.metrics.classifier import check_installed
from sheafalign_fl.report import draw_report
from sheafalign_fl.runs.folder import RunFolder, check_run_name
from sheafalign_fl.runs.longer import check_same_but_longer
from sheafalign_fl.threads import limit_threads
from strategies.peer_to_peer import PeerToPeer

app = ServerApp()
_log = logging.getLogger("sheafalign.relay")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one federation from handshake to report."""
    policy = relay_policy(grid, context.node_config, given_policy())
    app_folder = Path(__file__).resolve().parents[1] if policy.own_machine else None
    settings = decode(str(context.run_config["config"]), app_folder)
    admit(settings, policy, relay=True)
    limit_threads(settings.resources.threads)  # the fused probe's last bits depend on it
    resume = bool(context.run_config.get("resume", False))
    given = str(context.run_config.get("run-dir") or "")
    folder = _own_folder(settings, given) if policy.own_machine else _relay_folder(settings, given)
    if not (resume or policy.own_machine or folder.status()["state"] == "new"):
        raise UserError(f"the relay has a run '{folder.path.name}' already; give another --out")
    if resume and folder.settings().digest() != settings.digest():
        checkpoint = folder.last_checkpoint()
        done = 0 if checkpoint is None else checkpoint.exchange
        check_same_but_longer(folder.settings(), settings, done)
        folder.reconfigure(settings)
    folder.set_status("running")
    fetch_without_delay(settings.training.deadline)
    try:
        check_installed(["missing"] if "missing" in settings.evaluation.metrics else [])
        with under(policy), _logged(folder, context.run_id):
            PeerToPeer(settings, grid, folder, partial(_registered, grid)).run(resume=resume)
            draw_report(folder)
    except SheafAlignError as error:
        folder.set_status("failed", str(error), exit_code=error.exit_code)
        raise
    except KeyboardInterrupt:
        folder.set_status("interrupted", "stopped by the user")
        raise
    except Exception as error:
        folder.set_status("failed", f"{type(error).__name__}: {error}", exit_code=1)
        raise
    _log.info("run folder: %s", folder.path)


def _registered(grid: Grid) -> Mapping[str, int]:
    """Return client -> node that has its key, as it is now."""
    # In process each node was made for its client, as if it had the client's key.
    return grid.registered if isinstance(grid, InProcessGrid) else registered_nodes()


@contextmanager
def _logged(folder: RunFolder, run_id: int) -> Iterator[None]:
    """Append what the relay logs to the run folder's run.log, one JSON object a line."""
    handler = logging.FileHandler(folder.path / "run.log", encoding="utf-8")
    handler.setFormatter(JsonLines({"run": run_id}))
    logger = logging.getLogger("sheafalign")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()


def _own_folder(settings: Settings, given: str) -> RunFolder:
    """Return the run folder that the launcher made, or a new one for a bare `flwr run`."""
    folder = RunFolder(Path(given) if given else user_folder() / "runs" / _dated(settings))
    if not folder.config.is_file():
        folder.create(settings)
    return folder


def _relay_folder(settings: Settings, given: str) -> RunFolder:
    """Return a run's folder among the relay's own, where it lies whatever the operator says."""
    folder = RunFolder(runs_folder() / check_run_name(given or _dated(settings)))
    if not folder.config.is_file():  # submitted from another machine
        folder.create(settings)
    return folder


def _dated(settings: Settings) -> str:
    return f"{settings.name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"
