"""Which nodes a SuperLink knows, and whether a request is signed by one of them."""

import binascii
import datetime
from base64 import b64decode
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import (
    HEARTBEAT_DEFAULT_INTERVAL,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
)
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    NodeStatus,
)
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    public_key_to_bytes,
    verify_signature,
)

from sheafalign_fl.errors import UserError

__all__ = ["LinkState", "forget", "online", "register", "signature_check"]


def register(state: LinkState, key: ec.EllipticCurvePublicKey) -> int:
    """Make a node's key known; return the node's id, the old one if the key was known before.

    Raises
    ------
    UserError
        The key was made unknown before, which Flower holds for good.
    """
    public = public_key_to_bytes(key)
    known: int | None = state.get_node_id_by_public_key(public)
    if known is not None:
        return known
    try:
        made = state.create_node(
            NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public, HEARTBEAT_DEFAULT_INTERVAL
        )
    except ValueError:
        raise UserError(
            "this relay has taken its key back for good; make it a new one with `sheafalign keys "
            "renew`, or `keys add-client` where it has none"
        ) from None
    return int(made)


def forget(state: LinkState, node_id: int) -> None:
    """Make a node unknown: its next call is refused."""
    state.delete_node(NOOP_FLWR_AID, node_id)


def online(state: LinkState) -> frozenset[int]:
    """Return the ids of the nodes that are connected."""
    return frozenset(
        int(node.node_id) for node in state.get_node_info(statuses=[NodeStatus.ONLINE])
    )


def signature_check(state: LinkState) -> Callable[[Mapping[bytes, bytes]], bool]:
    """Return whether a request's headers are signed, lately, with a key that `state` knows.

    Flower checks that too, but after it has read the body. What it signs is the time alone: within
    TLS that is enough, because nobody else sees the signature.
    """

    def signed(headers: Mapping[bytes, bytes]) -> bool:
        try:
            public = b64decode(
                headers[FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode()], validate=True
            )
            sign = b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER.lower().encode()], validate=True)
            stamp = headers[TIMESTAMP_HEADER.lower().encode()]
            age = (now() - datetime.datetime.fromisoformat(stamp.decode())).total_seconds()
            if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
                return False
            if state.get_node_id_by_public_key(public) is None:
                return False
            return bool(verify_signature(bytes_to_public_key(public), stamp, sign))
        except (KeyError, ValueError, TypeError, UnicodeError, binascii.Error):
            return False

    return signed
