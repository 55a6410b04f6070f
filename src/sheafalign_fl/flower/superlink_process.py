"""A SuperLink behind closed doors: Flower's own, served at a Unix socket and, guarded, at a port.

Started as a process of its own; see `start` in `superlink`.
"""

import asyncio
import importlib
import logging
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from flwr.app.user_config import UserConfig
from flwr.common.constant import ISOLATION_MODE_SUBPROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app

from sheafalign_fl.flower.listening import Port, listen
from sheafalign_fl.flower.local_socket import SOCKET

Prepare = Callable[[ssl.SSLContext | None], Awaitable[None]]


def superlink_app(*, simulation: bool, node_keys: bool, database: Path | None = None) -> FastAPI:
    """Return Flower's SuperLink as an ASGI application, whose runs are started by our executor.

    Parameters
    ----------
    simulation
        Its nodes are simulated.
    node_keys
        Take nodes with registered keys only.
    database
        Keep its state in this SQLite file; default: in memory.
    """
    config = SuperLinkLifespanConfig(
        control_address="", health_server_address=None, host="127.0.0.1", port=0, insecure=True,
        certificates=None, superexec_auth_secret=None, authn_plugin=NoOpControlAuthnPlugin(),
        event_log_plugin=None, fleet_event_log_plugin=None, enable_event_log=False,
        artifact_provider=None, enable_supernode_auth=node_keys,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE, fleet_api_address=None, simulation=simulation,
        ssl_ca_certfile=None, ssl_certfile=None, ssl_keyfile=None,
        database=FLWR_IN_MEMORY_DB_NAME if database is None else str(database),
        isolation=ISOLATION_MODE_SUBPROCESS, runtime_dependency_install=False,
    )  # fmt: skip
    command = [sys.executable, "-m", "sheafalign_fl.flower.executor", str(os.getpid())]
    # By its name: the package has a function of the same one, which hides the module.
    module = importlib.import_module("flwr.superlink.cli.flower_superlink")
    module._get_superexec_command = lambda **_: command  # type: ignore[attr-defined]
    return create_app(config, module.SuperLinkLifespan)


def state_of(app: FastAPI) -> LinkState:
    """Return what the SuperLink knows."""
    state: LinkState = app.state.linkstate_factory.state()
    return state


def run_config(state: LinkState, run_id: int) -> UserConfig | None:
    """Return what a run was submitted with; None if there is no such run."""
    found = state.get_run_info(run_ids=[run_id])
    return dict(found[0].override_config) if found else None


async def serve(app: FastAPI, port: Port | None, prepare: Prepare) -> None:
    """Serve `app` at the socket that the environment names, and at `port`, until told to end."""
    await listen(app, Path(os.environ[SOCKET]), port, prepare, get_uvicorn_log_config(logging.INFO))


async def nothing(_: ssl.SSLContext | None) -> None:
    """Prepare nothing."""


def main() -> None:
    """Serve a simulation's SuperLink: no port at all."""
    asyncio.run(serve(superlink_app(simulation=True, node_keys=False), None, nothing))


if __name__ == "__main__":
    main()
