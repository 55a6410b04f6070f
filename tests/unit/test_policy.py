"""Policies, and the registry that asks them: what is found or refused, and nothing imported."""

import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.config.admission import admit, named_code
from sheafalign_fl.config.policy import LOCAL, STRICT, Limits, Policy, policy_in_force, under
from sheafalign_fl.config.registry import Registry, name_of, own_code
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.inflation import inflate

SHAPES: Registry[str] = Registry(
    "shape", {"square": "four", "circle": "none"}, lambda path, found: str(found()), also=("auto",)
)


# ---- policies --------------------------------------------------------------------------------


def test_a_policy_file_says_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text('allow: ["mine.code:build"]\nlimits: {exchanges: 10}\n', encoding="utf-8")
    found = Policy.load(path, ("other:thing",))
    assert found.allow == ("mine.code:build", "other:thing")
    assert (found.limits.exchanges, found.limits.dim) == (10, Limits().dim)
    assert Policy.from_text(found.to_text()) == found
    path.write_text("", encoding="utf-8")
    assert Policy.load(path) == STRICT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("alow: []", "'alow'"),
        ("allow: [os.system]", "'allow.0'"),
        ("allow: 3", "'allow'"),
        ("limits: {exchanges: 0}", "'limits.exchanges'"),
        ("limits: {exchanges: many}", "'limits.exchanges'"),
        ("own_machine: true", "'own_machine' cannot be set"),
        ("- allow", "must hold a mapping"),
        ("allow: [", "cannot be read"),
    ],
)
def test_a_policy_file_that_is_wrong_is_refused_in_one_line(
    text: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Policy.load(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_machine_s_own_trust_does_not_travel() -> None:
    assert not Policy.from_text(LOCAL.to_text()).own_machine


def test_a_policy_is_in_force_inside_its_block_alone() -> None:
    assert policy_in_force() is LOCAL
    with under(STRICT):
        assert policy_in_force() is STRICT
    assert policy_in_force() is LOCAL


def test_every_setting_that_is_marked_as_code_is_found() -> None:
    content: dict[str, Any] = {
        "data": {"source": "a:a"},
        "clients": {"x": {"encoder": "b:b"}, "y": {}},
        "graph": {"topology": "c:c"},
        "maps": {"family": "d:d"},
        "objective": {"terms": {"e:e": 1.0}},
        "training": {"optimiser": "f:f"},
        "codec": "g:g",
    }
    settings = parse_settings(content)
    found = {name for _, name, _ in named_code(settings) if ":" in name}
    assert found == {f"{letter}:{letter}" for letter in "abcdefg"}
    admit(settings, LOCAL)
    allowed = sorted(found)
    for left_out in allowed:
        policy = Policy(allow=tuple(path for path in allowed if path != left_out))
        with pytest.raises(ConfigError, match=f"'{left_out}' is not among the code"):
            admit(settings, policy)
    admit(settings, Policy(allow=tuple(allowed)))


def test_the_relay_leaves_to_the_nodes_what_only_they_run() -> None:
    settings = parse_settings({"clients": {"x": {"encoder": "b:b"}, "y": {}}, "codec": "g:g"})
    admit(settings, Policy(allow=("g:g",)), relay=True)
    with pytest.raises(ConfigError, match="codec"):
        admit(settings, Policy(allow=("b:b",)), relay=True)


def test_no_text_setting_that_the_registries_read_is_unmarked() -> None:
    """A new setting that takes any text has to be looked at: is it code, a path, or words?"""
    words = {"name", "label", "centre", "modality", "between", "method", "best", "init_from"}
    paths = {"features", "path"}  # what a node takes from its own --data, or refuses
    marked = {place.split(".")[-1] for place, _, _ in named_code(parse_settings(_TWO))}

    def texts(model: type[BaseModel]) -> set[str]:
        found: set[str] = set()
        for name, info in model.model_fields.items():
            kinds = str(info.annotation)
            if "str" in kinds and "Literal" not in kinds and "dict" not in kinds:
                found.add(name)
        return found

    models = [Settings, *(type(getattr(parse_settings(_TWO), f)) for f in Settings.model_fields)]
    models += [type(client) for client in parse_settings(_TWO).clients.values()]
    unknown = {
        name
        for model in models
        if isinstance(model, type) and issubclass(model, BaseModel)
        for name in texts(model)
    }
    assert unknown - words - paths - marked == set()


_TWO = {"clients": ["x", "y"]}


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "..", "", "a\\b", "a\nb"])
def test_a_run_to_start_from_is_named_without_a_path(name: str) -> None:
    settings = parse_settings({**_TWO, "init_from": name})
    admit(settings, LOCAL)
    for relay in (True, False):
        with pytest.raises(ConfigError, match=r"init_from: .* is no plain name"):
            admit(settings, STRICT, relay=relay)
    admit(parse_settings({**_TWO, "init_from": "street-2"}), STRICT)


