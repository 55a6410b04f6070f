"""Would a lossless stage after the codec help? ``python -m experiments.lossless RUN_DIR``.

Takes the clients of a finished run from their last checkpoint, embeds the batches of a few
exchanges, encodes them with every codec, compresses the payloads with zlib and LZMA at their
strongest, and prints the bytes that are left, in percent, and the time that it took.
"""

import lzma
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sheafalign_fl.codecs import codec
from sheafalign_fl.engines.check import check
from sheafalign_fl.errors import UserError
from sheafalign_fl.learner.manifest import client_data
from sheafalign_fl.learner.node import Node
from sheafalign_fl.protocol.topology import build_topology
from sheafalign_fl.runs.folder import RunFolder

CODECS = ("float32", "float16", "bfloat16", "int8", "int4", "sign", "top-8")
EXCHANGES = 5
STAGES: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda payload: zlib.compress(payload, 9),
    "LZMA": lambda payload: lzma.compress(
        payload, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}]
    ),
}


def payloads(folder: RunFolder, name: str) -> list[bytes]:
    """Return the payloads that a finished run's clients would send next, in the codec `name`."""
    settings, checkpoint = folder.settings(), folder.last_checkpoint()
    if checkpoint is None:
        raise UserError(
            f"{folder.path} has no checkpoint; run with checkpoint.every: 0 or more and to the end"
        )
    topology, agreement = build_topology(settings), check(settings).agreement
    found = []
    for client in topology.clients:
        node = Node(
            client, settings, client_data(client, settings), agreement.for_client(client, topology)
        )
        node.load_state(folder.load_client(checkpoint.exchange, client))
        for exchange in range(checkpoint.exchange, checkpoint.exchange + EXCHANGES):
            found += [codec(name).encode(z) for z in node.embed(exchange).values()]
    return found


def main() -> None:
    """Print the table for the run folder that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m experiments.lossless RUN_DIR")
    table = Table(
        "codec",
        "bytes",
        *(f"{name}, % left" for name in STAGES),
        *(f"{name}, ms" for name in STAGES),
    )
    try:
        for name in CODECS:
            sent = payloads(RunFolder(Path(sys.argv[1])), name)
            sizes, times = [], []
            for compress in STAGES.values():
                begun = time.perf_counter()
                sizes.append(sum(len(compress(payload)) for payload in sent))
                times.append((time.perf_counter() - begun) / len(sent))
            whole = sum(map(len, sent))
            cells = [f"{100 * size / whole:.1f}" for size in sizes] + [
                f"{1000 * taken:.2f}" for taken in times
            ]
            table.add_row(name, f"{whole:,}", *cells)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    Console().print(table)


if __name__ == "__main__":
    main()
