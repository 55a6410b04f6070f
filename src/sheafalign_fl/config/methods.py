"""Methods of the literature as configurations of the one algorithm.

A method is a graph, a family of maps and weights; nothing else in the code knows its name.
`apply_method` lays what a method prescribes under the user's own settings, so every single setting
can still be overridden.
"""

from collections.abc import Mapping
from typing import Any, Literal

MethodName = Literal[
    "sheafalign", "paper", "imagebind", "clip-pairs", "centrobind", "gram", "random"
]

_CONSTANT_SHEAF: dict[str, Any] = {
    "maps": {"family": "identity"},
    "objective": {
        "laplacian": 0.0,
        "contrastive": 1.0,
        "reconstruction": 0.0,
        "cross_reconstruction": 0.0,
    },
}

METHODS: dict[MethodName, dict[str, Any]] = {
    # The best that we found on validation events (docs/learning.md), at no further byte.
    "sheafalign": {
        "objective": {"variance": 0.01, "covariance": 0.01, "label_smoothing": 0.1},
        "training": {
            "learning_rate": 0.003,
            "decay": "cosine",
            "warmup": 0.1,
            "clip": 1.0,
            "replay": 2,
        },
    },
    # arXiv 2510.20540, section IV: its losses, initial maps, optimiser and temperature.
    "paper": {
        "graph": {"topology": "complete", "dim": 64},
        "maps": {"family": "linear", "initial": "normal"},
        "objective": {
            "laplacian": 1.0,
            "contrastive": 1.0,
            "reconstruction": 0.1,
            "cross_reconstruction": 0.0,
            "normalised_laplacian": False,
            "learnable_temperature": False,
            "stop_gradient": False,
            "temperature": 0.1,
            "variance": 0.0,
            "covariance": 0.0,
            "label_smoothing": 0.0,
        },
        "training": {
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "weight_decay": 0.0,
            "decay": "none",
            "warmup": 0.0,
            "clip": None,
            "replay": 0,
        },
    },
    # Girdhar et al., arXiv 2305.05665: every modality is bound to one anchor, the centre of a star.
    "imagebind": {**_CONSTANT_SHEAF, "graph": {"topology": "star"}},
    # Radford et al., arXiv 2103.00020, on every pair, as AudioCLIP (arXiv 2106.13043) does for
    # three modalities.
    "clip-pairs": {**_CONSTANT_SHEAF, "graph": {"topology": "complete"}},
    # arXiv 2410.02086: every modality is bound to the centroid of all; each client needs all of the
    # others to form it.
    "centrobind": {
        "maps": _CONSTANT_SHEAF["maps"],
        "objective": {**_CONSTANT_SHEAF["objective"], "contrast": "centroid"},
        "graph": {"topology": "complete"},
    },
    # Cicchetti et al., arXiv 2412.11959: the volume that all embeddings of an event span; needs all
    # of them too.
    "gram": {
        "maps": _CONSTANT_SHEAF["maps"],
        "objective": {**_CONSTANT_SHEAF["objective"], "contrast": "volume"},
        "graph": {"topology": "complete"},
    },
    # The floor: untrained encoders and maps.
    "random": {"training": {"exchanges": 0}},
}

_DEFAULT_DIM = 128
"""Of a client's stalk, as in the schema."""


def apply_method(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` with what its method prescribes wherever `content` itself says nothing.

    With identity maps a comparison space is a copy of the stalk, so `graph.dim` follows the
    clients' dimension unless it is given. What is no mapping of settings, or names no method, is
    left for validation to refuse.
    """
    method = content.get("method", "sheafalign")
    prescribed = next((settings for name, settings in METHODS.items() if name == method), {})
    merged = merge(prescribed, content)
    maps, graph = merged.get("maps"), merged.get("graph", {})
    if (
        isinstance(maps, dict)
        and maps.get("family") == "identity"
        and isinstance(graph, dict)
        and "dim" not in graph
    ):
        dims = _client_dims(merged.get("clients"))
        if len(dims) == 1:
            merged["graph"] = {**graph, "dim": dims.pop()}
    return merged


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` laid upon `under`, mapping by mapping; neither is changed."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = (
            merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged


def _client_dims(clients: object) -> set[int]:
    """Return all clients' stalk dimensions; empty where they are not yet known to be valid."""
    if not isinstance(clients, dict):
        return {_DEFAULT_DIM}
    dims = [
        client.get("dim", _DEFAULT_DIM) if isinstance(client, dict) else _DEFAULT_DIM
        for client in clients.values()
    ]
    return set(dims) if all(isinstance(dim, int) for dim in dims) else set()
