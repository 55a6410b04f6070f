"""What people write, as plain values: YAML with the numbers of YAML 1.2, and the values of code.

PyYAML reads YAML 1.1, to which ``1e-3`` is a text (a float there needs a point and a sign), ``010``
is 8 and ``1:30`` is 90. This is the only place in the library where YAML is read or written.
"""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import yaml

from sheafalign_fl.errors import ConfigError

_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_BOOL, _TEXT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:str"
_ODD_SPACE = "!odd-space"
_ODD_SPACE_FORM = re.compile(r"(?s).*[\u00a0\u2000-\u200b\u202f\u205f\u3000]")
"""Looks like a space, but is text to YAML: it comes along from web pages and word processors."""
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_INT_FORM = re.compile(rf"[-+]?(?:{_DIGITS}|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)$")
_FLOAT_FORM = re.compile(
    rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
_STARTS = "-+0123456789."
_BASES = {"0o": 8, "0x": 16, "0b": 2}
_EXACT = 2**53
"""Up to here every whole number is a float of its own."""


def _odd_space(text: str, line: int = 1) -> str | None:
    """Return where in `text`, which begins in `line`, the first false space is, and what to do."""
    for place, row in enumerate(text.split("\n")):
        for character in row:
            if _ODD_SPACE_FORM.match(character):
                name = f"{unicodedata.name(character).lower()} (U+{ord(character):04X})"
                return (
                    f"line {line + place} holds a {name}, which only looks like a space: "
                    "type a space, or put the text in quotes"
                )
    return None


class DoubleKeyError(yaml.constructor.ConstructorError):
    """A key is given twice in one mapping."""

    def __init__(self, key: object, line: int) -> None:
        """Name the key, and the line that it is given in again."""
        super().__init__(problem=f"the key '{key}' is given twice (line {line})")
        self.key = key


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with the numbers of YAML 1.2; a key that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.tag == _BOOL:  # `no`, the gas, and `on` are names, as in YAML 1.2
                key_node.tag = _TEXT
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise DoubleKeyError(key, key_node.start_mark.line + 1)
            if isinstance(key, str | int | float | bool):
                seen.add(key)
        return super().construct_mapping(node, deep)

    def refuse_odd_space(self, node: yaml.ScalarNode) -> None:
        """Refuse an unquoted text with a space that is none."""
        problem = _odd_space(node.value, node.start_mark.line + 1)
        raise yaml.constructor.ConstructorError(problem=problem)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Return a whole number; a leading 0 says nothing."""
        text = str(self.construct_scalar(node)).replace("_", "").lower()
        sign, digits = (-1 if text[0] == "-" else 1), text.lstrip("+-")
        base = _BASES.get(digits[:2], 10)
        return sign * int(digits[2:] if base != 10 else digits, base)

    def construct_float(self, node: yaml.ScalarNode) -> float:
        """Return a number; one without a point that is whole, such as 1e5, as a whole one."""
        text = str(self.construct_scalar(node)).replace("_", "").lower()
        if text.endswith(("inf", "nan")):
            return float(text.replace(".", ""))
        value = float(text)
        whole = "." not in text and value.is_integer() and abs(value) <= _EXACT
        return int(value) if whole else value


class _Dumper(yaml.SafeDumper):
    """Writes texts that `_Loader` would take for numbers in quotes."""


def _with_ours(resolvers: Mapping[str | None, list[Any]]) -> dict[str | None, list[Any]]:
    """Return PyYAML's rules for what an unquoted text is, with ours for numbers and odd spaces."""
    kept = {
        start: [(tag, form) for tag, form in rules if tag not in (_INT, _FLOAT)]
        for start, rules in resolvers.items()
    }
    for start in _STARTS:
        kept[start] = [(_INT, _INT_FORM), (_FLOAT, _FLOAT_FORM), *kept.get(start, [])]
    kept[None] = [*kept.get(None, []), (_ODD_SPACE, _ODD_SPACE_FORM)]
    return kept


_Loader.yaml_implicit_resolvers = _with_ours(yaml.SafeLoader.yaml_implicit_resolvers)
_Dumper.yaml_implicit_resolvers = _with_ours(yaml.SafeDumper.yaml_implicit_resolvers)
_Loader.add_constructor(_INT, _Loader.construct_int)
_Loader.add_constructor(_FLOAT, _Loader.construct_float)
_Loader.add_constructor(_ODD_SPACE, _Loader.refuse_odd_space)


def read_yaml(text: str) -> Any:
    """Return what the YAML (or JSON) `text` says.

    Raises
    ------
    DoubleKeyError
        A key is given twice.
    ValueError
        It is not valid YAML; the message is one line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except DoubleKeyError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:  # dates and tags raise the latter two
        raise ValueError(_odd_space(text) or " ".join(str(error).split())) from None


def write_yaml(content: object, *, unicode: bool = True) -> str:
    """Return `content` as YAML that `read_yaml` reads as the same; `unicode` keeps accents."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=unicode)
    return text


def plain(value: object, name: str = "") -> Any:
    """Return `value` with numpy's scalars and arrays, paths and tuples in it made plain.

    They become numbers, texts and lists. Anything else is returned as it is, for the schema to
    judge.

    Raises
    ------
    ConfigError
        A mapping or list holds itself; `name` says where `value` stands.
    """
    return _plain(value, name, ())


def _plain(value: object, name: str, around: tuple[int, ...]) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if id(value) in around:
        raise ConfigError(f"'{name}' holds itself")
    inside = (*around, id(value))
    if isinstance(value, Mapping):
        return {
            key: _plain(item, f"{name}.{key}" if name else str(key), inside)
            for key, item in value.items()
        }
    return [_plain(item, f"{name}.{index}", inside) for index, item in enumerate(value)]
