"""The relay's side of `peers`: it hands out what its folder has."""

from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sheafalign_fl.deploy.peers import bundle
from sheafalign_fl.flower.gate import PEERS


def asks_for_peers(scope: Scope) -> bool:
    """Return whether a request asks for the certificates of clients."""
    return bool(scope["method"] == "GET" and scope["raw_path"] == PEERS.encode())


class PeersOnOffer:
    """Answers requests that `asks_for_peers` knows."""

    def __init__(self, folder: Path) -> None:
        """Hand out what the relay's `folder` of keys has."""
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with `bundle`."""
        answer = Response(bundle(self._folder), media_type="application/json")
        await answer(scope, receive, send)
