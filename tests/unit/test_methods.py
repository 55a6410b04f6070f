"""A method is what settings default to, and nothing more."""

from typing import Any

import pytest

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.config.load import to_yaml
from sheafalign_fl.config.methods import METHODS, apply_method, merge
from sheafalign_fl.errors import ConfigError

EXPECTED: dict[str, dict[str, Any]] = {
    "sheafalign": {},
    "paper": {"maps.initial": "normal", "objective.reconstruction": 0.1, "training.learning_rate": 1e-4},
    "imagebind": {"graph.topology": "star", "maps.family": "identity", "objective.laplacian": 0.0},
    "clip-pairs": {"graph.topology": "complete", "maps.family": "identity", "objective.reconstruction": 0.0},
    "centrobind": {"objective.contrast": "centroid", "maps.family": "identity", "objective.laplacian": 0.0},
    "gram": {"objective.contrast": "volume", "graph.topology": "complete", "objective.cross_reconstruction": 0.0},
    "random": {"training.exchanges": 0},
}


def parsed(**content: Any) -> Settings:
    return parse_settings({"clients": ["a", "b", "c"], **content})


def setting(settings: Settings, path: str) -> object:
    value: object = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("method", METHODS)
def test_a_method_sets_what_it_is_known_for(method: str) -> None:
    settings = parsed(method=method)
    assert {path: setting(settings, path) for path in EXPECTED[method]} == EXPECTED[method]


@pytest.mark.parametrize("method", METHODS)
def test_what_the_user_says_wins_and_the_rest_of_its_section_stays(method: str) -> None:
    settings = parsed(method=method, objective={"temperature": 0.3, "contrastive": 0.5}, training={"exchanges": 7})
    assert (settings.objective.temperature, settings.objective.contrastive) == (0.3, 0.5)
    assert settings.training.exchanges == 7
    for path, value in EXPECTED[method].items():
        if path != "training.exchanges":
            assert setting(settings, path) == value


@pytest.mark.parametrize("method", METHODS)
def test_a_written_configuration_is_read_back_as_it_was(method: str) -> None:
    import yaml

    settings = parsed(method=method)
    again = parse_settings(yaml.safe_load(to_yaml(settings)))
    assert again == settings
    assert again.digest() == settings.digest()


def test_a_method_s_name_is_no_part_of_the_agreement() -> None:
    by_name = parsed(method="clip-pairs", clients={"a": {"dim": 8}, "b": {"dim": 8}})
    by_hand = parse_settings(by_name.model_dump(mode="json") | {"method": "sheafalign"})
    assert by_name.digest() == by_hand.digest()


def test_identity_maps_take_the_dimension_that_all_stalks_have() -> None:
    assert parsed(method="gram").graph.dim == 128
    assert parsed(method="gram", clients={"a": {"dim": 8}, "b": {"dim": 8}}).graph.dim == 8
    assert parsed(method="gram", clients={"a": {"dim": 8}, "b": {"dim": 8}}, graph={"dim": 9}).graph.dim == 9
    assert parsed(method="gram", clients={"a": {"dim": 8}, "b": None}).graph.dim == 64  # the maps will refuse that
    assert parsed(clients={"a": {"dim": 8}, "b": {"dim": 8}}).graph.dim == 64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"objective": {"contrast": "centroid"}}, "needs graph.topology: complete and maps.family: identity"),
        ({"method": "gram", "graph": {"topology": "star"}}, "needs graph.topology: complete"),
        ({"method": "gram", "objective": {"learnable_temperature": True}}, "learnable_temperature is an edge's"),
        ({"method": "clip"}, "method"),
        ({"method": ["gram"]}, "method"),
        ({"training": {"exchanges": -1}}, "training.exchanges"),
        ({"training": {"batches": 0}}, "training.batches"),
        ({"training": {"local_steps": 0}}, "training.local_steps"),
        ({"evaluation": {"split": "train"}}, "evaluation.split"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parsed(**content)


def test_merging_changes_neither_side() -> None:
    under, over = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}, "e": None}
    assert merge(under, over) == {"a": {"b": 9, "c": 2}, "d": 3, "e": None}
    assert (under, over) == ({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}, "e": None})
    before = repr(METHODS)
    apply_method({"method": "gram", "clients": {"a": {"dim": 4}, "b": {"dim": 4}}, "objective": {"contrastive": 3.0}})
    assert repr(METHODS) == before
