"""Configuration files, overrides, encoded strings: what is read; one clear line where not."""

import base64
import json
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import Settings, decode, encode, load_settings, parse_settings, to_yaml
from sheafalign_fl.errors import ConfigError

BASE = "clients: [a, b]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, *overrides: str) -> Settings:
    return load_settings(write(folder, text), overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    """Return the line with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    message = str(caught.value)
    assert message == message.strip() != ""
    assert len(message.splitlines()) == 1
    assert caught.value.exit_code == 2
    return message


# ---- files ---------------------------------------------------------------------------------------


def test_a_file_is_read_with_every_default(tmp_path: Path) -> None:
    found = load(
        tmp_path, "clients: {camera: , lidar: {dim: 32}}\nseed: 7\ntraining: {learning_rate: 1}\n"
    )
    assert found.seed == 7
    assert list(found.clients) == ["camera", "lidar"]
    assert (found.clients["camera"].dim, found.clients["lidar"].dim) == (128, 32)
    assert found.training.learning_rate == 1.0
    best = found.objective
    assert (best.laplacian, best.contrastive, best.reconstruction, best.temperature) == (
        0.0,
        1.0,
        0.1,
        0.2,
    )
    assert (found.graph.topology, found.graph.dim, found.training.batch_size) == (
        "complete",
        64,
        128,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; it must hold a mapping of settings"),
        ("3", "not int"),
        ("- a", "not list"),
        ("a: b: c", "is not valid YAML"),
        ("a: !!python/name:os.system", "is not valid YAML"),
        ("\x07", "is not valid YAML"),
        ("clients: [a, b]\nclients: [c, d]", "the key 'clients' is given twice (line 2)"),
        ("clients: {a: {dim: 3, dim: 4}, b: }", "the key 'dim' is given twice (line 1)"),
        ("clients:\n  a: {}\n  b: {}\n  a: {}", "the key 'a' is given twice (line 4)"),
        ("? [a, b]\n: 3", "is not valid YAML"),
        ("1: 2\nclients: [a, b]", "keys should be strings"),
        ("seed: 1", "'clients' is missing"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    text: str, message: str, tmp_path: Path
) -> None:
    line = refusal(tmp_path, text)
    assert message in line
    assert str(tmp_path / "settings.yaml") in line


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no configuration at {tmp_path / 'absent.yaml'}"):
        load_settings(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="is no UTF-8 text"):
        load_settings(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    "text", ["name: 2024-02-30", "seed: 0x_", "data: {options: {start: 2023-13-01}}"]
)
def test_a_value_that_yaml_itself_cannot_construct_is_refused(text: str, tmp_path: Path) -> None:
    assert "settings.yaml" in refusal(tmp_path, BASE + text)


def test_a_value_in_an_override_that_yaml_itself_cannot_construct_is_refused(
    tmp_path: Path,
) -> None:
    assert "--set name=2024-02-30" in refusal(tmp_path, BASE, "name=2024-02-30")


def test_yaml_merge_keys_work(tmp_path: Path) -> None:
    found = load(
        tmp_path, "clients:\n  a: &small {dim: 3}\n  b:\n    <<: *small\n    missing: 0.1\n"
    )
    assert found.clients["b"].dim == 3
    assert found.clients["b"].missing == 0.1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('clients: {"\\ud800": {}, b: }', "clients"),
        ('clients: ["a\\ud800", b]', "clients.0"),
        (BASE + 'evaluation: {label: "\\udfff"}', "evaluation.label"),
        (BASE + 'data: {options: {list: [1, {x: "\\udc80"}]}}', "data.options.list.1.x"),
        (BASE + '"\\ud800\\ud800": 3', ""),
    ],
)
def test_half_a_surrogate_pair_is_refused_where_it_stands(
    text: str, name: str, tmp_path: Path
) -> None:
    line = refusal(tmp_path, text)
    assert "is no Unicode text" in line
    assert f"'{name}': " in line or not name
    assert line.isascii()


def test_a_value_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert "data.options" in refusal(tmp_path, BASE + "data: {options: &all {all: *all}}")


# ---- overrides -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("seed=5", "seed", 5),
        ("training.exchanges=50", "training.exchanges", 50),
        ("training.deadline=null", "training.deadline", None),
        ("evaluation.label=speed", "evaluation.label", "speed"),
        ("objective={temperature: 0.5}", "objective.temperature", 0.5),
        ("graph.centre=a=b", "graph.centre", "a=b"),
        ("evaluation.metrics=[retrieval, probe]", "evaluation.metrics", ("retrieval", "probe")),
        ("maps.family='identity'", "maps.family", "identity"),
    ],
)
def test_an_override_sets_what_it_names(
    override: str, name: str, value: object, tmp_path: Path
) -> None:
    text = "clients: [a, b]\nseed: 1\ntraining: {exchanges: 3, deadline: 9.0}\n"
    found: Any = load(tmp_path, text, override)
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


def test_an_override_fills_a_section_that_is_empty(tmp_path: Path) -> None:
    found = load(tmp_path, "clients: {a: , b: }\ngraph:\n", "graph.dim=5", "clients.a.dim=3")
    assert (found.graph.dim, found.clients["a"].dim, found.clients["b"].dim) == (5, 3, 128)


def test_an_override_reaches_into_lists(tmp_path: Path) -> None:
    """`data check` prints clients as a list, and edges are one."""
    edges = "graph: {topology: edges, edges: [{between: [a, b]}, {between: [b, c]}]}\n"
    text = "clients: [a, b, c]\n" + edges
    found = load(tmp_path, text, "clients.a.dim=32", "clients.c.missing=.5", "graph.edges.1.dim=3")
    assert [client.dim for client in found.clients.values()] == [32, 128, 128]
    assert found.clients["c"].missing == 0.5
    assert [edge.dim for edge in found.graph.edges] == [None, 3]


def test_overrides_apply_in_order_and_keep_the_rest(tmp_path: Path) -> None:
    text = "clients: {a: {dim: 4, missing: 0.5}, b: }\n"
    found = load(
        tmp_path, text, "clients.a.dim=5", "clients.b.dim=6", "clients.a.dim=7", "clients.c={}"
    )
    assert {name: client.dim for name, client in found.clients.items()} == {
        "a": 7,
        "b": 6,
        "c": 128,
    }
    assert found.clients["a"].missing == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.exchange=5", "unknown key 'training.exchange'; did you mean 'exchanges'?"),
        ("seed", "write it as section.key=value"),
        ("=5", "write it as section.key=value"),
        ("seed.deep=5", "'seed' is a value, not a section"),
        ("seed=[", "is not a YAML value"),
        ("seed=", "'seed'"),
        ("graph..dim=5", "unknown key"),
        ("clients.a=5", "'clients.a': must be a mapping of settings"),
        ("seed.0=5", "'seed' is a value, not a section"),
        ("evaluation.metrics.9=probe", "'9' is no item of a list of 1, counted from 0"),
        ("evaluation.metrics.first=probe", "'first' is no item of a list of 1"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(
    override: str, message: str, tmp_path: Path
) -> None:
    text = BASE + "seed: 1\nevaluation: {metrics: [retrieval]}"
    assert message in refusal(tmp_path, text, override)


def test_a_key_given_twice_inside_an_override_is_named(tmp_path: Path) -> None:
    line = refusal(tmp_path, BASE, "graph={dim: 3, dim: 4}")
    assert line == "--set graph={dim: 3, dim: 4}: the key 'dim' is given twice"


# ---- data paths ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_path", "expected"),
    [
        ("recordings", "sub/recordings"),
        ("../x", "x"),
        ("./a/../b", "sub/b"),
        ("/data/y", "/data/y"),
    ],
)
def test_a_data_path_is_relative_to_the_file_and_made_absolute(
    given_path: str, expected: str, tmp_path: Path
) -> None:
    folder = tmp_path.resolve() / "sub"
    folder.mkdir()
    whole = str(tmp_path.resolve() / expected)
    for found in (
        load(folder, BASE + f"data: {{source: folder, path: {given_path}}}"),
        load(folder, BASE, f"data.path={given_path}"),
        load(folder, BASE + f"data: {{source: folder, options: {{path: {given_path}}}}}"),
        load(folder, BASE, f"data.options.path={given_path}"),
    ):
        assert (found.data.path, found.data.options) == (whole, {})
        assert found.data.source_options == {"path": whole}
        source = found.data.source
        assert found.digest() == load(folder, BASE + f"data: {{source: {source}}}").digest()


def test_a_path_that_is_given_twice_must_be_the_same(tmp_path: Path) -> None:
    both = load(tmp_path, BASE + "data: {path: x, options: {path: x, test: 0.5}}")
    assert both.data.source_options == {"path": str(tmp_path.resolve() / "x"), "test": 0.5}
    assert "differ" in refusal(tmp_path, BASE + "data: {path: x, options: {path: y}}")


def test_the_home_folder_is_expanded_and_other_options_are_left_alone(tmp_path: Path) -> None:
    found = load(
        tmp_path, BASE + "data: {options: {path: ~/recordings, other: rel/ative, number: 3}}"
    )
    assert found.data.path == str(Path.home() / "recordings")
    assert found.data.options == {"other": "rel/ative", "number": 3}


def test_the_home_folder_of_nobody_is_refused(tmp_path: Path) -> None:
    assert "~no-such-user" in refusal(
        tmp_path, BASE + "data: {options: {path: ~no-such-user/recordings}}"
    )


# ---- encoded strings -----------------------------------------------------------------------------


def encoded(content: object) -> str:
    """Encode any JSON value as `encode` does."""
    return (
        "sheafalign:"
        + base64.urlsafe_b64encode(zlib.compress(json.dumps(content).encode())).decode()
    )


def test_a_string_that_is_not_encoded_is_a_path_in_the_base_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, BASE + "seed: 9")
    (inner := tmp_path / "app").mkdir()
    write(inner, BASE + "seed: 8")
    assert decode("settings.yaml", inner).seed == 8
    assert decode(str(inner / "settings.yaml"), inner).seed == 8
    with pytest.raises(ConfigError, match="no configuration at"):
        decode("absent.yaml", inner)
    for outside in ("../settings.yaml", str(tmp_path / "settings.yaml"), "/etc/hostname"):
        with pytest.raises(ConfigError, match="does not lie in the app's folder"):
            decode(outside, inner)
    monkeypatch.chdir(inner)
    for text in ("settings.yaml", str(inner / "settings.yaml"), ""):
        with pytest.raises(ConfigError, match="must be encoded"):
            decode(text)


def test_an_encoded_configuration_is_not_believed_about_its_size() -> None:
    bomb = zlib.compress(b" " * 2**26, 9)
    for text in (bomb, zlib.compress(b"[" * 100_000), bomb[:-1], b"no zlib"):
        with pytest.raises(ConfigError, match="damaged"):
            decode("sheafalign:" + base64.urlsafe_b64encode(text).decode())


def test_an_encoded_configuration_fits_a_flat_run_configuration() -> None:
    text = encode(parse_settings({"clients": {f"client-{index}": {} for index in range(100)}}))
    assert text.isascii()
    assert not set(text) & set("\"'\\ \n\t{}[]")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_no_damaged_encoding_is_read(data: st.DataObject) -> None:
    whole = parse_settings({"clients": ["a", "b"], "seed": 12})
    text = encode(whole)
    position = data.draw(st.integers(len("sheafalign:"), len(text) - 1))
    replacement = data.draw(st.sampled_from("AZaz09-_*é"))
    for damaged in (text[:position], text[:position] + replacement + text[position + 1 :]):
        with suppress(ConfigError):
            assert decode(damaged) == whole  # Base64 has spare bits and padding


@pytest.mark.parametrize("content", [None, 3, "text", [1], [["a", 1, 2]], True])
def test_an_encoding_that_holds_no_mapping_is_refused(content: object) -> None:
    with pytest.raises(ConfigError):
        decode(encoded(content))


@pytest.mark.parametrize(
    "options",
    [
        "{plan: {1: a}}",
        "{day: 2020-01-31}",
        "{blob: !!binary gIGC}",
        "{kinds: !!set {x, y}}",
        "{limit: .nan}",
    ],
)
def test_options_that_no_json_can_hold_are_refused(options: str, tmp_path: Path) -> None:
    """What `sheafalign check` sees in YAML is what a client has to see after the encoded string."""
    assert "options must be plain text" in refusal(tmp_path, BASE + f"data: {{options: {options}}}")


@pytest.mark.parametrize(
    "text", ["a\x85b", "é\x85", "\u2028", "ü", "line\nbreak", "1e3", "no", "2020-01-31"]
)
def test_options_survive_the_yaml_of_a_run_folder(text: str, tmp_path: Path) -> None:
    found = parse_settings(
        {"clients": ["a", "b"], "data": {"options": {"key": text, text: [text]}}}
    )
    assert load(tmp_path, to_yaml(found)) == found
    assert ("ü" in to_yaml(found)) == (text == "ü")  # readable where it can be
