"""Which software a result was made with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.version import InvalidVersion, Version

from sheafalign_fl.version import __version__


def versions() -> dict[str, str | None]:
    """Return the versions a run's result may depend on, the platform, and the software's commit."""
    found: dict[str, str | None] = {
        "sheafalign-fl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": commit(),
    }
    for package in ("flwr", "torch", "numpy", "ray", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def newer(found: object) -> bool:
    """Return whether `found`, such as ``0.2.0``, is a later version of this software than this."""
    try:
        return Version(str(found)) > Version(__version__)
    except InvalidVersion:
        return False


def commit() -> str | None:
    """Return the software's git commit, "+" if the work tree differs; None outside a repository."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return None
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
