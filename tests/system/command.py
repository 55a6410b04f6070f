"""Running the real command line as a user does: a process, an exit code, what it prints."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def sheafalign(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run `sheafalign` with `arguments` and return what came of it."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "sheafalign"), *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return an environment in which Flower keeps quiet and terminals are wide."""
    return {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "COLUMNS": "120"}
