"""From YAML, overrides and encoded strings to `Settings`, with errors that a person can act on."""

import base64
import difflib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sheafalign_fl.config.schema import Settings
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.inflation import inflate

_ENCODED_PREFIX = "sheafalign:"
_MOST_BYTES = 2**22
"""Of a configuration that is sent, uncompressed."""


class _DoubleKeyError(yaml.constructor.ConstructorError):
    def __init__(self, key: object, line: int) -> None:
        super().__init__(problem=f"the key '{key}' is given twice (line {line})")
        self.key = key


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key that is given twice is an error instead of silently the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise _DoubleKeyError(key, key_node.start_mark.line + 1)
            if isinstance(key, str | int | float | bool):
                seen.add(key)
        return super().construct_mapping(node, deep)


def load_settings(path: Path, overrides: Iterable[str] = ()) -> Settings:
    """Read the YAML file at `path`, apply ``section.key=value`` overrides, validate.

    Relative paths (``data.options.path``, ``features`` of a client) are taken from the file's folder and made absolute.

    Raises
    ------
    ConfigError
        The file cannot be read or is no YAML mapping, or a setting is unknown, of the wrong type or out of range.
    """
    return parse_settings(read_content(path, overrides), where=str(path))


def read_content(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return what the YAML file at `path` says, with overrides applied and its paths absolute, not yet validated.

    Raises
    ------
    ConfigError
        The file cannot be read or is no YAML mapping, or an override is malformed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no configuration at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
    ) as error:  # PyYAML lets through what dates and tags raise
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not {type(content).__name__}")
    for override in overrides:
        _apply_override(content, override)
    _make_paths_absolute(content, path.resolve().parent)
    return content


def parse_assignments(overrides: Iterable[str]) -> dict[str, Any]:
    """Return what ``key=value`` texts say, values as YAML; raise `ConfigError` where one is malformed."""
    content: dict[str, Any] = {}
    for override in overrides:
        _apply_override(content, override)
    return content


def parse_settings(content: Mapping[str, Any], where: str = "configuration") -> Settings:
    """Validate a mapping; raise `ConfigError` with one line that names the setting and suggests a mend."""
    _check_texts(content, where)
    try:
        return Settings.model_validate(dict(content))
    except ValidationError as error:
        problems = [_explain(detail) for detail in error.errors()]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigError(" ".join(f"{where}: {problems[0]}{more}".split())) from None


def to_yaml(settings: Settings) -> str:
    """Return `settings` as YAML with every default written out; loading it gives equal settings."""
    content = settings.model_dump(mode="json")
    # PyYAML writes the line break U+0085 as it is but reads it as another one; escaped it survives.
    readable = "\x85" not in json.dumps(content, ensure_ascii=False)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=readable)


def encode(settings: Settings) -> str:
    """Return `settings` as one string of URL-safe characters, as Flower's flat run configuration needs it."""
    raw = json.dumps(settings.model_dump(mode="json")).encode()
    return _ENCODED_PREFIX + base64.urlsafe_b64encode(zlib.compress(raw, 9)).decode()


def decode(text: str, base: Path | None = None) -> Settings:
    """Return the settings that `encode` made `text` from.

    Parameters
    ----------
    text
        An encoded configuration; with `base` it may also be a path.
    base
        Folder of the app, in a simulation on one's own machine: the path is taken from there, and
        leads nowhere else. Without it no file is opened, whatever `text` says.

    Raises
    ------
    ConfigError
        It is no configuration, is too large, or names a file that it may not name.
    """
    if not text.startswith(_ENCODED_PREFIX):
        return load_settings(_inside(base, text))
    try:
        raw = base64.urlsafe_b64decode(text.removeprefix(_ENCODED_PREFIX))
        content = json.loads(inflate(raw, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the encoded configuration is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError("the encoded configuration holds no mapping of settings")
    return parse_settings(content)


def _inside(base: Path | None, text: str) -> Path:
    if base is None:
        raise ConfigError(
            "a configuration that came over the wire names a file; it must be encoded"
        )
    path = (base / text).resolve()
    if not path.is_relative_to(base.resolve()):
        raise ConfigError(f"config: '{text}' does not lie in the app's folder {base}")
    return path


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"--set {override}: write it as section.key=value, such as training.exchanges=50"
        )
    try:
        value = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except _DoubleKeyError as error:
        raise ConfigError(f"--set {override}: the key '{error.key}' is given twice") from None
    except (yaml.YAMLError, ValueError, TypeError):
        raise ConfigError(f"--set {override}: '{text}' is not a YAML value") from None
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        if section.get(parent) is None:
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise ConfigError(f"--set {override}: '{parent}' is a value, not a section")
    section[last] = value


def _make_paths_absolute(content: dict[str, Any], base: Path) -> None:
    data = content.get("data")
    options = data.get("options") if isinstance(data, dict) else None
    if isinstance(options, dict):
        _make_absolute(options, "path", "data.options", base)
    clients = content.get("clients")
    for name, client in clients.items() if isinstance(clients, dict) else ():
        if isinstance(client, dict):
            _make_absolute(client, "features", f"clients.{name}", base)


def _make_absolute(section: dict[str, Any], key: str, where: str, base: Path) -> None:
    if isinstance(section.get(key), str):
        try:
            section[key] = str((base / Path(section[key]).expanduser()).resolve())
        except (RuntimeError, OSError, ValueError) as error:
            raise ConfigError(f"{where}.{key}: {section[key]!r} is no path here: {error}") from None


def _check_texts(content: Mapping[str, Any], where: str) -> None:
    """Refuse half a surrogate pair, which YAML and JSON can spell: no file, message or error could hold the text."""
    pending: list[tuple[str, object]] = [("", content)]
    seen: set[int] = set()  # YAML's aliases can make a mapping or list hold itself
    while pending:
        name, value = pending.pop()
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            place = f"'{name}': " if name else ""
            reason = f"{place}{value!a} is no Unicode text: it holds half of a surrogate pair"
            raise ConfigError(" ".join(f"{where}: {reason}".split()))
        if isinstance(value, Mapping | list) and id(value) not in seen:
            seen.add(id(value))
            for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
                # Taken from the end: the key is checked before anything is named by it.
                pending += [(f"{name}.{key}" if name else str(key), item), (name, key)]


def _explain(detail: ErrorDetails) -> str:
    location = [str(part) for part in detail["loc"] if part != "__root__"]
    name = ".".join(location)
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{name}'{_suggestion(location)}"
    if detail["type"] == "missing":
        return f"'{name}' is missing"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    shown = (
        ""
        if isinstance(given, dict | list | tuple | BaseModel) or given is None
        else f" (given: {given!r})"
    )
    return f"'{name}': {message[0].lower()}{message[1:]}{shown}" if name else message


def _suggestion(location: list[str]) -> str:
    known = _known_keys(Settings, location[:-1])
    close = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known here: {', '.join(known)}" if known else ""


def _known_keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """Walk from `model` along `location` to the model there and return its field names."""
    for part in location:
        if part.isdigit():
            continue
        inner = (
            _model_in(model.model_fields[part].annotation) if part in model.model_fields else model
        )
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := _model_in(argument)) is not None:
            return found
    return None
