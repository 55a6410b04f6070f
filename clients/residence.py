"""Where a client's node lives between two messages.

Flower gives a ClientApp one thing that lasts: `Context.state`. In a simulation any worker process may get a client's
next message, so the node's full state goes into it every time. Beside it, every process keeps the nodes that it has
worked with; one whose token equals the context's is up to date and is used as it is, with the forward pass that it
still holds. Where an engine promises that all of a client's messages come to the same process (node configuration
``resident``), the state stays in that process and only the token travels.

A deployed client has a folder of its own (node configuration ``state-dir``). If its process was killed, the session and
the newest checkpoint in there are where it goes on.
"""

import secrets
from functools import lru_cache
from pathlib import Path

from flwr.app import ConfigRecord, Context

from clients import session
from clients.session import Session
from sheafalign_fl.config import Settings, decode
from sheafalign_fl.deploy.keys import ClientKeys, load_client_keys
from sheafalign_fl.errors import ConfigError, ProtocolError
from sheafalign_fl.manifest import client_data
from sheafalign_fl.node import Node
from sheafalign_fl.protocol.agreement import ClientAgreement
from sheafalign_fl.protocol.seal import SealedEdges
from sheafalign_fl.run.folder import RunFolder

_RECORD = "node"
_NONCE = "nonce"
_residents: dict[tuple[int, int], tuple[int, Node]] = {}
_seals: dict[tuple[int, int], SealedEdges] = {}


@lru_cache(maxsize=8)
def _decoded(text: str, data: str | None) -> Settings:
    settings = decode(text, base=Path(__file__).resolve().parents[1])
    if data is None:
        return settings
    options = {**settings.data.options, "path": data}
    clients = {
        name: client.model_copy(update={"features": str(Path(data) / Path(client.features).name)})
        if client.features is not None
        else client
        for name, client in settings.clients.items()
    }
    own = settings.data.model_copy(update={"options": options})
    return settings.model_copy(update={"data": own, "clients": clients})


def settings_of(context: Context) -> Settings:
    """Return the run's settings; where its data lies is the node's own affair (node configuration ``data``)."""
    data = context.node_config.get("data")
    return _decoded(str(context.run_config["config"]), None if data is None else str(data))


def client_of(context: Context) -> str | None:
    """Return the client that this node is: its own ``client`` setting, else its partition; None for a spare node."""
    clients = list(settings_of(context).clients)
    if "client" in context.node_config:
        own = str(context.node_config["client"])
        return own if own in clients else None
    partition = int(context.node_config["partition-id"])
    return clients[partition] if partition < len(clients) else None


# ---- sealed edges ----------------------------------------------------------------------------------------------------


def check_sealing(context: Context) -> None:
    """Refuse a run whose edges are not sealed as this node wants: `ConfigError` says what has to change."""
    sealed = settings_of(context).security.sealed
    if sealed and "keys" not in context.node_config:
        raise ConfigError(
            f"security.sealed is true but the node of client '{client_of(context)}' was started without keys; "
            "start it with --keys"
        )
    if not sealed and "keys" in context.node_config and not context.node_config.get("unsealed"):
        raise ConfigError(
            f"the node of client '{client_of(context)}' takes part in sealed runs only; set security.sealed: true, "
            "or start the node with --unsealed"
        )


def nonce_of(context: Context) -> str:
    """Return what this client contributes to the keys of this run's sealed edges: 16 random bytes, hexadecimal."""
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
            f"the keys of client '{keys.name}' name no peer '{missing[0]}'; make new keys for all clients"
        )
    raw = {client: bytes.fromhex(nonce) for client, nonce in nonces.items()}
    _seals[_key(context)] = SealedEdges(keys.name, keys.seal, peers, raw, str(record["run"]))
    return _seals[_key(context)]


def _keys_of(context: Context) -> ClientKeys:
    keys = load_client_keys(Path(str(context.node_config["keys"])))
    if keys.name != client_of(context):
        raise ConfigError(
            f"the keys in {keys.folder} are those of client '{keys.name}', not '{client_of(context)}'"
        )
    return keys


# ---- the node --------------------------------------------------------------------------------------------------------


def settle(context: Context, agreement: bytes, folder: str, run: str) -> None:
    """Remember what the relay told this client: the agreement, its run folder, and that folder's identity."""
    _remember(context, agreement, folder, run)
    if (own := _state_dir(context)) is not None:
        session.save(own, context.run_id, Session(run, agreement.hex()))


def folder_of(context: Context) -> Path:
    """Return the folder for what this client saves: its own, if it has a ``state-dir``, else the run folder."""
    record, own = _record(context), _state_dir(context)
    return own / str(record["run"]) if own is not None else Path(str(record["folder"]))


def save(context: Context, node: Node, exchanges: int) -> None:
    """Save the node's state as its part of the checkpoint after `exchanges` exchanges."""
    folder = RunFolder(folder_of(context))
    folder.save_client(exchanges, node.name, node.state())
    if _state_dir(context) is not None:
        session.prune(folder, node.settings.checkpoint.keep)


def node_of(context: Context) -> Node:
    """Return this client's node as the last message left it, or as it was saved before its process was killed.

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
    node = Node(name, settings, client_data(name, settings), agreement)
    if state := _bytes(record, "state"):
        node.load_state(state)
    elif saved := _saved_state(context, name):
        node.restored, state = saved
        node.load_state(state)
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
    """Let go of the node; its run is over."""
    _residents.pop(_key(context), None)
    _seals.pop(_key(context), None)


def _key(context: Context) -> tuple[int, int]:
    return context.run_id, context.node_id


def _state_dir(context: Context) -> Path | None:
    own = context.node_config.get("state-dir")
    return None if own is None else Path(str(own))


def _saved_state(context: Context, name: str) -> tuple[int, bytes] | None:
    """Return the newest state on the client's own disk, if the process that had it in memory is gone."""
    record = _record(context)
    if _state_dir(context) is None or not (record["restored"] or _token(record)):
        return None
    return session.newest_state(RunFolder(folder_of(context)), name)


def _remember(
    context: Context, agreement: bytes, folder: str, run: str, *, restored: bool = False
) -> None:
    context.state[_RECORD] = ConfigRecord(
        {
            "agreement": agreement,
            "folder": folder,
            "run": run,
            "token": 0,
            "state": b"",
            "restored": restored,
        }
    )
    leave(context)


def _record(context: Context) -> ConfigRecord:
    own = _state_dir(context)
    told = _RECORD in context.state.config_records
    if not told and own is not None and (saved := session.load(own, context.run_id)) is not None:
        agreement = bytes.fromhex(saved.agreement)
        _remember(context, agreement, "", saved.run, restored=True)
        if nonce := ClientAgreement.from_bytes(agreement).nonces.get(str(client_of(context))):
            context.state[_NONCE] = ConfigRecord({"nonce": nonce})
    if _RECORD not in context.state.config_records:
        raise ProtocolError(
            "this client has not been told the agreement; it must come before anything else"
        )
    return context.state.config_records[_RECORD]


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
