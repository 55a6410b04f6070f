"""Submitting a run to a SuperLink with `flwr run`, and waiting for its end.

`flwr run` exits with 0 whatever becomes of the run, so what counts is what Flower and the run folder say of it.
"""

import json
import time

from sheafalign_fl.config import Settings, encode
from sheafalign_fl.engines.app_folder import make_app_folder
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.flower.superlink import SuperLink
from sheafalign_fl.run.folder import RunFolder

_NEW_SECONDS = 5.0
"""Pause between two questions to Flower, each of which costs a process; an end in the run folder is seen at once."""
_POLL_SECONDS = 0.2
_TOLERATED = 3
"""So many questions in a row may go unanswered before the SuperLink is given up."""


def submit(
    settings: Settings,
    folder: RunFolder,
    link: SuperLink,
    *,
    resume: bool,
    options: tuple[str, ...] = (),
) -> str:
    """Submit a run and return Flower's id of it; raise `RunError` if Flower does not take it."""
    app = link.home / "app"
    if not app.exists():
        make_app_folder(app)
    run_config = link.home / "run.toml"
    run_config.write_text(
        f"config = {json.dumps(encode(settings))}\n"
        f"run-dir = {json.dumps(str(folder.path.resolve()))}\n"
        f"resume = {'true' if resume else 'false'}\n",
        encoding="utf-8",
    )
    answer = link.flwr("run", str(app), options=("--run-config", str(run_config), *options))
    if not answer.get("success"):
        raise RunError(f"flwr run failed: {' '.join(str(answer.get('error-message')).split())}")
    return str(answer["run-id"])


def wait(
    run_id: str, folder: RunFolder, link: SuperLink, log: str = "flower.log", most: float = 30.0
) -> None:
    """Wait until the run has ended; raise if it did not end well, by its own account and by Flower's.

    Flower is asked every `most` seconds at least, in case the run's end does not come to the run folder.
    """
    checked = time.monotonic()
    flower, details, unanswered = "", "", 0
    while not flower.startswith("finished"):
        time.sleep(_POLL_SECONDS)
        pause = {"new": _NEW_SECONDS, "running": most}.get(folder.status()["state"], 0.0)
        if time.monotonic() - checked < pause:
            continue
        try:
            flower, details = flower_status(run_id, link)
            unanswered = 0
        except RunError:
            unanswered += 1
            if unanswered >= _TOLERATED:
                raise
            time.sleep(1.0)
        checked = time.monotonic()
    status = folder.status()
    if status["state"] == "failed":
        error = SheafAlignError(status["reason"])
        error.exit_code = int(status.get("exit_code", 1))
        raise error
    elsewhere = (
        status["state"] == "new"
    )  # the relay is another machine, and so is the run folder that it wrote
    if flower != "finished:completed" or not (elsewhere or status["state"] == "completed"):
        raise RunError(
            f"Flower says that the run is {flower} ({details or 'no reason given'}); see {log}"
        )


def flower_status(run_id: str, link: SuperLink) -> tuple[str, str]:
    """Return Flower's status of the run, such as "finished:failed", and its reason."""
    answer = link.flwr("list", options=("--run-id", run_id))
    runs = answer.get("runs", [])
    if not runs:
        raise RunError(f"the SuperLink is gone: {str(answer.get('error-message'))[-300:]}")
    return str(runs[0]["status"]), str(runs[0].get("details", ""))
