"""The relay's SuperLink: `python -m sheafalign_fl.deploy.relay_process`, started by `relay`."""

import argparse
import asyncio
import ssl
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from sheafalign_fl.deploy.briefing import runs_folder
from sheafalign_fl.deploy.keys import RelayKeys, load_relay_keys
from sheafalign_fl.deploy.logs import log_to
from sheafalign_fl.deploy.measures import RelayCounts
from sheafalign_fl.deploy.members import Members, is_local
from sheafalign_fl.deploy.monitoring import monitored, monitoring_address
from sheafalign_fl.deploy.peers_on_offer import PeersOnOffer, asks_for_peers
from sheafalign_fl.deploy.run_files import RunFiles, names_run_file, run_folder
from sheafalign_fl.files import keep_private
from sheafalign_fl.flower.gate import Doors, Gate
from sheafalign_fl.flower.listening import Certificates, Port
from sheafalign_fl.flower.node_keys import LinkState, signature_check
from sheafalign_fl.flower.superlink_process import (
    nothing,
    run_config,
    serve,
    state_of,
    superlink_app,
)

_LOOK_SECONDS = 1.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of this program's arguments."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--host", required=True)
    made.add_argument("--port", required=True, type=int)
    made.add_argument("--registered", required=True, type=Path, help="Where client -> node goes.")
    made.add_argument("--keys", type=Path, help="The relay's keys; without: insecure.")
    made.add_argument("--database", type=Path)
    made.add_argument("--metrics", type=monitoring_address, help="Where monitoring asks.")
    return made


async def run(words: argparse.Namespace) -> None:
    """Serve until told to end."""
    keys = None if words.keys is None else load_relay_keys(words.keys)
    app = superlink_app(simulation=False, node_keys=keys is not None, database=words.database)
    state = state_of(app)
    watched = RelayCounts(state, runs_folder(), words.registered).watched()
    with monitored(words.metrics, watched):
        await _serve(words, keys, app, state)


async def _serve(
    words: argparse.Namespace, keys: RelayKeys | None, app: FastAPI, state: LinkState
) -> None:
    """Serve the SuperLink `app`."""
    files = RunFiles(partial(_folder_of, state, runs_folder()))
    answering = _answering(app, files, None if keys is None else PeersOnOffer(keys.folder))
    if keys is None:
        doors = Doors(is_local, lambda _: True, names_run_file, lambda _: False)
        port = Port(words.host, words.port, Gate(answering, doors), None)
        await serve(app, port, nothing)
        return
    members = Members(keys, state, words.registered)
    doors = Doors(members.is_operator, signature_check(state), names_run_file, asks_for_peers)
    port = Port(words.host, words.port, Gate(answering, doors), _certificates(keys))
    watching: set[asyncio.Task[None]] = set()

    async def prepare(tls: ssl.SSLContext | None) -> None:
        members.refresh(tls)
        watching.add(asyncio.create_task(_watch(members, tls)))

    await serve(app, port, prepare)


def _answering(flower: ASGIApp, files: ASGIApp, peers: ASGIApp | None) -> ASGIApp:
    """Return an application that answers what is our own itself, and leaves the rest to Flower."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        if names_run_file(scope):
            await files(scope, receive, send)
        elif peers is not None and asks_for_peers(scope):
            await peers(scope, receive, send)
        else:
            await flower(scope, receive, send)

    return answering


def _folder_of(state: LinkState, runs: Path, run_id: int) -> Path | None:
    """Return the folder of a run by Flower's id of it."""
    config = run_config(state, run_id)
    return None if config is None else run_folder(runs, config.get("run-dir"))


def _certificates(keys: RelayKeys) -> Certificates:
    return Certificates(keys.certificate, keys.key, keys.ca)


async def _watch(members: Members, tls: ssl.SSLContext | None) -> None:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        members.try_refresh(tls)


def main() -> None:
    """Run the program."""
    words = parser().parse_args()
    keep_private()
    log_to(words.registered.parent / "relay.log")
    asyncio.run(run(words))


if __name__ == "__main__":
    main()
