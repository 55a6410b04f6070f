"""The schema: every field's type, limits, round trip, and whether clients have to agree on it."""

import copy
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from sheafalign_fl.config import (
    METRICS,
    ClientSettings,
    Settings,
    decode,
    encode,
    parse_settings,
    to_yaml,
)
from sheafalign_fl.errors import ConfigError

Content = dict[str, Any]

LOCAL: Content = {
    "name": "other",
    "engine": "inprocess",
    "resources.cpus": 2,
    "resources.gpus": 0.5,
    "resources.threads": 3,
    "resources.workers": 4,
    "checkpoint.every": 7,
    "checkpoint.keep": 9,
    "clients.a.device": "cpu",
    "checkpoint.best": "R@10",
    "data.path": "recordings",
}
"""Fields that concern one machine alone, each with a value that is not the default."""
SHARED: Content = {
    "seed": 1,
    "method": "paper",
    "codec": "float16",
    "security.sealed": True,
    "data.source": "watch",
    "data.options": {"events": 5},
    "clients.a.modality": "sonar",
    "clients.a.encoder": "vector",
    "clients.a.encoder_options": {"hidden": 8},
    "clients.a.features": "features.npz",
    "clients.a.dim": 3,
    "clients.a.missing": 0.25,
    "clients.a.replicas": 2,
    "clients.a.freeze": True,
    "init_from": "street",
    "graph.topology": "ring",
    "graph.dim": 5,
    "graph.centre": "b",
    "graph.probability": 0.25,
    "graph.neighbours": 2,
    "graph.edges": [{"between": ["a", "b"]}, {"between": ["b", "c"]}],
    "maps.family": "orthogonal",
    "maps.initial": "normal",
    "objective.laplacian": 0.5,
    "objective.contrastive": 0.5,
    "objective.reconstruction": 0.5,
    "objective.cross_reconstruction": 0.5,
    "objective.contrast": "centroid",
    "objective.stop_gradient": True,
    "objective.learnable_temperature": True,
    "objective.false_negatives": "mask",
    "objective.temperature": 0.5,
    "objective.normalised_laplacian": False,
    "objective.variance": 0.5,
    "objective.covariance": 0.5,
    "objective.procrustes": 0.5,
    "objective.label_smoothing": 0.2,
    "objective.terms": {"tests.toy:shrinking": 0.5},
    "training.exchanges": 5,
    "training.batch_size": 5,
    "training.optimiser": "sgd",
    "training.learning_rate": 0.5,
    "training.weight_decay": 0.5,
    "training.dtype": "float64",
    "training.decay": "none",
    "training.batches": 2,
    "training.local_steps": 2,
    "training.stale": True,
    "training.replay": 3,
    "training.replay_from": 0.5,
    "training.replay_batches": 3,
    "training.warmup": 0.2,
    "training.clip": 0.5,
    "training.min_clients": 2,
    "training.epochs": 2.5,
    "training.patience": 3,
    "training.error_feedback": True,
    "evaluation.split": "validation",
    "training.deadline": 5.0,
    "training.setup_deadline": 5.0,
    "evaluation.metrics": ["probe"],
    "evaluation.label": "speed",
    "evaluation.every": 5,
    "evaluation.deadline": 5.0,
    "evaluation.refine": "cca",
    "evaluation.events": 5,
    "evaluation.train_events": 5,
}
"""Fields that clients have to agree on."""


def base() -> Content:
    return {
        "clients": {"a": {}, "b": {}, "c": {}},
        "evaluation": {"metrics": ["retrieval", "probe"]},
    }


