"""Submitting a run to a SuperLink with `flwr run`, and waiting for its end.

`flwr run` exits with 0 whatever becomes of the run, so what counts is what Flower and the run folder say of it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sheafalign_fl.config import Settings, encode
from sheafalign_fl.errors import RunError, SheafAlignError
from sheafalign_fl.flower.app_folder import make_app_folder
from sheafalign_fl.run.folder import RunFolder

_NEW_SECONDS = 5.0
"""Pause between two questions to Flower, each of which costs a process; an end in the run folder is seen at once."""
_POLL_SECONDS = 0.2
_CONNECTION = "relay"
_TOLERATED = 3
"""So many questions in a row may go unanswered before the SuperLink is given up."""


@dataclass(frozen=True)
class SuperLink:
    """How Flower's own commands reach a SuperLink."""

    home: Path
    """Flower's home (FLWR_HOME), which holds the connection."""
    environment: Mapping[str, str]

    @classmethod
    def at(cls, address: str, home: Path, ca: Path | None, environment: Mapping[str, str]) -> "SuperLink":
        """Write the connection to `address` (host:port) into `home`; without `ca` it is insecure."""
        flower = home / "flwr"
        flower.mkdir(parents=True, exist_ok=True)
        trust = "insecure = true" if ca is None else f"root-certificates = {json.dumps(str(ca.resolve()))}"
        (flower / "config.toml").write_text(
            f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\naddress = "{address}"\n{trust}\n',
            encoding="utf-8",
        )
        return cls(home, {**flower_environment(environment), "FLWR_HOME": str(flower)})

    def flwr(self, *words: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
        """Run ``flwr WORDS CONNECTION OPTIONS --format json`` and return its answer."""
        command = [program("flwr"), *words, _CONNECTION, *options, "--format", "json"]
        done = subprocess.run(
            command, env=dict(self.environment), cwd=self.home, capture_output=True, text=True, check=False
        )
        found = _json_in(done.stdout)
        return found or {"success": False, "error-message": " ".join((done.stdout + done.stderr).split())[-500:]}


def flower_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment for Flower's programs: quiet, without downloads, and with this interpreter's programs."""
    base = dict(os.environ if environment is None else environment)
    return base | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", "")]),
    }


def submit(
    settings: Settings, folder: RunFolder, link: SuperLink, *, resume: bool, options: tuple[str, ...] = ()
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


def wait(run_id: str, folder: RunFolder, link: SuperLink, log: str = "flower.log", most: float = 30.0) -> None:
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
    elsewhere = status["state"] == "new"  # the relay is another machine, and so is the run folder that it wrote
    if flower != "finished:completed" or not (elsewhere or status["state"] == "completed"):
        raise RunError(f"Flower says that the run is {flower} ({details or 'no reason given'}); see {log}")


def flower_status(run_id: str, link: SuperLink) -> tuple[str, str]:
    """Return Flower's status of the run, such as "finished:failed", and its reason."""
    answer = link.flwr("list", options=("--run-id", run_id))
    runs = answer.get("runs", [])
    if not runs:
        raise RunError(f"the SuperLink is gone: {str(answer.get('error-message'))[-300:]}")
    return str(runs[0]["status"]), str(runs[0].get("details", ""))


def program(name: str) -> str:
    """Return the path of a program that was installed with this interpreter."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    if (found := shutil.which(name)) is None:
        raise RunError(f"the program '{name}' is not installed; install flwr[simulation]")
    return found


def _json_in(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`, which Flower may have put notes before; empty if there is none."""
    start = text.find("{")
    try:
        found: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else {}
    except json.JSONDecodeError:
        return {}
    return found
