"""The handshake: find the nodes, hear what each is, refuse misfits, tell all what was agreed."""

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import HandshakeError, SheafAlignError
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.messages import AgreementOrder, Dismissal, ManifestReply
from sheafalign_fl.protocol.topology import Topology
from sheafalign_fl.protocol.verbs import AGREE, DESCRIBE, REFUSE
from sheafalign_fl.runs.folder import RunFolder
from strategies.attendance import Attendance, unusable
from strategies.messenger import Messenger, Order, Outcome, Reply, nothing
from strategies.recorder import Recorder

_GATHER_SECONDS = 5.0
"""Nodes that come so close to each other are asked together."""
_REFUSAL_SECONDS = 5.0
_UNHEARD = "?"
"""Stands for the process of a node that has not said yet which one it is."""


@dataclass(frozen=True)
class Federation:
    """Who takes part, and what they agree to."""

    nodes: Mapping[str, int]
    manifests: Mapping[str, Manifest]
    topology: Topology
    """Of the clients that take part."""
    agreement: Agreement
    left_out: Mapping[str, str]
    """Client that does not -> why."""


def gather(
    grid: Grid,
    settings: Settings,
    topology: Topology,
    recorder: Recorder,
    registered: Mapping[str, int],
    left_out: Mapping[str, str],
) -> Federation:
    """Find the clients' nodes, hear what each is, and derive what all agree to.

    Parameters
    ----------
    registered
        Client -> node id, where the relay knows each client's key; empty where it knows none.
    left_out
        Client -> why an earlier session of the run has gone on without it: so does this one.

    Raises
    ------
    HandshakeError
        Some client has no node within the deadline, or a client does not fit, and the run needs it.
    DataError
        The clients' events or labels cannot serve the configuration.
    """
    asked: set[int] = set()
    attendance = Attendance(settings, topology, registered, left_out)
    try:
        _gather(grid, settings, attendance, recorder, asked)
        rest, agreement = attendance.close()
    except SheafAlignError as error:
        if settings.engine == "deployed":
            refuse(grid, dict.fromkeys(asked, str(error)))
        raise
    if settings.engine == "deployed":
        refuse(grid, attendance.dismissed)
    nodes = {client: attendance.nodes[client] for client in rest.clients}
    return Federation(nodes, attendance.manifests, rest, agreement, attendance.left_out)


def _gather(
    grid: Grid,
    settings: Settings,
    attendance: Attendance,
    recorder: Recorder,
    asked: set[int],
) -> None:
    """Hear what each node is until all clients are found; note in `asked` who has been asked."""
    limit = time.monotonic() + settings.training.setup_deadline
    while attendance.awaited:
        if not (ids := _wait_for_nodes(grid, asked, settings, attendance, limit)):
            return
        asked.update(ids)
        orders = {str(node): Order() for node in ids}
        # A deployed node that keeps silent may have lost the question on a bad line, and is asked
        # again.
        boots = dict.fromkeys(orders, _UNHEARD) if settings.engine == "deployed" else {}
        messenger = Messenger(grid, {str(node): node for node in ids}, boots)
        left = max(_GATHER_SECONDS, limit - time.monotonic())
        outcome = messenger.ask(DESCRIBE, orders, "setup", left, _manifest, patient=False)
        asked -= {int(node) for node in outcome.unreachable}  # gone, or not quite there yet
        attendance.hear(outcome)
        names = {str(node): name for name, node in attendance.nodes.items()}
        recorder.question(
            "setup",
            0,
            {names.get(node, node): order for node, order in orders.items()},
            _renamed(outcome, names),
            {},
        )


def refuse(grid: Grid, reasons: Mapping[int, str]) -> None:
    """Tell nodes why there will be no run with them, and give them a moment to hear it."""
    messenger = Messenger(grid, {str(node): node for node in reasons})
    orders = {str(n): Order(Dismissal(reason=r).fields()) for n, r in reasons.items()}
    if orders:
        messenger.ask(REFUSE, orders, "setup", _REFUSAL_SECONDS, nothing)


def _manifest(node: str, reply: Reply) -> Manifest | None:
    """Read what a node is; None for a spare one."""
    del node
    told = ManifestReply.read(reply.fields).manifest
    return None if told is None else Manifest.from_bytes(told)


def tell(
    messenger: Messenger,
    settings: Settings,
    federation: Federation,
    folder: RunFolder,
    recorder: Recorder,
) -> dict[str, str]:
    """Send every client its agreement; return client -> why it cannot work with it.

    Raises
    ------
    HandshakeError
        One cannot, and the run needs all.
    """
    topology, agreement = federation.topology, federation.agreement
    orders = {
        client: Order(
            AgreementOrder(
                agreement=agreement.for_client(client, topology).to_bytes(),
                folder=str(folder.path.resolve()),
                run=folder.identity,
            ).fields()
        )
        for client in topology.clients
    }
    outcome = messenger.ask(AGREE, orders, "setup", settings.training.setup_deadline, nothing)
    unable = unusable(outcome, settings)
    recorder.question("setup", 0, orders, outcome, {})
    return unable


def _wait_for_nodes(
    grid: Grid, asked: Collection[int], settings: Settings, attendance: Attendance, limit: float
) -> list[int]:
    """Wait until there are as many nodes not asked yet as clients are missing; return them.

    None, where there are enough clients to begin with and the others have not come in time.
    """
    begun = time.monotonic()
    while True:
        fresh = [node for node in grid.get_node_ids() if node not in asked]
        enough = len(fresh) >= len(attendance.awaited)
        now = time.monotonic()
        if fresh and (enough or now - begun >= _GATHER_SECONDS or now >= limit):
            return fresh
        if now >= limit:
            _check_enough_have_come(settings, attendance)
            return []
        time.sleep(0.1)


def _check_enough_have_come(settings: Settings, attendance: Attendance) -> None:
    come = len(attendance.nodes)
    if come >= (settings.training.min_clients or len(settings.clients)):
        return
    missing = [client for client in settings.clients if client not in attendance.nodes]
    hint = (
        "start them with `sheafalign node`"
        if settings.engine == "deployed"
        else f"give `flwr run . --federation-config 'num-supernodes={len(settings.clients)}'`"
    )
    raise HandshakeError(
        f"the configuration has {len(settings.clients)} clients but only {come} have "
        f"come within {settings.training.setup_deadline:g} s; nobody runs "
        f"{', '.join(missing)}: {hint}"
    )


def _renamed(outcome: Outcome[Any], names: dict[str, str]) -> Outcome[Any]:
    """Return `outcome` with clients' names where it has node ids."""
    return Outcome(
        sent={names.get(node, node): size for node, size in outcome.sent.items()},
        replies={names.get(node, node): reply for node, reply in outcome.replies.items()},
        extra_down=Counter(
            {names.get(node, node): size for node, size in outcome.extra_down.items()}
        ),
        extra_up=Counter({names.get(node, node): size for node, size in outcome.extra_up.items()}),
    )
