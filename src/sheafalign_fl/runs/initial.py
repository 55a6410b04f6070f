"""Where the weights lie that a run starts from: in another run's folder, or in a node's own state.

On one machine `init_from` names a run folder. A configuration from the wire names no path: it is
the name that the run has on its relay, and each node looks for it among its own states.

A run that goes on has all of that in its own checkpoints, and needs the other run no more.
"""

from pathlib import Path

from torch import Tensor

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import ConfigError, UserError
from sheafalign_fl.learner.initial import Initial
from sheafalign_fl.learner.state import from_bytes, start_of
from sheafalign_fl.listing import listed
from sheafalign_fl.runs.folder import RunFolder

NAME = "name"
"""File in a node's state of a run: what the run is called on its relay."""
_RUNS = Path("runs")
_PARTS = ("encoder.", "maps.")


def initial_of(
    settings: Settings, client: str, states: Path | None = None, going_on: str | None = None
) -> Initial | None:
    """Return the weights that `client` starts from; None where it starts anew.

    Parameters
    ----------
    states
        The client's own folder with its state of every run, if it is a deployed one.
    going_on
        The run itself, if it is resumed: its folder; for a deployed client, its name on the relay.

    Raises
    ------
    UserError
        There is no such run or none of its checkpoints, a file is damaged, or a client that is
        frozen has no weights in it.
    """
    if settings.init_from is None:
        return None
    if going_on is not None and (own := _own_state(going_on, client, states)) is not None:
        return _begun_from(own, client)
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


def has_begun(run: Path) -> bool:
    """Say whether a run on this machine can go on from a checkpoint of its own."""
    return RunFolder(run).last_checkpoint() is not None


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
    elsewhere = "; if it is the name of a run on a relay, its nodes look for it there (--relay)"
    elsewhere = "" if "/" in name else elsewhere
    raise UserError(f"init_from: {name} is no run folder: it has no config.yaml{elsewhere}")


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


def _own_state(run: str, client: str, states: Path | None) -> bytes | None:
    """Return the client's newest state of a run that is resumed; None if it has saved none."""
    if states is not None:
        saved = _newest(states, run, client)
        return None if saved is None else saved[1]
    folder = RunFolder(Path(run))
    checkpoint = folder.last_checkpoint()
    return None if checkpoint is None else folder.load_client(checkpoint.exchange, client)


def _begun_from(state: bytes, client: str) -> Initial | None:
    """Return what a client that has learnt since started from, with the weights that it has now.

    They take the place of those that it began with, and are what it goes on with.
    """
    tensors = _tensors("the run", state, client)
    if "start" not in tensors:
        return None
    run, known = start_of(tensors["start"])
    parts = ("encoder.", *(f"maps.{neighbour}." for neighbour in known))
    return Initial(run, None, {k: v for k, v in tensors.items() if k.startswith(parts)})


def _among_states(states: Path, name: str, client: str) -> Initial | None:
    """Return what `client` had learnt in the run `name`."""
    saved = _newest(states, name, client)
    return None if saved is None else _read(name, *saved, client)


def _newest(states: Path, name: str, client: str) -> tuple[int, bytes] | None:
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
            return saved
    return None


def _read(name: str, exchanges: int, state: bytes, client: str) -> Initial:
    tensors = _tensors(f"run {name}", state, client)
    return Initial(name, exchanges, {k: v for k, v in tensors.items() if k.startswith(_PARTS)})


def _tensors(run: str, state: bytes, client: str) -> dict[str, Tensor]:
    try:
        return from_bytes(state)
    except Exception as error:  # safetensors raises types of its own
        raise UserError(
            f"init_from: the state of client '{client}' in {run} is damaged ({error})"
        ) from None
