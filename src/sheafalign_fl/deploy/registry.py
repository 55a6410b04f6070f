"""Which Flower node has the key of which client: what the relay tells the ServerApp that runs on it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from sheafalign_fl.files import write_atomically

VARIABLE = "SHEAFALIGN_REGISTERED_NODES"
"""Environment variable of the relay's processes: path of the file."""


def save_registered(path: Path, nodes: Mapping[str, int]) -> None:
    """Write down client -> node id."""
    write_atomically(path, json.dumps(dict(nodes)).encode())


def registered_nodes() -> dict[str, int]:
    """Return client -> node id; empty where no relay has registered keys (simulation, insecure deployment)."""
    path = os.environ.get(VARIABLE)
    if not path:
        return {}
    nodes: dict[str, int] = json.loads(Path(path).read_text(encoding="utf-8"))
    return nodes