def changed(content: Content, name: str, value: object) -> Content:
    """Return `content` with the field `name` set."""
    content = copy.deepcopy(content)
    *parents, last = name.split(".")
    section = content
    for parent in parents:
        section = section.setdefault(parent, {})
    section[last] = value
    if name == "graph.edges":
        content["graph"]["topology"] = "edges"
    if name == "objective.contrast":
        content["maps"] = {"family": "identity"}  # which it needs
    return content


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every field that is no section; of clients under ``clients.a``."""
    for name, field in model.model_fields.items():
        if name == "clients":
            yield from leaves(ClientSettings, "clients.a.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_field_is_either_local_or_shared() -> None:
    """A new field fails here until somebody has decided whether clients have to agree on it."""
    assert sorted(leaves(Settings)) == sorted([*LOCAL, *SHARED])


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_the_digest_ignores_what_concerns_one_machine(name: str) -> None:
    one, other = parse_settings(base()), parse_settings(changed(base(), name, LOCAL[name]))
    assert one != other
    assert one.digest() == other.digest()


@pytest.mark.parametrize("name", sorted(SHARED))
def test_the_digest_changes_with_anything_else(name: str) -> None:
    assert (
        parse_settings(base()).digest()
        != parse_settings(changed(base(), name, SHARED[name])).digest()
    )


def test_digests_of_an_edge_list_see_each_edge() -> None:
    def digest(*edges: Content) -> str:
        return parse_settings(
            {**base(), "graph": {"topology": "edges", "edges": list(edges)}}
        ).digest()

    ab, bc = {"between": ["a", "b"]}, {"between": ["b", "c"]}
    assert (
        len(
            {
                digest(ab, bc),
                digest(ab, {**bc, "dim": 3}),
                digest(ab),
                digest({"between": ["a", "c"]}, bc),
            }
        )
        == 4
    )


# ---- round trips ---------------------------------------------------------------------------------

weights = st.floats(0, 1e6)
names = st.lists(
    st.from_regex(r"[A-Za-zäß_ -]{1,6}", fullmatch=True), min_size=2, max_size=4, unique=True
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
options = st.dictionaries(st.from_regex(r"[a-oq-z]{1,5}", fullmatch=True), json_values, max_size=3)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    clients = draw(names)

    def client() -> Content:
        return {
            "modality": draw(st.none() | st.text(min_size=1, max_size=4)),
            "dim": draw(st.integers(1, 2**20)),
            "device": draw(st.sampled_from(["auto", "cpu", "cuda"])),
            "missing": draw(st.floats(0, 1, exclude_max=True)),
            "encoder_options": draw(options),
        }

    graph: Content = {"topology": draw(st.sampled_from(["complete", "ring", "path", "random"]))}
    if draw(st.booleans()):
        pairs = [[one, other] for one, other in pairwise(clients)]
        edges = [{"between": pair, "dim": draw(st.none() | st.integers(1, 99))} for pair in pairs]
        graph = {"topology": "edges", "edges": edges, "dim": draw(st.integers(1, 99))}
    return {
        "name": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)),
        "seed": draw(st.integers(0, 2**80)),
        "engine": draw(st.sampled_from(["flower", "inprocess"])),
        "data": {"source": draw(st.text(max_size=5)), "options": draw(options)},
        "clients": {name: client() for name in clients},
        "graph": graph,
        "maps": {"family": draw(st.sampled_from(["linear", "orthogonal", "identity"]))},
        "objective": {
            "laplacian": draw(st.floats(1e-9, 1e6)),
            "contrastive": draw(weights),
            "cross_reconstruction": draw(weights),
            "temperature": draw(st.floats(1e-6, 1e6)),
            "normalised_laplacian": draw(st.booleans()),
        },
        "training": {
            "optimiser": draw(st.sampled_from(["adam", "adamw", "sgd"])),
            "learning_rate": draw(st.floats(1e-12, 10)),
            "weight_decay": draw(weights),
            "deadline": draw(st.none() | st.floats(1e-3, 1e6)),
        },
        "evaluation": {
            "metrics": draw(st.lists(st.sampled_from(METRICS), unique=True, max_size=5)),
            "label": draw(st.none() | st.text(max_size=4)),
        },
        "resources": {
            "gpus": draw(st.floats(0, 8)),
            "workers": draw(st.none() | st.integers(1, 9)),
        },
    }


@given(content=contents())
@settings(deadline=None, max_examples=40)
def test_settings_survive_their_yaml_and_the_encoded_string(content: Content) -> None:
    found = parse_settings(content)
    for again in (parse_settings(yaml.safe_load(to_yaml(found))), decode(encode(found))):
        assert again == found
        assert again.digest() == found.digest()


def test_settings_are_frozen_all_the_way() -> None:
    found = parse_settings(base())
    for section, name in (
        (found, "seed"),
        (found.graph, "dim"),
        (found.clients["a"], "dim"),
        (found.training, "dtype"),
    ):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, name, 1)


# ---- types and limits ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("seed", [1.5, "1", True, None, -1, [1]]),
        ("name", ["", "a b", "../a", "-a", 3, "a/b", "a\n"]),
        ("engine", ["ray", "", None]),
        ("codec", [3, None]),
        ("clients.a.dim", [0, -1, 1.5, "8", None]),
        ("clients.a.missing", [1, 1.0, -0.1, "half", float("nan")]),
        ("clients.a.device", ["gpu", None]),
        ("clients.a.replicas", [0, 1.5]),
        ("clients.a.encoder_options", [[], "x", None]),
        ("graph.dim", [0, -3, 2.5, "64", None]),
        ("graph.topology", ["tree", None, 3]),
        ("graph.probability", [0, 1.1, -1, float("inf")]),
        ("graph.neighbours", [0, 2.5]),
        (
            "graph.edges",
            [
                "ab",
                [["a", "b"]],
                [{"between": ["a"]}],
                [{"between": ["a", "b", "c"]}],
                [{"dim": 3}],
            ],
        ),
        ("maps.family", ["free", None]),
        ("objective.laplacian", [-0.1, float("inf"), float("nan"), "1", True]),
        ("objective.temperature", [0, -1, float("inf")]),
        ("objective.normalised_laplacian", [1, "yes"]),
        ("training.exchanges", [-1, 1.5, "600"]),
        ("training.batch_size", [0, 1, 2.5]),
        ("training.learning_rate", [0, -1e-3, float("inf")]),
        ("training.deadline", [0, -1, "soon", float("inf")]),
        ("training.dtype", ["float16"]),
        ("evaluation.metrics", ["retrieval", ["retrieval", "retrieval"], ["accuracy"], [1]]),
        ("evaluation.every", [-1, 0.5]),
        ("evaluation.events", [0]),
        ("resources.cpus", [0, 0.5]),
        ("resources.gpus", [-1, float("nan")]),
        ("checkpoint.keep", [0]),
        ("data.options", [[], None, "x"]),
        ("data.path", [3, ["x"], True]),
        ("data.source", [None, 3]),
    ],
)
def test_what_is_out_of_type_or_range_is_named(name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ConfigError) as caught:
            parse_settings(changed(base(), name, value))
        message = str(caught.value)
        assert name.removesuffix(".edges") in message, value
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sede", "did you mean 'seed'?"),
        ("trainning", "did you mean 'training'?"),
        ("training.learning_rat", "did you mean 'learning_rate'?"),
        ("graph.center", "did you mean 'centre'?"),
        ("clients.a.encodr", "did you mean 'encoder'?"),
        ("evaluation.metric", "did you mean 'metrics'?"),
        ("maps.qqqq", "known here: family, initial"),
    ],
)
def test_an_unknown_key_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(changed(base(), name, 1))
    assert f"unknown key '{name}'" in str(caught.value)
    assert hint in str(caught.value)


def test_several_problems_are_counted() -> None:
    with pytest.raises(ConfigError, match=r"\(and 2 more\)$"):
        parse_settings({**base(), "seed": -1, "codec": 3, "graph": {"dim": 0}})


keys = st.sampled_from(["seed", "clients", "graph", "data", "name", "training", "x"]) | st.text(
    max_size=4
)


@given(
    st.dictionaries(
        keys, json_values | st.sampled_from([["a", "b"], {"a": None, "b": {}}]), max_size=5
    )
)
@settings(deadline=None, max_examples=150)
def test_whatever_is_given_there_are_settings_or_a_configuration_error(content: Content) -> None:
    with suppress(ConfigError):
        assert len(parse_settings(content).clients) >= 2


@pytest.mark.parametrize(
    "content",
    [
        {"clients": ["a", "b"], "a\nb": 1},
        {"clients": {"a\nb/": {}, "c": {}}},
        {"clients": {"a": {"x\ny": 1}, "b": {}}},
    ],
)
def test_an_error_is_one_line_even_if_a_name_is_not(content: Content) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(content)
    assert len(str(caught.value).splitlines()) == 1


# ---- clients -------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4))
@settings(deadline=None, max_examples=30)
def test_replicas_become_numbered_clients(replicas: list[int]) -> None:
    kinds = {
        f"kind{index}": {"dim": 10 + index, "replicas": count}
        for index, count in enumerate(replicas)
    }
    found = parse_settings({"clients": kinds}).clients
    expected: list[tuple[str, str, int]] = []
    for index, count in enumerate(replicas):
        for number in range(count):
            name = f"kind{index}-{number}" if count > 1 else f"kind{index}"
            expected.append((name, f"kind{index}", 10 + index))
    assert [(name, client.modality, client.dim) for name, client in found.items()] == expected
    assert all(client.replicas == 1 for client in found.values())


def test_a_stated_modality_is_kept_for_every_replica() -> None:
    found = parse_settings(
        {
            "clients": {
                "left": {"modality": "camera", "replicas": 2},
                "right": {"modality": "camera"},
            }
        }
    )
    assert [client.modality for client in found.clients.values()] == ["camera"] * 3


@pytest.mark.parametrize(
    "name", ["", "a/b", "a\\b", "a>b", "a\x00", "a\nb", "x" * 100, "ü" * 50, "..", "evaluator"]
)
def test_names_that_cannot_name_a_client_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a client"):
        parse_settings({"clients": {name: {}, "b": {}}})


@pytest.mark.parametrize(
    "clients", [{}, [], ["a"], {"a": {}}, "ab", None, 3, [1, 2], {"a": 3, "b": {}}]
)
def test_a_federation_needs_two_named_clients(clients: object) -> None:
    with pytest.raises(ConfigError, match="clients"):
        parse_settings({"clients": clients})
