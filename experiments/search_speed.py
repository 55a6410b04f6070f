"""How long a search takes: ``python -m experiments.search_speed [EVENTS] [DIMENSION]``."""

import sys
import time
from statistics import median

import numpy as np

from sheafalign_fl.shares.search import Gallery

REPEATS = 15


def main(events: int, dim: int) -> None:
    """Print memory and the medians of wall and processor time of a query."""
    rng = np.random.default_rng(0)
    gallery = Gallery(rng.standard_normal((events, dim), dtype=np.float32))
    print(f"gallery: {events} events of {dim} values, {gallery.nbytes / 1e6:.0f} MB")
    for together in (1, 16):
        wall, processor = [], []
        for _ in range(REPEATS):
            queries = rng.standard_normal((together, dim), dtype=np.float32)
            begun = time.perf_counter(), time.process_time()
            gallery.search(queries, 10)
            wall.append((time.perf_counter() - begun[0]) / together)
            processor.append((time.process_time() - begun[1]) / together)
        print(
            f"{together} queries together: {1000 * median(wall):.1f} ms a query, "
            f"{1000 * median(processor):.1f} ms of processor time"
        )


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [1_000_000, 64][len(given) :]))
