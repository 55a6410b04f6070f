"""An operator's connection to a SuperLink: submit, stop and list runs, list nodes."""

import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from flwr.app.user_config import UserConfig
from flwr.cli.build import build_fab_from_disk
from flwr.common.serde import fab_to_proto, user_config_from_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    StartRunRequest,
    StopRunRequest,
    StreamLogsRequest,
)
from flwr.proto.federation_config_pb2 import SimulationConfig
from flwr.proto.run_pb2 import Run
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

from sheafalign_fl.errors import RunError, UserError
from sheafalign_fl.flower.address import Address
from sheafalign_fl.flower.local_socket import ADDRESS, socket_client
from sheafalign_fl.flower.proxies import go_direct, proxy_told
from sheafalign_fl.flower.trust import why_not

Request = TypeVar("Request")
Answer = TypeVar("Answer")
_FORBIDDEN = 403


class SuperLinkGoneError(RunError):
    """The SuperLink does not answer; it may be back in a moment."""


@dataclass(frozen=True)
class OperatorFiles:
    """What an operator shows a relay, and what it knows the relay by."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class RunState:
    """What Flower says of a run."""

    run_id: str
    status: str
    """Such as "running" or "finished:failed"."""
    details: str
    submitted: str
    """When: ISO 8601, empty if unknown."""
    config: UserConfig
    """What it was submitted with."""

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.status.startswith("finished")


class Control:
    """Flower's Control API."""

    def __init__(self, client: ControlHttpClient, name: str, proxy: str = "") -> None:
        """Speak through `client` to what is called `name` in messages.

        `proxy` is what they say of the proxy that it is reached through.
        """
        self._client = client
        self._name, self._proxy = name, proxy

    @classmethod
    def at(cls, address: str, files: OperatorFiles | None) -> "Control":
        """Return a connection to `address` (host:port); without files it is insecure.

        Raises
        ------
        UserError
            The operator's certificate and key do not belong together, or cannot be read.
        """
        scheme, verify = "http", ssl.create_default_context()
        if files is not None:
            scheme = "https"
            try:
                verify = ssl.create_default_context(cafile=str(files.ca))
                verify.load_cert_chain(files.certificate, files.key)
            except OSError as error:
                raise UserError(f"the operator's key {files.key} cannot be used: {error}") from None
        go_direct()
        client = ControlHttpClient(
            f"{scheme}://{address}", interceptors=[_version()], verify=verify
        )
        proxy = proxy_told(Address.parse(address).host, secure=files is not None)
        return cls(client, f"the relay at {address}", proxy)

    @classmethod
    def through(cls, socket: Path) -> "Control":
        """Return a connection through a SuperLink's own socket."""
        go_direct()  # httpx reads the proxies' variables before its client is replaced below
        client = ControlHttpClient(f"http://{ADDRESS}", interceptors=[_version()])
        client._client.close()
        client._client = socket_client(socket, client._client.timeout)
        return cls(client, "the SuperLink")

    def start(
        self, app: Path, config: UserConfig, simulation: Mapping[str, float] | None = None
    ) -> str:
        """Submit a run of the app in the folder `app`; return its id."""
        content = build_fab_from_disk(app)
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        request = StartRunRequest(
            fab=fab_to_proto(fab),
            override_config=user_config_to_proto(config),
            override_federation_config=None if simulation is None else _simulated(simulation),
        )
        answer = self._call(self._client.StartRun, request)
        if not answer.HasField("run_id"):
            raise RunError(f"{self._name} has not started the run: {answer.note}")
        return str(answer.run_id)

    def run(self, run_id: str) -> RunState:
        """Return what Flower says of a run.

        Raises
        ------
        UserError
            It does not know the run.
        """
        request = ListRunsRequest(run_id=int(run_id))
        found = self._call(self._client.ListRuns, request).run_dict
        if int(run_id) not in found:
            raise UserError(f"{self._name} knows no run {run_id}")
        return _state(found[int(run_id)])

    def runs(self) -> list[RunState]:
        """Return what Flower says of every run, the latest first."""
        found = self._call(self._client.ListRuns, ListRunsRequest()).run_dict
        return sorted(map(_state, found.values()), key=lambda run: run.submitted, reverse=True)

    def printed(self, run_id: str) -> str:
        """Return what the processes of a run that has ended printed."""
        request = StreamLogsRequest(run_id=int(run_id), after_timestamp=0.0)
        parts = self._call(lambda asked: list(self._client.StreamLogs(asked)), request)
        return "".join(part.log_output for part in parts)

    def stop(self, run_id: str) -> None:
        """Stop a run."""
        if not self._call(self._client.StopRun, StopRunRequest(run_id=int(run_id))).success:
            raise RunError(f"{self._name} has not stopped run {run_id}")

    def nodes(self) -> list[tuple[int, str, str]]:
        """Return id, status and time of the last connection of every node."""
        found = self._call(self._client.ListNodes, ListNodesRequest()).nodes_info
        return [(node.node_id, node.status, node.last_activated_at) for node in found]

    def get(self, path: str, most: int) -> bytes:
        """Return what the relay answers to a request of ours at `path`, at most `most` bytes of it.

        Raises
        ------
        RunError
            It is more, or there is nothing.
        """
        url = f"{self._client._base_url}{path}"
        received = bytearray()
        try:
            with self._client._client.stream("GET", url) as response:
                if response.is_error:
                    response.read()
                    raise self._refusal(response)
                for part in response.iter_bytes():
                    received += part
                    if len(received) > most:
                        raise RunError(f"{self._name} sends more than {most} bytes")
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        return bytes(received)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(self, function: Callable[[Request], Answer], request: Request) -> Answer:
        """Call the SuperLink and turn what can go wrong into this library's errors."""
        try:
            return function(request)
        except httpx.HTTPStatusError as error:
            raise self._refusal(error.response) from None
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _refusal(self, response: httpx.Response) -> Exception:
        if response.status_code == _FORBIDDEN:
            return UserError(
                f"{self._name} does not take this from you: it needs the key of an operator, "
                "made by `sheafalign keys add-operator`, that has not been revoked"
            )
        told = FlowerError.from_json(response.text)
        reason = (told.public_details or told.message) if told else response.text[:200]
        reason = " ".join(str(reason).split()) or f"HTTP {response.status_code}"
        return RunError(f"{self._name} has refused: {reason}")

    def _unreachable(self, error: httpx.TransportError) -> Exception:
        if (told := why_not(error, self._name.removeprefix("the relay at "))) is not None:
            return UserError(told)
        said = str(error) or type(error).__name__
        if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
            # In TLS 1.3 a server learns whose certificate it was after the client has begun.
            said += "; a relay hangs up on certificates of another authority than its own"
        return SuperLinkGoneError(f"{self._name} cannot be reached: {said}{self._proxy}")


def _version() -> RuntimeVersionHttpInterceptor:
    return RuntimeVersionHttpInterceptor(component_name="flwr CLI")


def _simulated(options: Mapping[str, float]) -> SimulationConfig:
    return SimulationConfig(**options)  # type: ignore[arg-type]


def _state(run: Run) -> RunState:
    ending = f":{run.status.sub_status}" if run.status.sub_status else ""
    config = user_config_from_proto(run.override_config)
    return RunState(
        str(run.run_id), run.status.status + ending, run.status.details, run.pending_at, config
    )
