"""Settings: what is accepted, what is refused, what the digest depends on."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import Settings, decode, encode, load_settings, parse_settings, to_yaml
from sheafalign_fl.errors import ConfigError

CHANGES = ("training.exchanges=7", "graph={topology: path, dim: 3}", "evaluation.metrics=[probe]")
GOOD: dict[str, Any] = {"clients": ["a", "b", "c"]}


@st.composite
def random_settings(draw: st.DrawFn) -> Settings:
    names = draw(
        st.lists(
            st.text("abcxyz-_.0123ü", min_size=1, max_size=6), min_size=2, max_size=5, unique=True
        )
    )
    names = [f"c{name}" for name in names]
    content = {
        "seed": draw(st.integers(0, 2**40)),
        "clients": {
            name: {"dim": draw(st.integers(1, 64)), "missing": draw(st.sampled_from([0.0, 0.25]))}
            for name in names
        },
        "graph": {
            "topology": draw(st.sampled_from(["complete", "ring", "path"])),
            "dim": draw(st.integers(1, 99)),
        },
        "objective": {
            "temperature": draw(st.floats(0.01, 5)),
            "reconstruction": draw(st.floats(0, 3)),
        },
        "training": {
            "exchanges": draw(st.integers(1, 10**6)),
            "deadline": draw(st.none() | st.floats(0.1, 99)),
        },
        "codec": draw(st.sampled_from(["float16", "float32"])),
    }
    return parse_settings(content)


@given(random_settings())
@settings(deadline=None, max_examples=40)
def test_settings_survive_encoding_and_yaml(given_settings: Settings) -> None:
    assert decode(encode(given_settings)) == given_settings
    assert parse_settings(yaml.safe_load(to_yaml(given_settings))) == given_settings
    assert decode(encode(given_settings)).digest() == given_settings.digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, "unknown key 'sed'; did you mean 'seed'"),
        ({"clients": {"a": {"dimension": 3}, "b": {}}}, "unknown key 'clients.a.dimension'"),
        ({"seed": 1.5}, "'seed'"),
        ({"seed": "x"}, "'seed'"),
        ({"seed": True}, "'seed'"),
        ({"seed": -1}, "'seed'"),
        ({"training": {"learning_rate": float("nan")}}, "learning_rate"),
        ({"training": {"batch_size": 1}}, "batch_size"),
        ({"graph": {"topology": "tree"}}, "graph.topology"),
        ({"graph": {"topology": "edges"}}, "needs a list under 'edges'"),
        (
            {"graph": {"topology": "ring", "edges": [{"between": ["a", "b"]}]}},
            "needs topology 'edges'",
        ),
        ({"objective": {"laplacian": 0, "contrastive": 0}}, "nothing would align"),
        ({"clients": ["a", "a"]}, "named twice"),
        ({"clients": {"a": {"replicas": 2}, "a-0": {}}}, "two clients are named 'a-0'"),
        ({"clients": ["relay", "b"]}, "cannot name a client"),
        ({"evaluation": {"metrics": ["recall"]}}, "evaluation.metrics"),
        ({"name": "../x"}, "'name'"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings({**GOOD, **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_digest_is_of_what_clients_must_agree_on() -> None:
    digest = parse_settings(GOOD).digest()
    local = {
        "name": "other",
        "engine": "inprocess",
        "resources": {"threads": 2},
        "checkpoint": {"every": 7},
        "clients": {"a": {"device": "cpu"}, "b": {}, "c": {}},
        "data": {"options": {"path": "/somewhere"}},
    }
    for key, value in local.items():
        assert parse_settings({**GOOD, key: value}).digest() == digest, key
    shared = {
        "seed": 1,
        "codec": "float16",
        "clients": {"a": {"dim": 3}, "b": {}, "c": {}},
        "data": {"options": {"events": 5}},
        "graph": {"topology": "ring"},
        "maps": {"family": "orthogonal"},
        "objective": {"temperature": 0.3},
        "training": {"exchanges": 5},
        "evaluation": {"label": "x"},
    }
    found = {parse_settings({**GOOD, key: value}).digest() for key, value in shared.items()}
    assert len(found | {digest}) == len(shared) + 1


def test_replicas_are_clients_of_one_modality() -> None:
    clients = parse_settings({"clients": {"camera": {"replicas": 3, "dim": 5}, "gps": {}}}).clients
    assert list(clients) == ["camera-0", "camera-1", "camera-2", "gps"]
    assert {client.modality for client in clients.values()} == {"camera", "gps"}


def test_files_overrides_and_relative_paths(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x.yaml"
    path.parent.mkdir()
    path.write_text(
        "clients: [a, b]\ndata: {source: folder, options: {path: ../recordings}}\n",
        encoding="utf-8",
    )
    found = load_settings(path, CHANGES)
    assert found.training.exchanges == 7
    assert (found.graph.topology, found.graph.dim) == ("path", 3)
    assert found.evaluation.metrics == ("probe",)
    assert found.data.path == str(tmp_path / "recordings")
    for override in ("training", "=3", "data.source.x=3"):
        with pytest.raises(ConfigError, match="--set"):
            load_settings(path, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\nclients: [a, b]", "given twice"),
        ("[1, 2]", "mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_settings(path)


def test_a_damaged_encoding_is_refused() -> None:
    with pytest.raises(ConfigError, match="damaged"):
        decode(encode(parse_settings(GOOD))[:-9])
