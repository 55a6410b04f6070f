"""A codec and a graph of your own, passed in code: ``python examples/own_codec.py OUT_FOLDER``."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sheafalign_fl as sf


class SixteenLevels(sf.Codec):
    """A byte a value: sixteen levels from -1 to 1, for embeddings that are not longer."""

    name = "sixteen-levels"

    def encode(self, values: NDArray[np.floating]) -> bytes:
        """Return one byte for each of `values`, shape (events, dim)."""
        return np.clip(np.round((values + 1) * 7.5), 0, 15).astype(np.uint8).tobytes()

    def decode(self, payload: bytes, events: int, dim: int) -> NDArray[np.floating]:
        """Return the levels, shape (events, dim)."""
        self.check_length(payload, events, dim)
        levels = np.frombuffer(payload, dtype=np.uint8).reshape(events, dim)
        return (levels / 7.5 - 1).astype(np.float32)

    def payload_bytes(self, events: int, dim: int) -> int:
        """Return events * dim."""
        return events * dim


def double_star(clients: Sequence[str], *_: Any) -> Iterable[tuple[int, int]]:
    """Return the edges of a graph with two hubs: pairs of positions in `clients`."""
    others = range(2, len(clients))
    return [(0, 1), *((hub, leaf) for hub in (0, 1) for leaf in others)]


def main(out: str) -> None:
    """Train with both, and print the bytes that travelled."""
    run = sf.run(
        {
            "data": {"source": "scenes", "options": {"events": 600}},
            "clients": {name: {"dim": 24} for name in ("lidar", "radar", "beam", "gps")},
            "graph": {"topology": double_star, "dim": 12},
            "codec": SixteenLevels,
        },
        out,
        training={"exchanges": 20, "batch_size": 32},
        evaluation={"metrics": ["retrieval"], "every": 0},
    )
    sent = [row for row in run.traffic if row.purpose == "train" and row.payload_bytes]
    for row in sent:
        print(f"{row.source} -> {row.target}: {row.payload_bytes} bytes of payload")


if __name__ == "__main__":
    main(sys.argv[1])
