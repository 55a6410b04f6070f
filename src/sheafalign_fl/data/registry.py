"""Finding a data source by name or dotted path, checking options, and sharing what was loaded."""

import hashlib
import inspect
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sheafalign_fl.config.mending import closest
from sheafalign_fl.config.registry import Registry
from sheafalign_fl.data import (
    deepsense6g,
    fashion,
    folder,
    mmfi,
    multifeature,
    physiology,
    scenes,
    utd_mhad,
    watch,
)
from sheafalign_fl.data.base import DataSource, ModalityData, check_modality
from sheafalign_fl.data.description import SourceInfo
from sheafalign_fl.errors import ConfigError, DataError, SheafAlignError
from sheafalign_fl.listing import is_foreign


@dataclass(frozen=True)
class _Source:
    """A data source; only a built-in one describes itself."""

    load: DataSource
    info: SourceInfo | None = None


SOURCES: Registry[_Source] = Registry(
    "data source",
    {
        module.INFO.name: _Source(module.load, module.INFO)
        for module in (
            scenes,
            fashion,
            multifeature,
            watch,
            physiology,
            deepsense6g,
            mmfi,
            utd_mhad,
            folder,
        )
    },
    lambda path, factory: _Source(factory),
)
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "mapping": (dict,),
    "str or mapping": (str, dict),
}
_CACHED = 32
_cache: "OrderedDict[str, ModalityData]" = OrderedDict()
_lock = threading.RLock()
"""Reentrant, because a source of the user's own may load a built-in one."""


def sources() -> dict[str, SourceInfo]:
    """Return the built-in sources by name."""
    return {name: source.info for name, source in SOURCES.items() if source.info is not None}


def source_info(name: str) -> SourceInfo:
    """Return a built-in source's description; raise `ConfigError` with a suggestion if unknown."""
    if name not in (described := sources()):
        raise SOURCES.unknown(name)
    return described[name]


def load_modality(
    source: str, modality: str, seed: int, options: Mapping[str, Any], where: str
) -> ModalityData:
    """Load and check one modality; clients that have it share its arrays, which are read-only.

    Parameters
    ----------
    source
        A built-in name, or ``package.module:factory``.
    options
        Given to the source; what a built-in source is not given has its default.
    where
        Who asks, for error messages.

    Raises
    ------
    ConfigError
        The source, the modality or an option is unknown, or an option has the wrong type.
    DataError
        The data cannot be had or is malformed.
    """
    stamp = hashlib.sha256(repr(_stamp(options)).encode(errors="surrogateescape")).hexdigest()
    key = _canonical([source, modality, seed, dict(options), stamp])
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
        data = _shared(check_modality(_load(source, modality, seed, options, where), where))
        _cache[key] = data
        while len(_cache) > _CACHED:
            _cache.popitem(last=False)
        return data


def _load(
    source: str, modality: str, seed: int, options: Mapping[str, Any], where: str
) -> ModalityData:
    found = SOURCES.resolve(source, "data.source")
    if found.info is None:
        return _call(found.load, source, modality, seed, options, where)
    known = _known_modality(modality, found.info, where)
    return found.load(known, seed, **complete_options(options, found.info))


def _call(
    factory: DataSource,
    source: str,
    modality: str,
    seed: int,
    options: Mapping[str, Any],
    where: str,
) -> ModalityData:
    """Call the user's own factory; whatever it raises becomes one clear line."""
    try:
        inspect.signature(factory).bind(modality, seed, **options)
    except TypeError as error:
        raise ConfigError(
            f"data.source: '{source}' cannot be called with these options: {error}"
        ) from None
    except ValueError:  # a factory written in C may have no signature to check
        pass
    try:
        data = factory(modality, seed, **options)
    except SheafAlignError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise DataError(
            f"{where}: '{source}' failed: {type(error).__name__}: {_one_line(error)}"
        ) from error
    if not isinstance(data, ModalityData):
        raise ConfigError(
            f"data.source: '{source}' returned {type(data).__name__}, not a ModalityData"
        )
    return data


def _shared(data: ModalityData) -> ModalityData:
    """Return the data in the dtypes that clients rely on, as views that cannot be written to."""
    return replace(
        data,
        x=_frozen(data.x, np.float32),
        event_ids=_frozen(
            data.event_ids, np.int64 if data.event_ids.dtype.kind in "iu" else data.event_ids.dtype
        ),
        split=_frozen(data.split, np.uint8),
        labels={
            name: _frozen(values, np.float64 if values.dtype.kind == "f" else np.int64)
            for name, values in data.labels.items()
        },
    )


def _frozen(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    # A view, so that an array that the user's own source keeps stays writeable for that source.
    view = array.astype(dtype, copy=False).view()
    view.flags.writeable = False
    return view


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _canonical(key: list[Any]) -> str:
    try:
        return json.dumps(key, sort_keys=True, default=repr)
    except TypeError:  # keys of two types cannot be sorted; their own order will do
        return repr(key)


def _known_modality(modality: str, info: SourceInfo, where: str) -> str:
    known = [item.name for item in info.modalities]
    if known and modality not in known:
        raise ConfigError(
            f"{where}: the source '{info.name}' has no modality '{modality}'; "
            f"{_suggest(modality, known)}"
        )
    return modality


def complete_options(options: Mapping[str, Any], info: SourceInfo) -> dict[str, Any]:
    """Return the options of a source with defaults for those that are not given.

    Raises
    ------
    ConfigError
        An option is unknown or has the wrong type.
    """
    known = {option.name: option for option in info.options}
    chosen = {name: option.default for name, option in known.items()} | dict(options)
    for name, value in options.items():
        if name == "path" and name not in known:
            raise ConfigError(
                f"data.path: the source '{info.name}' reads no folder of yours; leave out "
                "data.path and --data"
            )
        if name not in known:
            raise ConfigError(
                f"data.options: '{info.name}' has no option '{name}'; {_suggest(name, list(known))}"
            )
        kinds = _KINDS[known[name].kind]
        if isinstance(value, float) and value.is_integer() and float not in kinds:
            value = chosen[name] = int(value)  # noqa: PLW2901 - 1e3 of code is a whole number
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigError(f"data.options.{name}: must be {known[name].kind}, not {value!r}")
    return chosen


def _stamp(options: Mapping[str, Any]) -> list[tuple[str, int, int, int]]:
    """Return what changes when a file in or below the user's folder changes."""
    found: list[tuple[str, int, int, int]] = []
    pending = [str(options["path"])] if options.get("path") is not None else []
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if is_foreign(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        status = entry.stat()
                        found.append(
                            (entry.path, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
                        )
        except OSError:  # what is wrong with the folder is said by its source
            continue
    return sorted(found)


def _suggest(name: str, known: list[str]) -> str:
    close = closest(name, known)
    return f"did you mean '{close}'?" if close else f"known: {', '.join(known)}"


__all__ = ["complete_options", "load_modality", "source_info", "sources"]
