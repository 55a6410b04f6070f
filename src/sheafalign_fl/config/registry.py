"""One registry for every axis of extension: encoders, codecs, data sources, graphs, maps, ...

A setting names what it wants in one of three ways: by the name of something built in, by a dotted
path ``package.module:attribute`` to code of the user's own, or, in Python, by the class or callable
itself (`name_of` gives it a name). `Registry` is the one place that finds it, suggests a mend for a
misspelling, and asks the policy in force before anything is imported.
"""

import importlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from sheafalign_fl.config.mending import closest
from sheafalign_fl.config.policy import policy_in_force
from sheafalign_fl.errors import ConfigError

T = TypeVar("T")
_passed: dict[str, Any] = {}
"""Dotted path -> what was passed in code; only this process's own code can put something here."""


class Registry(MutableMapping[str, T], Generic[T]):
    """What one axis of extension offers: a mapping of built-in names, which finds others too."""

    def __init__(
        self,
        what: str,
        builtin: Mapping[str, T],
        adapt: Callable[[str, Any], T],
        *,
        also: Iterable[str] = (),
        family: Callable[[str], T | None] = lambda name: None,
    ) -> None:
        """Make a registry of things that messages call `what`.

        Parameters
        ----------
        builtin
            Name -> what is built in.
        adapt
            Makes an entry of (dotted path, what was found there); raises `TypeError` if it cannot.
        also
            Names beside the built-in ones that a setting may have, such as ``auto`` or ``top-16``.
        family
            Finds built-in entries with a parameter in their name, such as ``top-16``.
        """
        self.what, self._entries, self._adapt = what, dict(builtin), adapt
        self._also, self._family = tuple(also), family
        self._resolved: dict[str, T] = {}
        self._lock = threading.RLock()

    # ---- the built-in names ------------------------------------------------------------------

    def __getitem__(self, name: str) -> T:
        """Return the built-in entry called `name`."""
        return self._entries[name]

    def __setitem__(self, name: str, entry: T) -> None:
        """Add an entry under a plain name, in this process."""
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        """Take an entry away."""
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the built-in names."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Return how many names are built in."""
        return len(self._entries)

    # ---- finding -----------------------------------------------------------------------------

    def find(self, name: str, where: str | None = None) -> T:
        """Return what `name` means without importing anything, as for a name that a peer sent.

        That is what is built in, and what `resolve` has found before.

        Raises
        ------
        ConfigError
            There is no such thing; the message starts with `where` and suggests a mend.
        """
        if name in self._entries:
            return self._entries[name]
        if (known := self._resolved.get(name)) is not None:
            return known
        if (made := self._family(name)) is not None:
            return made
        raise self.unknown(name, where)

    def resolve(self, name: str, where: str | None = None) -> T:
        """Return what a setting's `name` means; a dotted path is imported if the policy allows it.

        Raises
        ------
        ConfigError
            There is no such thing, the policy in force does not allow it, or it is of a wrong kind.
        """
        if ":" not in name or name in self._entries:
            return self.find(name, where)
        place = where or self.what
        found = own_code(name, place)
        with self._lock:
            if name not in self._resolved:
                self._resolved[name] = self._adapted(name, found, place)
            return self._resolved[name]

    def unknown(self, name: str, where: str | None = None) -> ConfigError:
        """Return the error for a name that means nothing here, with a suggestion."""
        known = [*self._entries, *self._also]
        close = closest(name, known)
        listed = f"known: {', '.join(known)}, or package.module:attribute"
        mend = f"did you mean '{close}'?" if close else listed
        return ConfigError(f"{f'{where}: ' if where else ''}unknown {self.what} '{name}'; {mend}")

    def _adapted(self, path: str, found: Any, where: str) -> T:
        try:
            return self._adapt(path, found)
        except TypeError as error:
            raise ConfigError(f"{where}: '{path}' is no {self.what}: {error}") from None


@dataclass(frozen=True)
class Extension:
    """Marks a setting that names code: ``Annotated[str, Extension("encoder")]``.

    A class or callable that is passed in code becomes its name. A name that is neither in `known`,
    where that is given, nor a dotted path is refused at once, with a suggestion.
    """

    axis: str
    known: tuple[str, ...] = ()
    on_relay: bool = False
    """The relay runs it too."""

    def check(self, name: str) -> str:
        """Return `name` if it may mean something; else raise `ValueError`."""
        if self.known and name not in self.known and ":" not in name:
            close = closest(name, self.known)
            mend = f"did you mean '{close}'?" if close else f"known: {', '.join(self.known)}"
            raise ValueError(f"unknown {self.axis}; {mend}")
        return name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Return the schema of the marked text, for pydantic."""
        named = core_schema.no_info_before_validator_function(
            lambda given: name_of(given) if callable(given) else given, handler(source)
        )
        return core_schema.no_info_after_validator_function(self.check, named)


def name_of(thing: Callable[..., Any]) -> str:
    """Return the dotted path by which settings can name a class or callable passed in code.

    Where it can be imported by that path, other processes find it too; in this one it is found
    either way, so a class of a notebook works with the engine that runs in process.
    """
    plain = f"{thing.__module__}:{thing.__qualname__}".replace("<", "").replace(">", "")
    path, count = plain, 1
    while _passed.setdefault(path, thing) is not thing:  # a notebook's cell that ran again
        count += 1
        path = f"{plain}_{count}"
    return path


def own_code(path: str, where: str) -> Any:
    """Return the callable that a setting names by a dotted path, if the policy in force allows it.

    Raises
    ------
    ConfigError
        It is not allowed, in which case nothing has been imported, or `load_attribute` refuses it.
    """
    policy = policy_in_force()
    policy.check_code(path, where)
    return load_attribute(path, where, here=policy.own_machine)


def load_attribute(path: str, where: str, *, here: bool = False) -> Any:
    """Return the callable at ``package.module:attribute``, imported or passed in code.

    Parameters
    ----------
    here
        Look in the current folder first, as ``python -m`` does. Only for what this machine's own
        user named.

    Raises
    ------
    ConfigError
        The path has no ``:``, or the module cannot be imported or lacks the callable; the message
        starts with `where`.
    """
    if path in _passed:
        return _passed[path]
    module_name, separator, attribute = path.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(f"{where}: '{path}' is no dotted path; write package.module:attribute")
    if here and (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # an import runs the user's code, which may raise anything
        raise ConfigError(f"{where}: '{module_name}' cannot be imported: {error}") from None
    if not callable(found := getattr(module, attribute, None)):
        raise ConfigError(f"{where}: '{module_name}' has no callable '{attribute}'")
    return found
