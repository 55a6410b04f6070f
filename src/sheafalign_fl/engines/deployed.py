"""The deployed engine: a run on a relay that nodes on other machines are connected to."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.submission import submit, wait
from sheafalign_fl.errors import SheafAlignError, UserError
from sheafalign_fl.flower.superlink import SuperLink
from sheafalign_fl.run.folder import RunFolder

_STATUS_SECONDS = 10.0
"""How soon it shows that the relay is gone."""


class ElsewhereError(SheafAlignError):
    """A run has ended well, but on another machine than this."""

    exit_code = 0


@dataclass(frozen=True)
class Deployment:
    """Where to run."""

    relay: str
    """host:port."""
    ca: Path | None
    """Certificate of the authority that signed the relay's; None: insecure."""


def find_ca(keys: Path) -> Path:
    """Return the authority's certificate in a folder of keys: all keys, the relay's, or a client's.

    Raises
    ------
    UserError
        There is none.
    """
    for path in (keys / "ca.crt", keys / "relay" / "ca.crt", keys / "ca" / "ca.crt"):
        if path.is_file():
            return path
    raise UserError(
        f"there is no ca.crt in {keys}; give --keys a folder that `sheafalign keys init` made"
    )


def run_deployed(
    settings: Settings, folder: RunFolder, deployment: Deployment, *, resume: bool = False
) -> None:
    """Run a federation to its end on a relay.

    The run folder is the relay's: on this machine, if the relay is. If it is not, this raises `ElsewhereError` at the
    run's good end.

    Raises
    ------
    SheafAlignError
        The run failed; the message and the exit code are those of the first error in the federation.
    """
    with tempfile.TemporaryDirectory(prefix="sheafalign-", ignore_cleanup_errors=True) as name:
        link = SuperLink.at(deployment.relay, Path(name), deployment.ca)
        run_id = submit(settings, folder, link, resume=resume)
        try:
            wait(run_id, folder, link, "the relay's superlink.log", most=_STATUS_SECONDS)
        except KeyboardInterrupt:
            link.flwr("stop", run_id)
            raise
    if not folder.summary.is_file():
        raise ElsewhereError(
            f"the run has completed; its folder is {folder.path.resolve()} on the relay's machine"
        )
