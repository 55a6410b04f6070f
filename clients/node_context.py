"""Where a client's node lives between two messages.

Flower gives a ClientApp one thing that lasts: `Context.state`. In a simulation any worker process
may get a client's next message, so the node's full state goes into it every time. Beside it, every
process keeps the nodes that it has worked with; one whose token equals the context's is up to date
and is used as it is, with the forward pass that it still holds. Where an engine promises that all
of a client's messages come to the same process (node configuration ``resident``), the state stays
in that process and only the token travels.

A deployed client has a folder of its own (node configuration ``state-dir``). If its process was
killed, the session and the newest checkpoint in there are where it goes on.
"""

import re
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context
from numpy.typing import NDArray

from clients import session
from clients.session import Phase, Session
from sheafalign_fl.config import Settings, decode
from sheafalign_fl.config.admission import admit
from sheafalign_fl.config.policy import Policy
from sheafalign_fl.data.base import SPLITS
from sheafalign_fl.deploy.keys import ClientKeys, load_client_keys
from sheafalign_fl.errors import ConfigError, ProtocolError
from sheafalign_fl.flower.place import client_policy
from sheafalign_fl.learner.initial import Initial
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.node import Node
from sheafalign_fl.protocol.acceptance import accept
from sheafalign_fl.protocol.agreement import ClientAgreement
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.runs.folder import RunFolder, is_run_name
from sheafalign_fl.runs.initial import initial_of

_RECORD = "node"
_RUN = re.compile(r"[0-9a-f]{32}|none")
_NONCE = "nonce"
_residents: dict[tuple[int, int], tuple[int, Node]] = {}
_seals: dict[tuple[int, int], SealedEdges] = {}


@lru_cache(maxsize=8)
def _decoded(text: str, data: str | None, policy: Policy) -> Settings:
    app_folder = Path(__file__).resolve().parents[1] if policy.own_machine else None
    settings = decode(text, app_folder)
    admit(settings, policy)
    return with_own_paths(settings, data, policy)


def with_own_paths(settings: Settings, data: str | None, policy: Policy) -> Settings:
    """Return the settings with `data`, the node's own path, in place of every path that they name.

    Raises
    ------
    ConfigError
        They came over the wire and name a path, and the node was started without one of its own.
    """
    if data is None:
        named = [] if settings.data.path is None else ["data.path"]
        named += [
            f"clients.{name}.features"
            for name, client in settings.clients.items()
            if client.features is not None
        ]
        if named and not policy.own_machine:
            raise ConfigError(
                f"{named[0]} is set, but a node reads no path that a configuration names; "
                "start it with --data"
            )
        return settings
    clients = {
        name: client.model_copy(update={"features": str(Path(data) / Path(client.features).name)})
        if client.features is not None
        else client
        for name, client in settings.clients.items()
    }
    own = settings.data.model_copy(update={"path": data})
    return settings.model_copy(update={"data": own, "clients": clients})


def policy_of(context: Context) -> Policy:
    """Return what a configuration may ask of this client's machine."""
    return client_policy(context.node_config)


def settings_of(context: Context) -> Settings:
    """Return the run's settings, admitted by the node's policy.

    Where its data lies is the node's own affair (node configuration ``data``).
    """
    data = context.node_config.get("data")
    text = str(context.run_config["config"])
    return _decoded(text, None if data is None else str(data), policy_of(context))


def configuration_of(context: Context) -> str:
    """Return the digest of the run's settings, which does not change after the handshake."""
    data = context.node_config.get("data")
    text = str(context.run_config["config"])
    return _configuration(text, None if data is None else str(data), policy_of(context))


@lru_cache(maxsize=8)
def _configuration(text: str, data: str | None, policy: Policy) -> str:
    return _decoded(text, data, policy).digest()


def client_of(context: Context) -> str | None:
    """Return this node's client: its own ``client`` setting, else its partition; None if spare."""
    clients = list(settings_of(context).clients)
    if "client" in context.node_config:
        own = str(context.node_config["client"])
        return own if own in clients else None
    partition = int(context.node_config["partition-id"])
    return clients[partition] if partition < len(clients) else None


