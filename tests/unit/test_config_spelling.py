"""Configurations as editors, web pages, word processors and other tools leave them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheafalign_fl.config import load_settings, parse_settings
from sheafalign_fl.config.reading import read_yaml, write_yaml
from sheafalign_fl.errors import ConfigError

GOOD = "clients: [thermal, sonar]\ntraining: {exchanges: 7}\n"
ODD_SPACES = "\u00a0\u2000\u2007\u2009\u200b\u202f\u205f\u3000"
"""Unicode's spaces, and the one without a width, that YAML takes for letters."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_editor_s_line_ends_and_byte_order_mark_are_read(
    path: Path, encoding: str, end: str
) -> None:
    path.write_bytes(GOOD.replace("\n", end).encode(encoding))
    assert load_settings(path).training.exchanges == 7


def test_another_encoding_is_named(path: Path) -> None:
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"is no UTF-8 text, but UTF-16.*save it as UTF-8"):
        load_settings(path)
    path.write_bytes(f"name: caf\u00e9\n{GOOD}".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"is no UTF-8 text; save it as UTF-8"):
        load_settings(path)


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_an_empty_file_is_called_empty(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine.yaml is empty; it must hold a mapping"):
        load_settings(path)


@pytest.mark.parametrize("space", ODD_SPACES)
@pytest.mark.parametrize("line", ["training:{}{{exchanges: 7}}", "name:{}mine", "seed: 8{}"])
def test_what_only_looks_like_a_space_is_named_with_its_line(
    path: Path, space: str, line: str
) -> None:
    path.write_text(f"clients: [thermal, sonar]\n{line.format(space)}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"line 2 holds .*U\+{ord(space):04X}.*type a space"):
        load_settings(path)


@given(st.text(alphabet=f"ab {ODD_SPACES}\n"))
@settings(deadline=None)
def test_odd_spaces_that_are_meant_survive_in_quotes(text: str) -> None:
    assert read_yaml(write_yaml({text: text})) == {text: text}


@pytest.mark.parametrize("name", ["no", "on", "off", "yes", "NO", "On", "true"])
def test_a_gas_may_be_called_no(path: Path, name: str) -> None:
    """YAML 1.1 takes such keys for true and false, which no key of ours is."""
    path.write_text(f"clients:\n  {name}: {{dim: 8}}\n  co2: {{dim: 8}}\n", encoding="utf-8")
    assert list(load_settings(path).clients) == [name, "co2"]


def test_switches_are_still_said_with_yes_and_no() -> None:
    assert read_yaml("[yes, no, on, off]") == [True, False, True, False]


def test_a_name_whose_spelling_is_lost_is_not_proposed() -> None:
    """'False' is not the name that was written as no, nor '1.1' the one written as 1.10."""
    with pytest.raises(ConfigError, match="put it in quotes: YAML takes yes, no") as refused:
        parse_settings({"name": False, "clients": ["a", "b"]})
    assert "'False'" not in str(refused.value)
    with pytest.raises(ConfigError, match="put it in quotes, as you wrote it") as refused:
        parse_settings({"name": 1.1, "clients": ["a", "b"]})
    assert "'1.1'" not in str(refused.value)
    with pytest.raises(ConfigError, match="put it in quotes: YAML takes yes, no"):
        parse_settings({"clients": ["co2", False]})
