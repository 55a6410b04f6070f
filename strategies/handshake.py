"""The handshake: find the nodes, hear what each is, refuse misfits, tell all what was agreed."""

import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from flwr.serverapp import Grid

from sheafalign_fl.config import Settings
from sheafalign_fl.errors import HandshakeError, SheafAlignError
from sheafalign_fl.protocol.agreement import Agreement
from sheafalign_fl.protocol.manifest import Manifest
from sheafalign_fl.protocol.messages import AgreementOrder, Dismissal, ManifestReply
from sheafalign_fl.protocol.negotiation import agree
from sheafalign_fl.protocol.topology import Topology
from sheafalign_fl.protocol.verbs import AGREE, DESCRIBE, REFUSE
from sheafalign_fl.runs.folder import RunFolder
from strategies.messenger import Messenger, Order, Outcome, Reply, nothing
from strategies.recorder import Recorder

_GATHER_SECONDS = 5.0
"""Nodes that come so close to each other are asked together."""
_REFUSAL_SECONDS = 5.0
_UNHEARD = "?"
"""Stands for the process of a node that has not said yet which one it is."""


def gather(
    grid: Grid,
    settings: Settings,
    topology: Topology,
    recorder: Recorder,
    registered: Mapping[str, int],
) -> tuple[dict[str, int], dict[str, Manifest], Agreement]:
    """Return client -> node id, client -> manifest, and what follows from the manifests.

    Parameters
    ----------
    registered
        Client -> node id, where the relay knows each client's key; empty where it knows none.

    Raises
    ------
    HandshakeError
        Some client has no node within the deadline, or a client does not fit.
    DataError
        The clients' events or labels cannot serve the configuration.
    """
    asked: set[int] = set()
    try:
        return _gather(grid, settings, topology, recorder, registered, asked)
    except SheafAlignError as error:
        if settings.engine == "deployed":
            refuse(grid, asked, str(error))
        raise


def _gather(
    grid: Grid,
    settings: Settings,
    topology: Topology,
    recorder: Recorder,
    registered: Mapping[str, int],
    asked: set[int],
) -> tuple[dict[str, int], dict[str, Manifest], Agreement]:
    """Do what `gather` says, and note in `asked` which nodes have been asked."""
    limit = time.monotonic() + settings.training.setup_deadline
    nodes: dict[str, int] = {}
    manifests: list[Manifest] = []
    while set(nodes) != set(settings.clients):
        ids = _wait_for_nodes(grid, asked, settings, nodes, limit)
        asked.update(ids)
        orders = {str(node): Order() for node in ids}
        # A deployed node that keeps silent may have lost the question on a bad line, and is asked
        # again.
        boots = dict.fromkeys(orders, _UNHEARD) if settings.engine == "deployed" else {}
        messenger = Messenger(grid, {str(node): node for node in ids}, boots)
        left = max(_GATHER_SECONDS, limit - time.monotonic())
        outcome = messenger.ask(DESCRIBE, orders, "setup", left, _manifest, patient=False)
        asked -= {int(node) for node in outcome.unreachable}  # gone, or not quite there yet
        _raise_failures(outcome)
        for node in (
            orders
        ):  # not in the order of the replies, so that the first refusal is always the same
            if (manifest := outcome.answers.get(node)) is None:
                continue  # a spare node
            manifests.append(manifest)
            _check_key(manifests[-1].name, int(node), registered)
            nodes.setdefault(manifests[-1].name, int(node))
        names = {str(node): name for name, node in nodes.items()}
        recorder.question(
            "setup",
            0,
            {names.get(node, node): order for node, order in orders.items()},
            _renamed(outcome, names),
            {},
        )
        if len({manifest.name for manifest in manifests}) < len(manifests):
            break  # claimed twice: `agree` says so
    agreement = agree(manifests, settings, topology)
    nodes = {client: nodes[client] for client in settings.clients}
    return nodes, {manifest.name: manifest for manifest in manifests}, agreement


def refuse(grid: Grid, nodes: Collection[int], reason: str) -> None:
    """Tell nodes why there will be no run with them, and give them a moment to hear it."""
    messenger = Messenger(grid, {str(node): node for node in nodes})
    order = Order(Dismissal(reason=reason).fields())
    orders = {str(node): order for node in nodes}
    messenger.ask(REFUSE, orders, "setup", _REFUSAL_SECONDS, nothing)


def _manifest(node: str, reply: Reply) -> Manifest | None:
    """Read what a node is; None for a spare one."""
    del node
    told = ManifestReply.read(reply.fields).manifest
    return None if told is None else Manifest.from_bytes(told)


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
            AgreementOrder(
                agreement=agreement.for_client(client, topology).to_bytes(),
                folder=str(folder.path.resolve()),
                run=folder.identity,
            ).fields()
        )
        for client in topology.clients
    }
    outcome = messenger.ask(AGREE, orders, "setup", settings.training.setup_deadline, nothing)
    _raise_failures(outcome)
    recorder.question("setup", 0, orders, outcome, {})


def _wait_for_nodes(
    grid: Grid, asked: Collection[int], settings: Settings, nodes: Mapping[str, int], limit: float
) -> list[int]:
    """Wait until there are as many nodes not asked yet as clients are missing; return them."""
    begun = time.monotonic()
    while True:
        fresh = [node for node in grid.get_node_ids() if node not in asked]
        enough = len(fresh) >= len(settings.clients) - len(nodes)
        now = time.monotonic()
        if fresh and (enough or now - begun >= _GATHER_SECONDS or now >= limit):
            return fresh
        if now >= limit:
            missing = [client for client in settings.clients if client not in nodes]
            hint = (
                "start them with `sheafalign node`"
                if settings.engine == "deployed"
                else (
                    "give `flwr run . --federation-config "
                    f"'num-supernodes={len(settings.clients)}'`"
                )
            )
            raise HandshakeError(
                f"the configuration has {len(settings.clients)} clients but only {len(nodes)} have "
                f"come within {settings.training.setup_deadline:g} s; nobody runs "
                f"{', '.join(missing)}: {hint}"
            )
        time.sleep(0.1)


def _raise_failures(outcome: Outcome[Any]) -> None:
    """Raise the first reason why a client cannot take part; one that is gone may come back."""
    for client, reason in outcome.failed.items():
        if client in outcome.unreachable:
            continue
        error = HandshakeError(reason)
        error.exit_code = outcome.exit_codes.get(client, 1)
        raise error
    if outcome.late:
        raise HandshakeError(f"no answer within the deadline from {', '.join(outcome.late)}")


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
