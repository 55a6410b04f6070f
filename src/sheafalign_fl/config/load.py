"""From YAML, overrides and encoded strings to `Settings`, with errors that a person can act on."""

import base64
import codecs
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sheafalign_fl.config.mending import explain
from sheafalign_fl.config.reading import DoubleKeyError, plain, read_yaml, write_yaml
from sheafalign_fl.config.schema import Settings
from sheafalign_fl.errors import ConfigError
from sheafalign_fl.inflation import inflate

_ENCODED_PREFIX = "sheafalign:"
_MOST_BYTES = 2**22
"""Of a configuration that is sent, uncompressed."""


def load_settings(path: Path, overrides: Iterable[str] = ()) -> Settings:
    """Read the YAML file at `path`, apply ``section.key=value`` overrides, validate.

    Relative paths (``data.path``, ``features`` of a client, ``init_from``) are taken from the
    file's folder and made absolute.

    Raises
    ------
    ConfigError
        The file cannot be read or is no YAML mapping, or a setting is unknown, of the wrong type or
        out of range.
    """
    return parse_settings(read_content(path, overrides), where=str(path))


def read_content(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return what the YAML file at `path` says, overridden, with absolute paths, not yet validated.

    Raises
    ------
    ConfigError
        The file cannot be read or is no YAML mapping, or an override is malformed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"no configuration at {path}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text{_other_encoding(error.object)}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not text.strip():
        raise ConfigError(f"{path} is empty; it must hold a mapping of settings")
    try:
        content = read_yaml(text)
    except (DoubleKeyError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not {type(content).__name__}")
    for override in overrides:
        _apply_override(content, override)
    make_paths_absolute(content, path.resolve().parent)
    return content


def _other_encoding(data: bytes) -> str:
    """Say what a text that is not UTF-8 seems to be, and what to do."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ", but UTF-16, as PowerShell's > writes it; save it as UTF-8"
    return "; save it as UTF-8 in your editor"


def parse_assignments(overrides: Iterable[str]) -> dict[str, Any]:
    """Return what ``key=value`` texts say, values as YAML; raise `ConfigError` if malformed."""
    content: dict[str, Any] = {}
    for override in overrides:
        _apply_override(content, override)
    return content


def load_resolved(path: Path) -> Settings:
    """Read settings that `to_yaml` wrote, maybe an earlier version's: methods add nothing to them.

    Raises
    ------
    ConfigError
        As `load_settings`.
    """
    return parse_settings(read_content(path), where=str(path), resolved=True)


def parse_settings(
    content: Mapping[str, Any], where: str = "configuration", *, resolved: bool = False
) -> Settings:
    """Validate a mapping; raise a `ConfigError` of one line that names the setting and a mend.

    `resolved`: all that its method prescribes is there already.
    """
    _check_texts(content, where)
    try:
        return Settings.model_validate(plain(dict(content)), context={"resolved": resolved})
    except ValidationError as error:
        problem = explain(error, Settings)
    except ConfigError as error:
        problem = str(error)
    raise ConfigError(" ".join(f"{where}: {problem}".split()))


def to_yaml(settings: Settings) -> str:
    """Return `settings` as YAML with every default written out; loading it gives equal settings."""
    content = settings.model_dump(mode="json")
    # PyYAML writes the line break U+0085 as it is but reads it as another one; escaped it survives.
    readable = "\x85" not in json.dumps(content, ensure_ascii=False)
    return write_yaml(content, unicode=readable)


def encode(settings: Settings) -> str:
    """Return `settings` as one URL-safe string, as Flower's flat run configuration needs it."""
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
    return parse_settings(content, resolved=True)


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
        value = read_yaml(text)
    except DoubleKeyError as error:
        raise ConfigError(f"--set {override}: the key '{error.key}' is given twice") from None
    except ValueError:
        raise ConfigError(f"--set {override}: '{text}' is not a YAML value") from None
    *parents, last = key.split(".")
    section: Any = content
    for parent in parents:
        section = _section_in(section, parent, override)
    section[_place_in(section, last, override)] = value


def _section_in(section: Any, name: str, override: str) -> Any:
    """Return the section or list called `name` in `section`, made if it is not there yet."""
    place = _place_in(section, name, override)
    if isinstance(section, list):
        inner = section[place]
    elif (inner := section.get(name)) is None:
        inner = section[name] = {}
    if name == "clients" and isinstance(inner, list) and all(isinstance(i, str) for i in inner):
        inner = section[name] = {client: {} for client in inner}
    if not isinstance(inner, dict | list):
        raise ConfigError(f"--set {override}: '{name}' is a value, not a section")
    return inner


def _place_in(section: Any, name: str, override: str) -> Any:
    """Return what `name` is in `section`: its own key, or an index of a list."""
    if not isinstance(section, list):
        return name
    if not name.isdecimal() or int(name) >= len(section):
        raise ConfigError(
            f"--set {override}: '{name}' is no item of a list of {len(section)}, counted from 0"
        )
    return int(name)


def make_paths_absolute(content: dict[str, Any], base: Path) -> None:
    """Make the paths in `content` absolute, taken from the folder `base`."""
    if "/" in str(content.get("init_from")):  # without one it is the name of a run
        _make_absolute(content, "init_from", "the whole", base)
    data = content.get("data")
    if isinstance(data, dict):
        _make_absolute(data, "path", "data", base)
        if isinstance(options := data.get("options"), dict):
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
    """Refuse half a surrogate pair, which YAML and JSON can spell.

    No file, message or error could hold the text.
    """
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