# ---- sealed edges --------------------------------------------------------------------------------


def check_sealing(context: Context) -> None:
    """Refuse a run not sealed as this node wants: `ConfigError` says what has to change."""
    sealed = settings_of(context).security.sealed
    if sealed and "keys" not in context.node_config:
        raise ConfigError(
            f"security.sealed is true but the node of client '{client_of(context)}' was started "
            "without keys; start it with --keys"
        )
    if not sealed and "keys" in context.node_config and not context.node_config.get("unsealed"):
        raise ConfigError(
            f"the node of client '{client_of(context)}' takes part in sealed runs only; set "
            "security.sealed: true, or start the node with --unsealed"
        )


def nonce_of(context: Context) -> str:
    """Return what this client contributes to the keys of sealed edges: 16 random bytes in hex."""
    if not settings_of(context).security.sealed:
        return ""
    if _NONCE not in context.state.config_records:
        context.state[_NONCE] = ConfigRecord({"nonce": secrets.token_hex(16)})
    return str(context.state.config_records[_NONCE]["nonce"])


def seal_of(context: Context) -> SealedEdges | None:
    """Return what seals and opens this client's frames; None where edges are not sealed."""
    if not settings_of(context).security.sealed:
        return None
    if (found := _seals.get(_key(context))) is not None:
        return found
    keys, record = _keys_of(context), _record(context)
    nonces = ClientAgreement.from_bytes(_bytes(record, "agreement")).nonces
    if nonces.get(keys.name) != nonce_of(context):
        raise ProtocolError(
            f"client '{keys.name}' was restarted during the handshake; start the run again"
        )
    peers = {peer: key for peer, key in keys.peers.items() if peer in nonces}
    if missing := [peer for peer in nonces if peer not in peers and peer != keys.name]:
        raise ConfigError(
            f"the keys of client '{keys.name}' name no peer '{missing[0]}'; "
            "make them with `sheafalign keys add-client`"
        )
    raw = {client: bytes.fromhex(nonce) for client, nonce in nonces.items()}
    _seals[_key(context)] = SealedEdges(keys.name, keys.seal, peers, raw, str(record["run"]))
    return _seals[_key(context)]


def _keys_of(context: Context) -> ClientKeys:
    config = context.node_config
    state = Path(str(config["state-dir"])) if "state-dir" in config else None
    keys = load_client_keys(Path(str(config["keys"])), state=state)
    if keys.name != client_of(context):
        raise ConfigError(
            f"the keys in {keys.folder} are those of client '{keys.name}', not "
            f"'{client_of(context)}'"
        )
    return keys


# ---- the node ------------------------------------------------------------------------------------


def settle(context: Context, agreement: bytes, folder: str, run: str) -> None:
    """Remember what the relay told this client: the agreement, its run folder, and its identity.

    There is one agreement a run. To hear the same one again, as when an answer was lost, changes
    nothing; another one would make new weights, for which old frames would do.

    Raises
    ------
    ProtocolError
        The client has agreed to something else, or the agreement contradicts what it knows.
    """
    if (record := _told(context)) is not None:
        if (_bytes(record, "agreement"), str(record["run"])) != (agreement, run):
            raise ProtocolError("this client has agreed already; there is one handshake a run")
        return
    own = _state_dir(context)
    if own is None and not policy_of(context).own_machine:
        raise ConfigError("a deployed node needs a folder of its own; start it with --state")
    if not _RUN.fullmatch(run):
        raise ProtocolError(f"a run that is called {run[:40]!a}, not by 32 hexadecimal digits")
    if own is not None and run != "none" and not is_run_name(name := session.name_of(folder)):
        raise ProtocolError(f"a run whose folder is called {name[:40]!a}, which is no name")
    _accept(context, ClientAgreement.from_bytes(agreement))
    _remember(context, agreement, folder, run)
    if own is not None and run != "none":
        session.name_run(own, run, folder)
    if own is not None:
        session.save(own, context.run_id, Session(run, agreement.hex(), configuration_of(context)))


