"""The small client: it asks one service whether the line is blocked, and goes on when that dies.

It has no share, no weights and no library: addresses, tokens, and the certificate that services are
recognised by. Events of a sensor go to that sensor's own service; between services travel
comparison embeddings z alone.
"""

import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from examples.street_corner.machines import Address

_TIMEOUT_SECONDS = 10.0
"""After which a service counts as dead that does not say so: its machine has lost its power."""
_AGAIN_SECONDS = 10.0
"""For so long a dead service is not asked again."""


@dataclass(frozen=True)
class Answer:
    """What was answered of some events.

    Attributes
    ----------
    labels
        One for each event.
    stood_in_for
        The sensor's own service is dead, and its neighbours have told of its events.
    """

    labels: list[int]
    stood_in_for: bool


class Corner:
    """Asks `sensor`, and where that is dead, its stand-in with what the neighbours send."""

    def __init__(
        self, services: Mapping[str, Address], trust: ssl.SSLContext, sensor: str, stand_in: str
    ) -> None:
        """Talk to `services`; `stand_in` is the one that has the share of `sensor` too."""
        self.sensor, self.stand_in = sensor, stand_in
        self.neighbours = [name for name in services if name not in (sensor, stand_in)]
        self._clients = {
            name: httpx.Client(
                base_url=address.url, headers={"authorization": f"Bearer {address.token}"},
                verify=trust, trust_env=False, timeout=_TIMEOUT_SECONDS,
            )
            for name, address in services.items()
        }  # fmt: skip
        self._dead_until = 0.0

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    def ask(self, x: Mapping[str, list[Any]]) -> Answer:
        """Return whether the line is blocked; `x`: sensor -> its events, row k the same event."""
        if time.monotonic() >= self._dead_until:
            try:
                made = self.post(self.sensor, "/classify", {"x": x[self.sensor]})
                return Answer(made["labels"], stood_in_for=False)
            except httpx.TransportError:  # refused, reset or silent: nobody is there
                self._dead_until = time.monotonic() + _AGAIN_SECONDS
        received = self.received(x, self.neighbours)
        made = self.post(self.stand_in, "/classify", {"received": received})
        return Answer(made["labels"], stood_in_for=True)

    def received(
        self, x: Mapping[str, list[Any]], neighbours: Sequence[str]
    ) -> dict[str, list[Any]]:
        """Return what `neighbours` would send the sensor of these events: neighbour -> z."""
        path = f"/compare/{self.sensor}"
        return {name: self.post(name, path, {"x": x[name]})["z"] for name in neighbours}

    def post(self, service: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a service's answer; raise `httpx.HTTPError` where there is none, or a refusal."""
        answer = self._clients[service].post(path, json=body)
        answer.raise_for_status()
        made: dict[str, Any] = answer.json()
        return made
