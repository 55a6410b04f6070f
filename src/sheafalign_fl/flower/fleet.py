"""A node's connection to a SuperLink: Flower's Fleet API, spoken with Flower's own client.

`flower-supernode` speaks the same API, but pauses for 3 s whenever there is no message and starts a
process for every message, so an exchange takes 4 to 7 s. Everything here that is not a public name
of Flower's is imported here and nowhere else.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.app.user_config import UserConfig
from flwr.common.serde import message_from_proto, message_to_proto, run_from_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from sheafalign_fl.errors import ConfigError, RunError
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.gate import PEERS
from sheafalign_fl.flower.meter import TrafficMeter
from sheafalign_fl.flower.proxies import go_direct, proxy_told
from sheafalign_fl.flower.trust import why_not

HEARTBEAT_SECONDS = 10.0
"""The SuperLink takes a node for gone after twice this time without a sign of it."""
_PATIENCE_SECONDS = 60.0
"""For the parts of one message, which its sender uploads one after the other."""
_PERSISTENCE_SECONDS = 10.0
_RETRY_SECONDS = 0.1
Answer = TypeVar("Answer")


class RelayUnreachableError(RunError):
    """The relay cannot be reached now; it may be back in a moment."""


class NodeRefusedError(ConfigError):
    """The relay does not let this node in; trying again will not help."""


@dataclass(frozen=True)
class Credentials:
    """What a node needs for a secure connection."""

    ca: Path
    """Certificate of the authority that signed the relay's certificate."""
    key: ec.EllipticCurvePrivateKey
    """The node's own key, which the relay knows."""
    key_path: Path


