"""Who takes part in a run, and what an unusable answer at its start costs.

A run needs all of its clients, because a typo must not train silently without a sensor: whoever
does not come, refuses, or answers what cannot be read ends the start, in one line that names it.
Where `training.min_clients` says that fewer will do, that client is left out with the same line,
and the others begin, if their graph holds together: then no single client can end the run.
"""

import logging
from collections.abc import Mapping
from typing import Any

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import HandshakeError, SheafAlignError, TopologyError
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.negotiation import agree, check_manifest
from sheafalign_fl.protocol.topology import Topology
from strategies.messenger import Outcome

_log = logging.getLogger("sheafalign.relay")


class Attendance:
    """The nodes that have said who they are, and what is wrong with the others."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        registered: Mapping[str, int],
        left_out: Mapping[str, str],
    ) -> None:
        """Wait for all clients but those that an earlier session has `left_out` (client -> why)."""
        self._settings, self._topology, self._registered = settings, topology, registered
        self.nodes: dict[str, int] = {}
        self.manifests: dict[str, Manifest] = {}
        self.left_out = dict(left_out)
        self.unusable: dict[int, str] = {}
        """Node that is no client of this run -> why."""

    @property
    def awaited(self) -> list[str]:
        """Return the clients that no node runs yet, as far as nodes can be told apart."""
        absent = [
            client
            for client in self._settings.clients
            if client not in self.nodes and client not in self.left_out
        ]
        known = {self.client_of(node) for node in self.unusable} & set(absent)
        others = len(self.unusable) - len(known)
        return [client for client in absent if client not in known][others:]

    def client_of(self, node: int) -> str | None:
        """Return whose key a node has; None where the relay knows no keys."""
        return next((name for name, known in self._registered.items() if known == node), None)

    def hear(self, outcome: Outcome[Manifest | None]) -> None:
        """Take in what nodes have answered; of one that is gone nothing: it may come back.

        Raises
        ------
        HandshakeError
            One cannot take part, and the run needs all.
        """
        for node, reason in outcome.failed.items():
            if node not in outcome.unreachable:
                self._refuse(int(node), reason, outcome.exit_codes.get(node))
        for node in outcome.late:
            self._refuse(int(node), "no answer within the deadline")
        # Not in the order of the replies, so that the first refusal is always the same.
        for node in outcome.sent:
            if (manifest := outcome.answers.get(node)) is not None:
                self._take(int(node), manifest)

    def _take(self, node: int, manifest: Manifest) -> None:
        try:
            check_manifest(manifest, self._settings)
            _check_key(manifest.name, node, self._registered)
            if manifest.name in self.nodes:
                raise HandshakeError(
                    f"client '{manifest.name}' is claimed by two nodes; the second is refused"
                )
        except HandshakeError as error:
            self._refuse(node, str(error), error.exit_code)
            return
        if manifest.name not in self.left_out:
            self.nodes[manifest.name] = node
            self.manifests[manifest.name] = manifest

    def _refuse(self, node: int, reason: str, exit_code: int | None = None) -> None:
        client = self.client_of(node)
        whose = f"node {node}" if client is None else f"client '{client}'"
        self.unusable[node] = refusal(self._settings, whose, reason, exit_code)

    def close(self) -> tuple[Topology, Agreement]:
        """Return the graph of those that take part and what they agree to; the others are left out.

        Raises
        ------
        HandshakeError
            Too few are left, or their graph falls apart.
        DataError
            Their events or labels cannot serve the configuration.
        """
        told = {self.client_of(node): reason for node, reason in self.unusable.items()}
        nameless = told.get(None)
        for client in self._settings.clients:
            if client not in self.nodes and client not in self.left_out:
                self.left_out[client] = told.get(client) or nameless or "no node runs it"
        while True:
            rest = remaining(self._topology, self.left_out, self._settings)
            try:
                return rest, self._agree(rest)
            except SheafAlignError as error:
                if (odd := self._odd_one_out(rest)) is None:
                    raise
                self.left_out[odd] = str(error)

    @property
    def dismissed(self) -> dict[int, str]:
        """Return node -> why there is no run with it."""
        heard = {
            self.nodes[client]: reason
            for client, reason in self.left_out.items()
            if client in self.nodes
        }
        return self.unusable | heard

    def _agree(self, topology: Topology) -> Agreement:
        return agree([self.manifests[c] for c in topology.clients], self._settings, topology)

    def _odd_one_out(self, topology: Topology) -> str | None:
        """Return the one client without which the others agree; None if the run needs all of them.

        Of several it is the one with the fewest edges, and the last of these.
        """
        least = self._settings.training.min_clients
        if least is None or len(topology.clients) <= least:
            return None
        found = []
        for client in topology.clients:
            try:
                self._agree(topology.without([client]))
            except SheafAlignError:
                continue
            found.append(client)
        return min(reversed(found), key=lambda c: len(topology.edges_of(c)), default=None)


def refusal(settings: Settings, whose: str, reason: str, exit_code: int | None) -> str:
    """Return why a client is left out; raise `HandshakeError` with that if the run needs all.

    Parameters
    ----------
    whose
        The client, or the node where that is all that is known.
    exit_code
        What the client's own refusal says; None if it did not answer as a client does.
    """
    if settings.training.min_clients is not None:
        return reason
    if exit_code is None:
        reason = (
            f"{whose} did not answer as a client does: {reason}; see its log or stop it, or set "
            "training.min_clients to begin without it"
        )
    error = HandshakeError(reason)
    error.exit_code = exit_code or 1
    raise error


def unusable(outcome: Outcome[Any], settings: Settings) -> dict[str, str]:
    """Return client -> why its answer cannot be used, so that it is left out.

    Raises
    ------
    HandshakeError
        There is such a client, and the run needs all.
    """
    reasons = dict.fromkeys(outcome.late, "no answer within the deadline")
    return {
        client: refusal(settings, f"client '{client}'", reason, outcome.exit_codes.get(client))
        for client, reason in {**outcome.failed, **reasons}.items()
        if client not in outcome.unreachable
    }


def remaining(topology: Topology, without: Mapping[str, str], settings: Settings) -> Topology:
    """Return the graph of the clients that are not left out.

    Raises
    ------
    HandshakeError
        They are fewer than `training.min_clients`, or not connected; says who is left out, and why.
    """
    if not without:
        return topology
    reasons = "; ".join(f"{client}: {reason}" for client, reason in without.items())
    count, least = len(topology.clients) - len(without), settings.training.min_clients
    if count < (least or 2):
        raise HandshakeError(
            f"training.min_clients is {least} but only {count} clients can take part ({reasons})"
        )
    try:
        return topology.without(without)
    except TopologyError as error:
        raise HandshakeError(f"{error}, without those that are left out ({reasons})") from None


def _check_key(client: str, node: int, registered: Mapping[str, int]) -> None:
    """Refuse a node that says it is a client whose key it does not have."""
    if registered and registered.get(client) != node:
        owner = next((name for name, known in registered.items() if known == node), None)
        key = (
            f"its key is that of client '{owner}'"
            if owner
            else "its key is nobody's that the relay knows"
        )
        raise HandshakeError(f"a node says that it is client '{client}' but {key}; it is refused")
