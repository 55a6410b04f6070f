"""The README beside an exported graph: what goes in, in which units, and what comes out."""

from sheafalign_fl.shares.facts import ShareFacts
from sheafalign_fl.shares.graph import EMBEDDING, Graph

_ONNX = """import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
x = np.zeros((1, {shape}), dtype=np.{dtype})  # your events
{outputs} = session.run(None, {{"x": x}})
"""
_TORCH = """import torch

graph = torch.export.load("{file}").module()
x = torch.zeros(1, {shape}, dtype=torch.{dtype})  # your events
{outputs} = graph(x)
"""


def explain(facts: ShareFacts, file: str, graph: Graph, difference: float) -> str:
    """Return the README of the graph in `file`."""
    dtype = str(graph.input_dtype).removeprefix("torch.")
    rows = [
        ("`x`", dtype, _shape(graph.input_shape), _meaning(facts)),
        (f"`{EMBEDDING}`", "float32", _shape((facts.dim,)), "h, the client's own embedding"),
        *(
            (f"`{output}`", "float32", _shape((dim,)), _compared_with(neighbour))
            for output, (neighbour, dim) in zip(
                graph.outputs[1:],
                facts.neighbours.items(),
                strict=False,  # none in one space
            )
        ),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    code = (_ONNX if file.endswith(".onnx") else _TORCH).format(
        file=file, dtype=dtype, shape=", ".join(map(str, graph.input_shape)),
        outputs=", ".join(("embedding", *(f"z{k}" for k in range(1, len(graph.outputs)))))
        + ("," if len(graph.outputs) == 1 else ""),
    )  # fmt: skip
    return (
        f"# {facts.client}\n\n"
        f"`{file}`: what client '{facts.client}' (modality '{facts.modality}') learnt in run "
        f"'{facts.run}' ({facts.exchanges} exchanges, encoder {facts.encoder}).\n\n"
        f"| name | dtype | shape | meaning |\n|---|---|---|---|\n{table}\n\n"
        f"N, the number of events, is free. {_space(facts)}\n\n"
        f"```python\n{code}```\n\n"
        f"Compared with the share when it was written: largest difference {difference:.1e}.\n\n"
        f"Run {facts.run_id}, weights {facts.training_digest}, share {facts.digest}.\n"
    )


def _shape(event: tuple[int, ...]) -> str:
    return f"(N, {', '.join(map(str, event))})"


def _meaning(facts: ShareFacts) -> str:
    units = f" ({facts.units})" if facts.units else ""
    scaled = "scaling is inside the graph" if facts.scaled else "they are not scaled"
    axes = f"; the axes of an event are {facts.layout}" if facts.layout else ""
    axes += "; NaN stands behind the end of an event that is shorter" if facts.unequal else ""
    return f"events in the units that the source `{facts.source}` reads{units}; {scaled}{axes}"


def _compared_with(neighbour: str) -> str:
    return f"z, to be compared with what '{neighbour}' makes for this client"


def _space(facts: ShareFacts) -> str:
    if facts.shared_space:
        return f"All clients share one space: `{EMBEDDING}` of two of them can be compared."
    return "Two clients' embeddings are compared in their common space only, by cosine."
