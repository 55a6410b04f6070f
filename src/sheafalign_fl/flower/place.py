"""Where a Flower app runs, and so what it may be asked: on one's own machine, or in a deployment.

Only what the machine's own programs say counts: the node configuration, which a node is started
with; the kind of Grid; Ray. Nothing that comes with a run or a message has a say.
"""

import sys
from collections.abc import Mapping

from flwr.serverapp import Grid
from flwr.superlink.grid import InMemoryGrid

from sheafalign_fl.config.policy import LOCAL, STRICT, Policy

POLICY = "policy"
"""Key of a node's configuration: `OWN_MACHINE`, or the policy as text."""
OWN_MACHINE = "own-machine"


def client_policy(node_config: Mapping[str, object]) -> Policy:
    """Return the policy of a client: what its node was started with, and `STRICT` without.

    In a simulation, which runs in a worker of Ray, everything is one's own.
    """
    if (given := node_config.get(POLICY)) is not None:
        return LOCAL if given == OWN_MACHINE else Policy.from_text(str(given))
    return LOCAL if "partition-id" in node_config and _in_ray() else STRICT


def relay_policy(grid: Grid, node_config: Mapping[str, object], given: Policy | None) -> Policy:
    """Return the policy of a ServerApp: `given` to its relay, and `STRICT` without.

    In a simulation, whose Grid is in memory, and in process everything is one's own.
    """
    if isinstance(grid, InMemoryGrid) or node_config.get(POLICY) == OWN_MACHINE:
        return LOCAL
    return given or STRICT


def _in_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