def test_freezing_and_patience_are_data_and_epochs_need_the_data_at_hand() -> None:
    content: dict[str, Any] = {"clients": {"x": {"freeze": True}, "y": {}}}
    admit(parse_settings({**content, "training": {"patience": 3}}), STRICT)
    with pytest.raises(ConfigError, match=r"state training\.exchanges"):
        admit(parse_settings({**content, "training": {"epochs": 3.0}}), STRICT)


# ---- the registry ----------------------------------------------------------------------------


def test_names_paths_and_objects_are_found() -> None:
    def triangle() -> str:
        return "three"

    assert SHAPES.resolve("square") == "four"
    assert SHAPES.resolve(name_of(triangle)) == "three"
    assert SHAPES.resolve("builtins:str") == ""
    assert SHAPES.find("builtins:str") == ""  # it was resolved
    assert list(SHAPES) == ["square", "circle"]


def test_a_function_defined_again_is_another_one() -> None:
    def again(answer: str) -> Callable[[], str]:
        def shape() -> str:
            return answer

        return shape

    names = [name_of(again(answer)) for answer in ("one", "two")]
    assert [SHAPES.resolve(name) for name in names] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sqare", "here: unknown shape 'sqare'; did you mean 'square'?"),
        ("aut", "did you mean 'auto'?"),
        ("zzz", "known: square, circle, auto, or package.module:attribute"),
        ("no_such_module:x", "here: 'no_such_module' cannot be imported"),
        ("os:no_such_name", "here: 'os' has no callable 'no_such_name'"),
        (":x", "is no dotted path"),
        ("os:", "is no dotted path"),
    ],
)
def test_what_cannot_be_found_is_said_in_one_line(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SHAPES.resolve(name, "here")
    assert reason in str(caught.value)


def test_a_name_that_a_peer_sent_imports_nothing() -> None:
    sys.modules.pop("this", None)
    with pytest.raises(ConfigError, match="unknown shape"):
        SHAPES.find("this:c")
    with under(STRICT), pytest.raises(ConfigError, match="not among the code"):
        own_code("this:c", "here")
    assert "this" not in sys.modules


@given(st.text().filter(lambda text: text not in ("square", "circle")))
def test_under_a_strict_policy_any_other_name_is_refused(name: str) -> None:
    with under(STRICT), pytest.raises(ConfigError):
        SHAPES.resolve(name)


# ---- compressed data -------------------------------------------------------------------------


@given(st.binary(max_size=200), st.integers(1, 300))
def test_compressed_data_is_read_up_to_a_limit(data: bytes, most: int) -> None:
    packed = zlib.compress(data)
    if len(data) < most:
        assert inflate(packed, most) == data
    elif len(data) > most:
        with pytest.raises(ValueError, match="larger than"):
            inflate(packed, most)
    with pytest.raises(ValueError, match=r"compressed data|Error"):
        inflate(packed[:-1], 1000)
