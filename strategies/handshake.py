"""The handshake: find the nodes, hear what each of them is, refuse what does not fit, tell all what was agreed."""

import logging
import time

from flwr.serverapp import Grid

from sheafalign_fl.agreement import Agreement, Manifest, agree
from sheafalign_fl.config import Settings
from sheafalign_fl.errors import HandshakeError
from sheafalign_fl.protocol import AGREE, DESCRIBE
from sheafalign_fl.run.folder import RunFolder
from sheafalign_fl.topology import Topology
from strategies.messenger import Messenger, Order, Outcome
from strategies.recorder import Recorder

_log = logging.getLogger("sheafalign.relay")


def gather(
    grid: Grid, settings: Settings, topology: Topology, recorder: Recorder
) -> tuple[dict[str, int], dict[str, Manifest], Agreement]:
    """Return client -> node id, client -> manifest, and what follows from the manifests.

    Raises
    ------
    HandshakeError
        Too few nodes within the deadline, or a client that does not fit.
    DataError
        The clients' events or labels cannot serve the configuration.
    """
    limit = time.monotonic() + settings.training.setup_deadline
    ids = _wait_for_nodes(grid, len(settings.clients), limit)
    messenger = Messenger(grid, {str(node): node for node in ids})
    orders = {str(node): Order() for node in ids}
    outcome = messenger.ask(DESCRIBE, orders, "setup", limit - time.monotonic())
    _raise_failures(outcome)
    nodes: dict[str, int] = {}
    manifests: list[Manifest] = []
    for node in orders:  # not in the order of the replies, so that the first refusal is always the same
        reply = outcome.replies[node]
        if not isinstance(manifest := reply.fields.get("manifest"), bytes):
            continue  # a spare node
        manifests.append(Manifest.from_bytes(manifest))
        nodes.setdefault(manifests[-1].name, int(node))
    agreement = agree(manifests, settings, topology)
    names = {str(node): name for name, node in nodes.items()}
    recorder.question(
        "setup",
        0,
        {names.get(node, node): order for node, order in orders.items()},
        _renamed(outcome, names),
        {},
    )
    nodes = {client: nodes[client] for client in settings.clients}
    return nodes, {manifest.name: manifest for manifest in manifests}, agreement


def tell(
    messenger: Messenger,
    settings: Settings,
    topology: Topology,
    agreement: Agreement,
    folder: RunFolder,
    recorder: Recorder,
) -> None:
    """Send every client its agreement; raise if one of them cannot work with it."""
    orders = {
        client: Order(
            {"agreement": agreement.for_client(client, topology).to_bytes(), "folder": str(folder.path.resolve())}
        )
        for client in topology.clients
    }
    outcome = messenger.ask(AGREE, orders, "setup", settings.training.setup_deadline)
    _raise_failures(outcome)
    recorder.question("setup", 0, orders, outcome, {})


def _wait_for_nodes(grid: Grid, count: int, limit: float) -> list[int]:
    while True:
        ids = list(grid.get_node_ids())
        if len(ids) >= count:
            return ids
        if time.monotonic() >= limit:
            raise HandshakeError(
                f"the configuration has {count} clients but only {len(ids)} nodes are there; in a simulation give "
                f"`flwr run . --federation-config 'num-supernodes={count}'`"
            )
        time.sleep(0.1)


def _raise_failures(outcome: Outcome) -> None:
    for client, reason in outcome.failed.items():
        error = HandshakeError(reason)
        error.exit_code = outcome.exit_codes.get(client, 1)
        raise error
    if outcome.late:
        raise HandshakeError(f"no answer within the deadline from {', '.join(outcome.late)}")


def _renamed(outcome: Outcome, names: dict[str, str]) -> Outcome:
    """Return `outcome` with clients' names where it has node ids."""
    return Outcome(
        sent={names.get(node, node): size for node, size in outcome.sent.items()},
        replies={names.get(node, node): reply for node, reply in outcome.replies.items()},
    )