class FleetConnection:
    """One node's connection to a SuperLink."""

    def __init__(self, address: str, credentials: Credentials | None) -> None:
        """Prepare a connection to `address` (host:port); nothing is sent yet.

        Without credentials it is insecure: no TLS, and a key that nobody knows.
        """
        go_direct()
        self._address = address
        host, secure = Address.parse(address).host, credentials is not None
        self._proxy = proxy_told(host, secure=secure)
        self.meter = TrafficMeter()
        self._known = credentials is not None
        if credentials is None:
            private, public = generate_key_pairs()
        else:
            private, public = credentials.key, credentials.key.public_key()
        self._public = public_key_to_bytes(public)
        self._client = FleetHttpClient.from_server_address(
            address,
            insecure=credentials is None,
            root_certificates=None if credentials is None else credentials.ca.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(private, public),
                self.meter,
            ],
        )
        self._node = Node()

    @property
    def node_id(self) -> int:
        """Flower's id of this node; 0 before `activate`."""
        return int(self._node.node_id)

    def activate(self) -> int:
        """Tell the SuperLink that this node is there; return its id.

        Raises
        ------
        NodeRefusedError
            The relay's certificate is not to be trusted.
        FleetError
            The relay does not know the key, or a node with it is connected, or was a moment ago.
        RelayUnreachableError
            There is no answer.
        """
        if not self._known:
            self._call(self._client.RegisterNode, RegisterNodeFleetRequest(public_key=self._public))
        request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=HEARTBEAT_SECONDS)
        self._node = Node(node_id=self._call(self._client.ActivateNode, request).node_id)
        return self.node_id

    def deactivate(self, node_id: int) -> None:
        """Tell the SuperLink that the node with this id and this connection's key goes."""
        self._call(self._client.DeactivateNode, DeactivateNodeRequest(node_id=node_id))

    def heartbeat(self) -> bool:
        """Say that this node is still there; return whether the SuperLink knows it."""
        request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_SECONDS)
        return bool(self._call(self._client.SendNodeHeartbeat, request).success)

    def receive(self) -> Message | None:
        """Return the next message for this node, or None if there is none now."""
        answer = self._call(self._client.PullMessages, PullMessagesRequest(node=self._node))
        if not answer.messages_list:
            return None
        described, tree = (
            message_from_proto(answer.messages_list[0]),
            answer.message_object_trees[0],
        )
        run_id, message_id = described.metadata.run_id, described.metadata.message_id
        pull = make_pull_object_fn_protobuf(
            lambda request: self._persist(self._client.PullObject, request), self._node, run_id
        )
        contents = pull_objects(
            [part.object_id for part in iterate_object_tree(tree)],
            pull,
            max_time=_PATIENCE_SECONDS,
            initial_backoff=0.01,
            backoff_cap=0.5,
        )
        confirm = make_confirm_message_received_fn_protobuf(
            lambda request: self._persist(self._client.ConfirmMessageReceived, request),
            self._node,
            run_id,
        )
        confirm(message_id)
        message = inflate_object_from_contents(message_id, contents)
        if not isinstance(message, Message):
            raise RunError(f"the relay sent a {type(message).__name__} where a message was due")
        message.metadata.__dict__["_message_id"] = message_id
        return message

    def reply(self, message: Message) -> None:
        """Send `message`, the reply to one that `receive` returned."""
        message.metadata.__dict__["_message_id"] = message.object_id
        run_id = message.metadata.run_id
        with no_object_id_recompute():
            tree, objects = get_object_tree(message), get_all_nested_objects(message)
            answer = self._call(
                self._client.PushMessages,
                PushMessagesRequest(
                    node=self._node,
                    messages_list=[message_to_proto(remove_content_from_message(message))],
                    message_object_trees=[tree],
                    clientapp_runtime_list=[0.0],
                ),
            )
            push = make_push_object_fn_protobuf(
                lambda request: self._persist(self._client.PushObject, request),
                self._node,
                run_id,
                answer.session_id,
            )
            for object_id in answer.objects_to_push:
                push(object_id, objects[object_id].deflate())

    def run_config(self, run_id: int) -> UserConfig:
        """Return the configuration that a run was submitted with."""
        answer = self._call(self._client.GetRun, GetRunRequest(node=self._node, run_id=run_id))
        return dict(run_from_proto(answer.run).override_config)

    def peers(self, most: int) -> bytes:
        """Return what the relay hands out of the authority's certificates.

        Raises
        ------
        FleetError
            It is more than `most` bytes, or the relay hands out nothing.
        """
        http = self._client._client
        request = http.build_request("GET", f"{self._client._base_url}{PEERS}")
        # The message is Flower's for nothing: interceptors sign and count the request alone.
        context = ProtobufRequestContext("/sheafalign/Peers", ActivateNodeRequest(), request)

        def ask(_: object) -> httpx.Response:
            return self._client._send(context).raise_for_status()

        response = self._call(ask, None)
        if len(response.content) > most:
            raise FleetError(0, f"the relay hands out more than {most} bytes of certificates")
        return response.content

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(self, function: Callable[..., Answer], request: object) -> Answer:
        """Call the SuperLink and turn what can go wrong into this module's errors."""
        try:
            return function(request)
        except httpx.HTTPStatusError as error:
            raise self._refusal(error) from None
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _persist(self, function: Callable[..., Answer], request: object) -> Answer:
        """Call the SuperLink again and again while the line is bad.

        Only for calls that may be made twice.
        """
        limit = time.monotonic() + _PERSISTENCE_SECONDS
        while True:
            try:
                return self._call(function, request)
            except RelayUnreachableError:
                if time.monotonic() >= limit:
                    raise
                time.sleep(_RETRY_SECONDS)

    def _refusal(self, error: httpx.HTTPStatusError) -> Exception:
        status = error.response.status_code
        if status in (502, 503, 504):
            return RelayUnreachableError(
                f"the relay at {self._address} answers {status}{self._proxy}"
            )
        told = FlowerError.from_json(error.response.text)
        reason = (
            told.message + (f" ({told.public_details})" if told and told.public_details else "")
            if told
            else ""
        )
        reason = reason or error.response.text[:200] or f"HTTP {status}"
        return FleetError(status, " ".join(reason.split()))

    def _unreachable(self, error: httpx.TransportError) -> Exception:
        if (told := why_not(error, self._address)) is not None:
            return NodeRefusedError(told)
        hint = "" if self._known else "; a relay with keys takes nodes with --keys only"
        said = str(error) or type(error).__name__
        return RelayUnreachableError(
            f"the relay at {self._address} cannot be reached: {said}{self._proxy or hint}"
        )


class FleetError(RunError):
    """The SuperLink refused a call."""

    def __init__(self, status: int, reason: str) -> None:
        """Keep the HTTP status beside the reason."""
        super().__init__(reason)
        self.status = status
