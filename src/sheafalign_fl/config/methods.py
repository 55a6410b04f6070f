"""Methods of the literature as configurations of the one algorithm.

A method is a graph, a family of maps and weights; nothing else in the code knows its name.
`apply_method` lays what a method prescribes under the user's own settings, so every single setting
can still be overridden.
"""

from collections.abc import Mapping
from typing import Any, Literal

MethodName = Literal[
    "sheafalign",
    "paper",
    "imagebind",
    "clip-pairs",
    "clip-refined",
    "clip-heads",
    "centrobind",
    "gram",
    "triangle",
    "symile",
    "c-vfl",
    "sheaf-frl",
    "comfed",
    "random",
]

_CONTRAST_ALONE: dict[str, Any] = {
    "laplacian": 0.0,
    "contrastive": 1.0,
    "reconstruction": 0.0,
    "cross_reconstruction": 0.0,
}
_CONSTANT_SHEAF: dict[str, Any] = {"maps": {"family": "identity"}, "objective": _CONTRAST_ALONE}


def _of_all(contrast: str) -> dict[str, Any]:
    """Return a method in one space whose contrast compares all clients of an event at once.

    Each client needs all of the others for it, so the graph is complete.
    """
    return {
        "maps": {"family": "identity"},
        "objective": {**_CONTRAST_ALONE, "contrast": contrast},
        "graph": {"topology": "complete"},
    }


METHODS: dict[MethodName, dict[str, Any]] = {
    # The best that we found on validation events (docs/learning.md), at no further byte.
    "sheafalign": {
        "objective": {"variance": 0.01, "covariance": 0.01, "label_smoothing": 0.1},
        "training": {
            "optimiser": "adamw",
            "learning_rate": 0.003,
            "weight_decay": 1.0,
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
    # The same with maps of every edge fitted afterwards, in closed form, from what had come: what
    # comparison spaces are worth without being learnt.
    "clip-refined": {
        **_CONSTANT_SHEAF,
        "graph": {"topology": "complete"},
        "evaluation": {"refine": "cca"},
    },
    # The same with a learnt projection before the shared space, one a client (CLIP, section 2.3),
    # and the bytes of its dimension: what a head alone is worth, without a space for each edge.
    "clip-heads": {
        "maps": {"family": "shared"},
        "objective": _CONTRAST_ALONE,
        "graph": {"topology": "complete"},
    },
    # arXiv 2410.02086: every modality is bound to the centroid of all.
    "centrobind": _of_all("centroid"),
    # Cicchetti et al., arXiv 2412.11959: the volume that all embeddings of an event span.
    "gram": _of_all("volume"),
    # Cicchetti et al., arXiv 2509.24734: the area of the triangle between three modalities. Not the
    # paper's: its matching loss beside the contrast, and an anchor that is text.
    "triangle": _of_all("area"),
    # Saporta et al., arXiv 2411.01053: a lower bound on total correlation by the multilinear inner
    # product. Not the paper's: tau is set where they learn a scale of the logits.
    "symile": _of_all("product"),
    # Castiglia et al., arXiv 2206.08330: what parties send is compressed, and several local steps
    # are taken on it. Their server's model and its labels have no place among peers: what is left
    # is their exchange, with a contrast for its loss. Bits and steps are our choice.
    "c-vfl": {
        **_CONSTANT_SHEAF,
        "graph": {"topology": "complete"},
        "codec": "int4",
        "training": {"local_steps": 10},
    },
    # Sheaf-FRL (SPAICOM): latent spaces are glued by the rotation between them that fits the shared
    # samples best (Procrustes). Their pilots are here the events of a batch. Their local tasks
    # need labels and keep spaces from collapsing; here VICReg's terms do that (arXiv 2105.04906),
    # 25 : 25 : 1 of mean squares at d = 128.
    "sheaf-frl": {
        "maps": {"family": "identity"},
        "graph": {"topology": "complete"},
        "objective": {
            **_CONTRAST_ALONE,
            "contrastive": 0.0,
            "variance": 25.0,
            "covariance": 1.0,
            "procrustes": 0.2,
        },
        "evaluation": {"refine": "procrustes"},
    },
    # Badi, Ben Issaid, Bennis, CoMFed, arXiv 2603.19067: a learnt projection a client into a small
    # latent space, where a regulariser aligns all clients. On a complete graph the Laplacian is n
    # times the squared distance to the clients' mean. Not the paper's: its local task with labels
    # (VICReg's terms stand for it, 25 : 25 : 1 at d_e = 64) and how it is robust to outliers; we
    # had no more of it than abstract and introduction.
    "comfed": {
        "maps": {"family": "shared"},
        "graph": {"topology": "complete"},
        "objective": {
            **_CONTRAST_ALONE,
            "laplacian": 0.4,
            "normalised_laplacian": False,
            "contrastive": 0.0,
            "variance": 25.0,
            "covariance": 1.0,
        },
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
