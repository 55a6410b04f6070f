"""What a configuration may ask of the machine that it comes to: a node's, a relay's, one's own.

A configuration on one's own machine is as trusted as the command line that names it (`LOCAL`). One
that came over the wire is data: it chooses among what is built in, names no file, and stays within
the limits of the machine's owner (`STRICT`, or a policy file).

The policy in force is a context variable, set by the two Flower apps for the time of one message
or one run. So two clients in one process can have two policies, and no layer in between carries
a parameter that it does not use. Outside the apps `LOCAL` is in force.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sheafalign_fl.errors import ConfigError

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0)]
DottedPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Limits(_Strict):
    """The most that a configuration from elsewhere may ask, each checked before memory is taken."""

    clients: Count = 1000
    exchanges: Count = 1_000_000
    steps: Count = 10_000_000
    """Optimiser steps of a whole run: exchanges x (batches x local steps + replay)."""
    batch_events: Count = 65_536
    """Events of one exchange: batches x batch size."""
    replay_events: Count = 1_000_000
    """Events of all batches that replay remembers: replay_batches x batch size."""
    events: Count = 1_000_000
    """Any whole number among the options of the data source, and the events of an evaluation."""
    dim: Count = 4096
    """d_i and d_e."""
    option: Count = 4096
    """Any number among an encoder's options: widths, depths, kernel sizes."""
    parameters: Count = 100_000_000
    """Of one built-in encoder."""
    learning_rate: Amount = 1.0
    weight: Amount = 1000.0
    """Of a term of the objective, and the decay of weights."""
    temperature: Amount = 0.001
    """The smallest tau."""
    threads: Count = 64
    checkpoints: Count = 100
    """Kept at a time."""


class Policy(_Strict):
    """What a configuration may ask of this machine.

    A policy file is a YAML mapping of `allow` and `limits`::

        allow: ["my_package.encoders:build"]
        limits: {exchanges: 2000, learning_rate: 0.01}
    """

    allow: Annotated[tuple[DottedPath, ...], BeforeValidator(_tuple)] = ()
    """Dotted paths that a configuration may name beside what is built in."""
    limits: Limits = Limits()
    own_machine: bool = Field(default=False, exclude=True)
    """The configuration is this machine's own: any code, any path, no limits."""

    @classmethod
    def load(cls, path: Path, allow: tuple[str, ...] = ()) -> Self:
        """Return the policy that a file states, with `allow` beside its own list.

        Raises
        ------
        ConfigError
            The file cannot be read or says something that no policy has.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(
                f"the policy {path} cannot be read: {' '.join(str(error).split())}"
            ) from None
        if not isinstance(content := content or {}, dict):
            raise ConfigError(f"the policy {path} must hold a mapping of allow and limits")
        named = content.get("allow") or []
        if isinstance(named, list):
            content = {**content, "allow": [*named, *allow]}
        return cls.of(content, f"the policy {path}")

    @classmethod
    def of(cls, content: object, where: str) -> Self:
        """Return a mapping's policy; raise `ConfigError` in one line that begins with `where`."""
        if isinstance(content, dict) and "own_machine" in content:
            raise ConfigError(f"{where}: 'own_machine' cannot be set")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{where}: '{name}': {first['msg'].lower()}") from None

    def to_text(self) -> str:
        """Return the policy as one word, for Flower's node configuration and the environment."""
        return base64.urlsafe_b64encode(self.model_dump_json().encode()).decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the policy that `to_text` made `text` from."""
        return cls.model_validate_json(base64.urlsafe_b64decode(text))

    def check_code(self, path: str, where: str) -> None:
        """Raise `ConfigError` unless a configuration may name the dotted `path` here.

        Nothing is imported to find that out.
        """
        if not self.own_machine and path not in self.allow:
            raise ConfigError(
                f"{where}: '{path}' is not among the code that this machine allows a configuration "
                f"to name; its owner can start it with --allow {path}, "
                "or name it in its policy file"
            )


LOCAL = Policy(own_machine=True)
"""For configurations of one's own, on one's own machine."""
STRICT = Policy()
"""For configurations that came over the wire, where the machine's owner has said nothing else."""

_in_force: ContextVar[Policy] = ContextVar("policy", default=LOCAL)


def policy_in_force() -> Policy:
    """Return the policy that holds for what this thread does now."""
    return _in_force.get()


@contextmanager
def under(policy: Policy) -> Iterator[None]:
    """Let `policy` be in force inside the block, in this thread."""
    token = _in_force.set(policy)
    try:
        yield
    finally:
        _in_force.reset(token)
