"""Where the weights lie that a run starts from: in another run's folder, or in a node's own state.

On one machine `init_from` names a run folder. A configuration from the wire names no path: it is
the name that the run has on its relay, and each node looks for it among its own states.
"""

from pathlib import Path

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ConfigError, UserError
from sheafalign_fl.learner.initial import Initial
from sheafalign_fl.learner.state import from_bytes
from sheafalign_fl.listing import listed
from sheafalign_fl.runs.folder import RunFolder

NAME = "name"
"""File in a node's state of a run: what the run is called on its relay."""
_RUNS = Path("runs")
_PARTS = ("encoder.", "maps.")


def initial_of(settings: Settings, client: str, states: Path | None = None) -> Initial | None:
    """Return the weights that `client` starts from; None where it starts anew.

    Parameters
    ----------
    states
        The client's own folder with its state of every run, if it is a deployed one.

    Raises
    ------
    UserError
        There is no such run or none of its checkpoints, a file is damaged, or a client that is
        frozen has no weights in it.
    """
    if settings.init_from is None:
        return None
    found = (
        _in_folder(Path(settings.init_from), client)
        if states is None
        else _among_states(states, settings.init_from, client)
    )
    if found is None and settings.clients[client].freeze:
        raise ConfigError(
            f"clients.{client}.freeze: run {Path(settings.init_from).name} has no weights of "
            f"client '{client}', which would stay as the seed made them"
        )
    return found


def find_run(name: str) -> Path:
    """Return the folder of the run that `init_from` names on this machine.

    A name without a slash is that of a folder below ``runs/``, or in the current folder.

    Raises
    ------
    UserError
        There is none.
    """
    for path in (Path(name),) if "/" in name else (_RUNS / name, Path(name)):
        if RunFolder(path).config.is_file():
            return path.resolve()
    raise UserError(f"init_from: {name} is no run folder: it has no config.yaml")


def _in_folder(path: Path, client: str) -> Initial | None:
    folder = RunFolder(path)
    if client not in folder.settings().clients:
        return None
    if (checkpoint := folder.last_checkpoint()) is None:
        raise UserError(
            f"init_from: {path} holds no complete checkpoint; what clients on other machines have "
            "learnt is with them: start the run on their relay (--relay)"
        )
    state = folder.load_client(checkpoint.exchange, client)
    return _read(path.name, checkpoint.exchange, state, client)


def _among_states(states: Path, name: str, client: str) -> Initial | None:
    """Return the newest state of the run `name`; of two runs of that name, the later one's."""
    named = [
        file.parent
        for file in listed(states, f"*/{NAME}")
        if file.read_text(encoding="utf-8", errors="replace") == name
    ]
    if (states / name / "checkpoints").is_dir():  # by its identity, which no two runs share
        named.append(states / name)
    for run in sorted(named, key=lambda path: path.stat().st_mtime, reverse=True):
        if (saved := RunFolder(run).newest_state(client)) is not None:
            return _read(name, *saved, client)
    return None


def _read(name: str, exchanges: int, state: bytes, client: str) -> Initial:
    try:
        weights = {k: v for k, v in from_bytes(state).items() if k.startswith(_PARTS)}
    except Exception as error:  # safetensors raises types of its own
        raise UserError(
            f"init_from: the state of client '{client}' in run {name} is damaged ({error})"
        ) from None
    return Initial(name, exchanges, weights)
