"""Where a client's node lives between two messages.

Flower gives a ClientApp one thing that lasts: `Context.state`. In a simulation any worker process may get a client's
next message, so the node's full state goes into it every time. Beside it, every process keeps the nodes that it has
worked with; one whose token equals the context's is up to date and is used as it is, with the forward pass that it
still holds. Where an engine promises that all of a client's messages come to the same process (node configuration
``resident``), the state stays in that process and only the token travels.
"""

from functools import lru_cache
from pathlib import Path

from flwr.app import ConfigRecord, Context

from sheafalign_fl.agreement import ClientAgreement
from sheafalign_fl.config import Settings, decode
from sheafalign_fl.errors import ProtocolError
from sheafalign_fl.manifest import client_data
from sheafalign_fl.node import Node

_RECORD = "node"
_residents: dict[tuple[int, int], tuple[int, Node]] = {}


@lru_cache(maxsize=8)
def _decoded(text: str) -> Settings:
    return decode(text, base=Path(__file__).resolve().parents[1])


def settings_of(context: Context) -> Settings:
    """Return the run's settings."""
    return _decoded(str(context.run_config["config"]))


def client_of(context: Context) -> str | None:
    """Return the client that this node is: its own ``client`` setting, else its partition; None for a spare node."""
    if "client" in context.node_config:
        return str(context.node_config["client"])
    clients = list(settings_of(context).clients)
    partition = int(context.node_config["partition-id"])
    return clients[partition] if partition < len(clients) else None


def settle(context: Context, agreement: bytes, folder: str) -> None:
    """Remember what the relay told this client: the agreement, and the folder for what it saves."""
    context.state[_RECORD] = ConfigRecord({"agreement": agreement, "folder": folder, "token": 0, "state": b""})
    _residents.pop(_key(context), None)


def folder_of(context: Context) -> Path:
    """Return the folder for what this client saves: its own ``state-dir`` setting, else the run folder."""
    return Path(str(context.node_config.get("state-dir", _record(context)["folder"])))


def node_of(context: Context) -> Node:
    """Return this client's node as the last message left it.

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


def _key(context: Context) -> tuple[int, int]:
    return context.run_id, context.node_id


def _record(context: Context) -> ConfigRecord:
    if _RECORD not in context.state.config_records:
        raise ProtocolError("this client has not been told the agreement; it must come before anything else")
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
