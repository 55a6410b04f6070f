"""The deployed engine: a run on a relay that nodes on other machines are connected to."""

from dataclasses import dataclass

from sheafalign_fl.config import Settings
from sheafalign_fl.engines.submission import submit, wait
from sheafalign_fl.errors import SheafAlignError
from sheafalign_fl.flower.control import Control, OperatorFiles
from sheafalign_fl.runs.folder import RunFolder, check_run_name


class ElsewhereError(SheafAlignError):
    """A run has ended well, but on another machine than this."""

    exit_code = 0


@dataclass(frozen=True)
class Deployment:
    """Where to run."""

    relay: str
    """host:port."""
    operator: OperatorFiles | None
    """None: insecure."""

    def connect(self) -> Control:
        """Return a connection to the relay."""
        return Control.at(self.relay, self.operator)


def run_deployed(
    settings: Settings, folder: RunFolder, deployment: Deployment, *, resume: bool = False
) -> None:
    """Run a federation to its end on a relay.

    The run folder is the relay's, which keeps it under the same name among its own runs. If that is
    not this folder, because the relay is elsewhere, this raises `ElsewhereError` at the good end.

    Raises
    ------
    SheafAlignError
        The run failed; the message and the exit code are those of the first error in the federation.
    """
    check_run_name(name := folder.path.resolve().name)
    control = deployment.connect()
    try:
        run_id = submit(settings, folder, control, resume=resume, run_dir=name)
        try:
            wait(run_id, folder, control, "the relay's superlink.log")
        except KeyboardInterrupt:
            control.stop(run_id)
            raise
    finally:
        control.close()
    if not folder.summary.is_file():
        raise ElsewhereError(
            f"the run has completed; its folder is '{name}' among the runs of the relay's machine"
        )
