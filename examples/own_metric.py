"""A metric of your own: one class in one file, named in the settings by a dotted path.

Linear CKA compares two sets of embeddings of the same events: it asks whether the same events lie
close to each other in both, whatever the axes are (Kornblith et al., arXiv 1905.00414).

    python examples/own_metric.py OUT_FOLDER
"""

import sys

import numpy as np

import sheafalign_fl as sf
from sheafalign_fl.metrics.base import Column, Numbers, Pair, PairMetric, Score, mean_of


class LinearCKA(PairMetric):
    """Similarity of the two ends of an edge, from 0 to 1."""

    title = "Linear CKA"
    explanation = "1: both ends arrange the events alike, up to rotation and scale. Good: near 1."
    columns = (Column("CKA", "cka", "number", ".3f", ".3f"),)
    scores = (Score("CKA", mean_of("cka"), percent=False),)
    directed = False

    def measure(self, held: Pair) -> Numbers:
        """Return ||A^T B||^2 / (||A^T A|| ||B^T B||) of the centred embeddings A and B, (N, d)."""
        a, b = (z.astype(np.float64) - z.mean(axis=0) for z in (held.own, held.received))
        size = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
        return {"cka": float(np.linalg.norm(a.T @ b) ** 2 / size) if size > 0 else 0.0}


def main(out: str) -> None:
    """Train a small federation, and print what the metric says of its edges."""
    run = sf.run(
        {
            "data": {"source": "scenes", "options": {"events": 400}},
            "clients": ["camera", "lidar", "radar"],
            "training": {"exchanges": 20, "batch_size": 32},
            "evaluation": {"metrics": ["retrieval", "own_metric:LinearCKA"]},
        },
        out=out,
    )
    for row in run.quality.rows("own_metric:LinearCKA") if run.quality else ():
        print(f"{row.source} – {row.target}: CKA {row.cka:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
