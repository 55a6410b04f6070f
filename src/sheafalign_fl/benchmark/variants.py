"""Variants of several methods by equal choices, and their factors one at a time.

In a benchmark file::

    variants:
      lean:
        of: [sheafalign, clip-pairs]        # methods of the file, whose tuning is taken over
        factors:                            # settings, all laid over the method together
          codec: {codec: int4}
          dimension: {dim: 16}              # d_e, or d where all share one space
          steps: {training: {local_steps: 2}}
        alone: [clip-pairs]                 # of these each factor alone too

makes the methods ``sheafalign-lean``, ``clip-pairs-lean`` and ``clip-pairs-lean-codec`` and so on.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sheafalign_fl.config.methods import METHODS, merge
from sheafalign_fl.errors import ConfigError

Entries = dict[str, dict[str, Any]]
DIM = "dim"
"""The key of a factor that stands for the dimension which is sent."""


class _Variant(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    of: tuple[str, ...] = Field(min_length=1)
    factors: dict[str, dict[str, Any]] = Field(min_length=1)
    alone: tuple[str, ...] = ()


def with_variants(
    where: str, base: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]], content: object
) -> tuple[Entries, dict[str, str]]:
    """Return the entries of `methods` and, after them, of all variants; and variant -> its method.

    Parameters
    ----------
    base
        The file's own settings, which tell whether a method's clients share one space.
    content
        What stands under ``variants`` in the file `where`.

    Raises
    ------
    ConfigError
        It describes no variants, or of methods that the file does not have; or a name is there
        already.
    """
    entries: Entries = {name: dict(entry) for name, entry in methods.items()}
    bases: dict[str, str] = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: variants must map each variant's name to what it is")
    for name, described in content.items():
        if described is False:
            continue
        variant = _checked(f"{where}: variants.{name}", described)
        for method in (*variant.of, *variant.alone):
            if method not in methods:
                raise ConfigError(f"{where}: variants.{name}: there is no method '{method}'")
        for made, method, own in _expanded(str(name), variant, base, methods):
            if made in entries:
                raise ConfigError(f"{where}: variants.{name}: '{made}' is a method already")
            entries[made], bases[made] = own, method
    return entries, bases


def prescribed(method: object) -> dict[str, Any]:
    """Return what a method of the literature prescribes; validation will refuse an unknown one."""
    return next((settings for name, settings in METHODS.items() if name == method), {})


def part_of(variant: str, factor: str) -> str:
    """Return how the variant is called that has one factor alone."""
    return f"{variant}: {factor}"


def _checked(where: str, described: object) -> _Variant:
    try:
        return _Variant.model_validate(described)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}.{key}: {first['msg']}") from None


def _expanded(
    name: str,
    variant: _Variant,
    base: Mapping[str, Any],
    methods: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for method in variant.of:
        whole: dict[str, Any] = {}
        for factor in variant.factors.values():
            whole = merge(whole, factor)
        yield f"{method}-{name}", method, _entry(name, method, whole, base, methods[method])
    for method in variant.alone:
        for key, factor in variant.factors.items():
            own = _entry(part_of(name, key), method, factor, base, methods[method])
            yield f"{method}-{name}-{key}", method, own


def _entry(
    variant: str,
    method: str,
    factor: Mapping[str, Any],
    base: Mapping[str, Any],
    entry: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the entry of `method` with `factor` laid over it, tuned as the method itself is."""
    settings = {key: value for key, value in factor.items() if key != DIM}
    kept = {key: value for key, value in entry.items() if key != "tune"}
    if DIM in factor:
        family = (
            merge(merge(base, prescribed(entry.get("method"))), entry).get("maps", {}).get("family")
        )
        sent = {DIM: factor[DIM]}
        settings = merge(
            settings, {"every_client": sent} if family == "identity" else {"graph": sent}
        )
    made = {"variant": variant, "tuned_as": entry.get("tuned_as") or method}
    return {**merge(kept, settings), **made}
