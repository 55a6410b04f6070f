"""A benchmark made by hand, whose figures are known."""

from typing import Any

from sheafalign_fl.benchmark.results import (
    Benchmark,
    Cell,
    CurvePoint,
    Kind,
    MissingPoint,
    Trial,
    Tuning,
)


def cell(method: str, kind: Kind, seed: int = 0, **changes: Any) -> Cell:
    """Return a cell of plausible figures; keyword arguments replace them."""
    values: dict[str, Any] = {
        "data": "toy",
        "method": method,
        "kind": kind,
        "seed": seed,
        "folder": f"cells/toy/{method}/{seed}",
        "settings": {"training.learning_rate": 0.001},
        "exchanges": 10,
        "clients": 3,
        "directions": 6,
        "codec": "float32",
        "edge_dim": 64,
        "payload_bytes": 1000,
        "message_bytes": 1100,
        "relay_bytes": 2300,
        "gallery": 200,
        "recall_at_1": 0.5,
        "recall_at_5": 0.6,
        "recall_at_10": 0.7,
        "worst_recall_at_10": 0.4,
        "median_rank": 3.0,
        "mean_average_precision": 0.3,
        "transfer_prototype": 0.6,
        "transfer_probe": 0.65,
        "probe": 0.8,
        "majority": 0.1,
        "missing": tuple(
            MissingPoint(missing=count, imputed=0.9 - 0.1 * count, mean_fill=0.8, zero_fill=0.7)
            for count in range(3)
        ),
        "consistency": 0.2,
        "seconds": 3.0,
        "curve": curve(0.35, 0.7),
    }
    return Cell.model_validate(values | changes)


def curve(*recalls: float, step: int = 500) -> tuple[CurvePoint, ...]:
    """Return a learning curve with `step` bytes between two validations."""
    return tuple(
        CurvePoint(
            exchange=index, payload_bytes=index * step, recall_at_1=recall / 2, recall_at_10=recall
        )
        for index, recall in enumerate(recalls, start=1)
    )


def benchmark(*cells: Cell) -> Benchmark:
    """Return a benchmark of `cells`, with one method's tuning."""
    trials = tuple(
        Trial(settings={"training.learning_rate": rate}, score=rate * 100)
        for rate in (0.001, 0.003)
    )
    return Benchmark(
        commit="0123456789abcdef",
        versions={"torch": "2.13.0"},
        criterion="what is best",
        seconds=61.0,
        cells=cells,
        tuning=(Tuning(data="toy", method="sheafalign", trials=trials),),
    )