def _accept(context: Context, agreement: ClientAgreement) -> None:
    """Refuse an agreement that contradicts the client's own events, settings and keys."""
    name, settings = client_of(context), settings_of(context)
    if name is None:
        raise ProtocolError("a spare node was asked to take part")
    data = client_data(name, settings)
    own: dict[str, NDArray[Any]] = {split: data.ids_of(split) for split in SPLITS}
    pinned = set(_keys_of(context).peers) if "keys" in context.node_config else None
    accept(agreement, name, settings, own, set(data.labels), pinned)


def folder_of(context: Context) -> Path:
    """Return the folder for what this client saves: in its ``state-dir``, else the run's."""
    record, own = _record(context), _state_dir(context)
    return own / str(record["run"]) if own is not None else Path(str(record["folder"]))


def run_of(context: Context) -> str:
    """Return the identity of the run's folder."""
    return str(_record(context)["run"])


def save(context: Context, node: Node, exchanges: int, best: int | None = None) -> None:
    """Save the node's state as its part of the checkpoint after `exchanges` exchanges.

    `best` is the checkpoint that a client with a folder of its own keeps beside the newest.
    """
    folder = RunFolder(folder_of(context))
    keep_best(context, best)
    folder.save_client(exchanges, node.name, node.state())
    if _state_dir(context) is not None:
        session.prune(folder, node.settings.checkpoint.keep)


def keep_best(context: Context, best: int | None) -> None:
    """Note in the client's own folder which checkpoint was the best of all clients together."""
    if best is not None and _state_dir(context) is not None:
        RunFolder(folder_of(context)).set_best(best)


def started_from(context: Context) -> str:
    """Return the run whose weights this client starts from, for people; empty if anew.

    Raises
    ------
    UserError
        The weights that it is to start from cannot be read, or it is frozen and has none.
    """
    name, settings = client_of(context), settings_of(context)
    initial = None if name is None else _initial_of(context, settings, name)
    return "" if initial is None else str(initial)


def _initial_of(context: Context, settings: Settings, name: str) -> Initial | None:
    """Return what the client starts from; a run that goes on, from what it has saved itself."""
    return initial_of(settings, name, _state_dir(context), _going_on(context))


def _going_on(context: Context) -> str | None:
    """Return the run that is resumed: its folder, or for a deployed client its name on the relay.

    Raises
    ------
    ProtocolError
        It comes over the wire and is no name. A path is for one's own machine: the client looks for
        what a relay names among its own states, and ``..`` would lead out of them.
    """
    run, own = str(context.run_config.get("run-dir") or ""), _state_dir(context)
    if run == "" or not context.run_config.get("resume"):
        return None
    if own is None and policy_of(context).own_machine:
        return run
    if not is_run_name(run):
        raise ProtocolError(f"a run to go on with that is called {run[:40]!a}, which is no name")
    return None if own is None else run


def node_of(context: Context) -> Node:
    """Return this client's node as the last message left it, or as saved before it was killed.

    Raises
    ------
    ProtocolError
        The client has not been told the agreement yet.
    """
    record = _record(context)
    token, node = _residents.get(_key(context), (None, None))
    if node is not None and token == record["token"]:
        return node
    name, settings = client_of(context), settings_of(context)
    if name is None:
        raise ProtocolError("a spare node was asked to take part")
    agreement = ClientAgreement.from_bytes(_bytes(record, "agreement"))
    data = client_data(name, settings)
    node = Node(name, settings, data, agreement)
    if not (state := _bytes(record, "state")) and (saved := _saved_state(context, name)):
        node.restored, state = saved
    if state:
        node.load_state(state)
    elif (initial := _initial_of(context, settings, name)) is not None:
        node.start_from(initial)
    _residents[_key(context)] = (_token(record), node)
    return node


def keep(context: Context, node: Node) -> None:
    """Keep `node`, which has changed, for the next message."""
    record = _record(context)
    token = _token(record) + 1
    record["token"] = token
    record["state"] = b"" if context.node_config.get("resident") else node.state()
    _residents[_key(context)] = (token, node)


def leave(context: Context) -> None:
    """Let go of the node in this process; its record stays."""
    _residents.pop(_key(context), None)
    _seals.pop(_key(context), None)


