"""What the relay tells the ServerApp that runs on it: keys, the folder of runs, its policy."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from sheafalign_fl.config.policy import Policy
from sheafalign_fl.files import write_atomically

VARIABLE = "SHEAFALIGN_REGISTERED_NODES"
"""Environment variable of the relay's processes: path of the file."""
RUNS = "SHEAFALIGN_RUNS"
"""Environment variable of the relay's processes: the folder that all run folders lie in."""
POLICY = "SHEAFALIGN_POLICY"
"""Environment variable of the relay's processes: its policy as `Policy.to_text`."""


def save_registered(path: Path, nodes: Mapping[str, int]) -> None:
    """Write down client -> node id."""
    write_atomically(path, json.dumps(dict(nodes)).encode())


def registered_nodes() -> dict[str, int]:
    """Return client -> node id; empty without registered keys (simulation, insecure deployment)."""
    path = os.environ.get(VARIABLE)
    if not path:
        return {}
    nodes: dict[str, int] = json.loads(Path(path).read_text(encoding="utf-8"))
    return nodes


def runs_folder() -> Path:
    """Return the folder in which the relay keeps the runs of its operators."""
    return Path(os.environ.get(RUNS) or Path.home() / ".sheafalign" / "runs")


def given_policy() -> Policy | None:
    """Return the policy that the relay was started with; None without."""
    given = os.environ.get(POLICY)
    return Policy.from_text(given) if given else None
