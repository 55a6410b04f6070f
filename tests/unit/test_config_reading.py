"""Numbers as people write them, in files, overrides, JSON and code; messages that say the mend."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.codecs.registry import codec
from sheafalign_fl.config import load_settings, parse_settings
from sheafalign_fl.config.mending import closest
from sheafalign_fl.config.reading import plain, read_yaml, write_yaml
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.errors import ConfigError

NUMBERS = {
    "1e-3": 0.001, "1E5": 100000, "1e5": 100000, "+1e5": 100000, "-2e-4": -0.0002, "1.5e3": 1500.0,
    "1.e2": 100.0, ".5": 0.5, "+.5": 0.5, "-.5e-1": -0.05, "5.": 5.0, "1_000": 1000,
    "1_000.5": 1000.5, "1_0e1_0": "1_0e1_0", "010": 10, "0x1F": 31, "0o17": 15, "0b101": 5,
    "-0x10": -16, "1:30": "1:30", "1e": "1e", "e5": "e5", "_1": "_1", "1__0": "1__0", ".": ".",
    "0x_": "0x_", "1e400": float("inf"), "-.inf": float("-inf"), "10k": "10k", "1,5": "1,5",
    "1e999999999": float("inf"), "9007199254740993": 9007199254740993,
}  # fmt: skip
"""What is written -> what is meant, by YAML 1.2's core schema and the digit groups of Python."""


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_what_it_is_written_as(text: str) -> None:
    try:
        found = read_yaml(text)
    except ValueError:
        assert text == "0x_"
        return
    assert found == NUMBERS[text]
    assert isinstance(found, str) == isinstance(NUMBERS[text], str)


def test_not_a_number_is_read_and_written() -> None:
    assert read_yaml(".nan") != read_yaml(".nan")
    assert read_yaml(write_yaml(float("inf"))) == float("inf")


@given(st.floats(allow_nan=False) | st.integers())
@settings(deadline=None)
def test_numbers_of_json_and_of_python_are_numbers_of_a_configuration(number: float) -> None:
    for text in (json.dumps(number), repr(number)):
        if "inf" not in text.lower():
            assert read_yaml(text) == number
    assert read_yaml(f"{number:e}" if abs(number) < 1e300 else "0.0") == (
        float(f"{number:e}") if abs(number) < 1e300 else 0.0
    )
    assert read_yaml(write_yaml(number)) == number


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(alphabet="0123456789eE+-._xob:") | st.sampled_from(sorted(NUMBERS)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("1e_."), inner, max_size=3),
    max_leaves=6,
))  # fmt: skip
@settings(deadline=None)
def test_what_is_written_is_read_as_the_same(content: Any) -> None:
    """Texts that look like numbers too: they are quoted."""
    assert repr(read_yaml(write_yaml(content))) == repr(content)


@pytest.mark.parametrize(("text", "rate"), [("1e-3", 1e-3), ("1E-4", 1e-4), (".5", 0.5)])
def test_a_rate_is_read_in_files_overrides_and_json(text: str, rate: float, tmp_path: Path) -> None:
    yaml, other = tmp_path / "a.yaml", tmp_path / "a.json"
    yaml.write_text(f"clients: [a, b]\ntraining: {{learning_rate: {text}, exchanges: 1E5}}\n")
    other.write_text(f'{{"clients": ["a", "b"], "training": {{"learning_rate": {text}}}}}')
    assert load_settings(yaml).training.learning_rate == rate
    assert load_settings(yaml).training.exchanges == 100000
    found = load_settings(other, ["training.exchanges=1_000", "data.options.events=2e3"])
    assert (found.training.exchanges, found.data.options) == (1000, {"events": 2000})
    assert load_settings(other, [f"objective.temperature={text}"]).objective.temperature == rate


def test_code_may_give_numpy_numbers_and_paths(tmp_path: Path) -> None:
    found = parse_settings(
        {
            "clients": {"a": {"dim": np.int64(8)}, "b": {"missing": np.float32(0.25)}},
            "training": {"exchanges": 1e3, "learning_rate": np.float64(1e-3)},
            "objective": {"stop_gradient": np.bool_(True)},
            "graph": {"topology": "edges", "edges": ({"between": ("a", "b"), "dim": np.uint8(4)},)},
            "data": {"options": {"path": tmp_path, "sizes": np.array([1, 2]), "shape": (3, 4)}},
        }
    )
    assert (found.clients["a"].dim, found.clients["b"].missing) == (8, 0.25)
    assert (found.training.exchanges, found.training.learning_rate) == (1000, 1e-3)
    assert found.objective.stop_gradient is True
    assert found.graph.edges[0].dim == 4
    assert found.data.path == str(tmp_path)
    assert found.data.options == {"sizes": [1, 2], "shape": [3, 4]}
    assert type(found.training.exchanges) is int
    assert type(found.clients["a"].dim) is int


def test_what_holds_itself_is_named_and_what_is_held_twice_is_not() -> None:
    twice = [1]
    assert plain({"a": twice, "b": twice}) == {"a": [1], "b": [1]}
    round_about: dict[str, Any] = {"inner": [0]}
    round_about["inner"].append(round_about)
    with pytest.raises(ConfigError, match=r"'all\.inner\.1' holds itself"):
        plain({"all": round_about})


@pytest.mark.parametrize(
    ("override", "mend"),
    [
        ("evaluation.metrics=retrieval", "must be a list, not 'retrieval'; write [retrieval]"),
        ("clients=[1, 2]", "put it in quotes: '1'"),
        ("clients=camera", "must name two clients at least; write [camera, lidar]"),
        ("clients=3", "must name two clients at least"),
        ("training=5", "'training': must be a mapping of settings, such as {key: value}, not 5"),
        ("training.exchanges=many", "must be a whole number, not 'many'"),
        ("training.exchanges='1e3'", "not '1e3'; write it without quotes: 1e3"),
        ("training.exchanges=1.5", "must be a whole number, not 1.5"),
        ("training.learning_rate=fast", "must be a number, not 'fast'"),
        ("training.learning_rate=true", "must be a number, not true"),
        ("training.stale=1", "must be true or false, not 1"),
        ("codec=8", "must be text, not 8; put it in quotes: '8'"),
        ("training.optimiser=Adam", "did you mean 'adam'?"),
        ("graph.topology=full", "did you mean 'complete'?"),
        ("training.dtype=fp32", "did you mean 'float32'?"),
        ("training.lr=.1", "unknown key 'training.lr'; did you mean 'learning_rate'?"),
        ("training.optimizer=sgd", "did you mean 'optimiser'?"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_told_its_mend(
    override: str, mend: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("clients: [a, b]\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(path, [override])
    line = str(caught.value)
    assert mend in line
    assert "instance" not in line
    assert "tuple" not in line
    assert "dictionary" not in line


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fp16", "float16"), ("FP16", "float16"), ("half", "float16"), ("bf16", "bfloat16"),
        ("flaot32", "float32"), ("8-bit", "int8"), ("top16", "top-16"), ("topk", "top-16"),
        ("Float32", "float32"), ("signSGD", "sign"),
    ],
)  # fmt: skip
def test_a_codec_by_another_name_is_recognised(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        codec(name)


def test_what_is_nothing_like_any_is_told_all() -> None:
    assert closest("zzz", ["float16"]) is None
    with pytest.raises(ConfigError, match="known: float64, float32"):
        codec("zzz")


def test_other_words_are_not_taken_for_names_that_are_not_there() -> None:
    assert closest("fp16", ["int8"]) is None
    assert closest("gpu", list(Settings.model_fields)) is None