def begin(context: Context) -> None:
    """Note that a step has been taken in this run: its state is not set back after that."""
    if _record(context)["phase"] == "agreed":
        _go_on(context, "trained")


def check_restore(context: Context) -> None:
    """Raise `ProtocolError` if this run has been trained on: old frames would do again then."""
    if _record(context)["phase"] != "agreed":
        raise ProtocolError("this client has trained in this run; it is not set back any more")


def end(context: Context, digest: str = "") -> None:
    """Let go of the node for good; `digest` is that of its final weights."""
    if (record := _told(context)) is not None:
        record["digest"] = digest
        _go_on(context, "over")
    leave(context)


def digest_of(context: Context) -> str | None:
    """Return the digest of the final weights if the run is over for this client, else None."""
    record = _told(context)
    return str(record["digest"]) if record is not None and record["phase"] == "over" else None


def _go_on(context: Context, phase: Phase) -> None:
    record = context.state.config_records[_RECORD]
    record["phase"] = phase
    if (own := _state_dir(context)) is not None:
        told = _bytes(record, "agreement").hex(), str(record["configuration"])
        done = Session(str(record["run"]), *told, phase, str(record["digest"]))
        session.save(own, context.run_id, done)


def _key(context: Context) -> tuple[int, int]:
    return context.run_id, context.node_id


def _state_dir(context: Context) -> Path | None:
    own = context.node_config.get("state-dir")
    return None if own is None else Path(str(own))


def _saved_state(context: Context, name: str) -> tuple[int, bytes] | None:
    """Return the newest state on the client's disk, if the process that had it in memory is gone.

    A client that has trained and finds none has lost it: it is where it began, after 0 exchanges.
    """
    record = _record(context)
    if _state_dir(context) is None or not (record["restored"] or _token(record)):
        return None
    found = RunFolder(folder_of(context)).newest_state(name)
    return (0, b"") if found is None and record["phase"] != "agreed" else found


def _remember(
    context: Context, agreement: bytes, folder: str, run: str, saved: Session | None = None
) -> None:
    context.state[_RECORD] = ConfigRecord(
        {
            "agreement": agreement,
            "configuration": saved.configuration if saved else configuration_of(context),
            "folder": folder,
            "run": run,
            "token": 0,
            "state": b"",
            "restored": saved is not None,
            "phase": saved.phase if saved else "agreed",
            "digest": saved.digest if saved else "",
        }
    )
    leave(context)


def _record(context: Context) -> ConfigRecord:
    if (record := _told(context)) is None:
        raise ProtocolError(_untold(context))
    if record["phase"] == "over":
        raise ProtocolError("the run is over for this client")
    if record["configuration"] != configuration_of(context):
        raise ProtocolError(
            f"the configuration that client '{client_of(context)}' agreed to is another one"
        )
    return record


def _untold(context: Context) -> str:
    """Return what is wrong where a client is asked for work of a run that it never heard of."""
    if _state_dir(context) is None:
        return "this client has not been told the agreement; it must come before anything else"
    return (
        "its state is lost, or it refused the agreement: the node's state folder knows nothing of "
        "this run, which has begun; stop the run, start the node with the folder that it had, and "
        "go on with run --resume, or start a new run"
    )


def _told(context: Context) -> ConfigRecord | None:
    """Return what the client was told in this run, by its own disk if its process was killed."""
    own = _state_dir(context)
    told = _RECORD in context.state.config_records
    if not told and own is not None and (saved := session.load(own, context.run_id)) is not None:
        agreement = bytes.fromhex(saved.agreement)
        _remember(context, agreement, "", saved.run, saved)
        if nonce := ClientAgreement.from_bytes(agreement).nonces.get(str(client_of(context))):
            context.state[_NONCE] = ConfigRecord({"nonce": nonce})
    return context.state.config_records.get(_RECORD)


def _bytes(record: ConfigRecord, name: str) -> bytes:
    value = record[name]
    if not isinstance(value, bytes):
        raise ProtocolError(f"the client's record '{name}' is not bytes")
    return value


def _token(record: ConfigRecord) -> int:
    value = record["token"]
    if not isinstance(value, int):
        raise ProtocolError("the client's token is not an integer")
    return value
