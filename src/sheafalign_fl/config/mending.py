"""What is wrong with a setting, in one line that says how to mend it."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_LONGEST_SHOWN = 60
_ALIASES: Mapping[str, str] = {
    "fp64": "float64", "f64": "float64", "double": "float64",
    "fp32": "float32", "f32": "float32", "float": "float32", "single": "float32",
    "fp16": "float16", "f16": "float16", "half": "float16",
    "bf16": "bfloat16",
    "8bit": "int8", "q8": "int8", "uint8": "int8", "4bit": "int4", "q4": "int4", "uint4": "int4",
    "1bit": "sign", "binary": "sign", "signsgd": "sign",
    "topk": "top-16",
    "full": "complete", "fullyconnected": "complete", "mesh": "complete", "alltoall": "complete",
    "circle": "ring", "cycle": "ring", "hub": "star", "chain": "path", "line": "path",
    "erdosrenyi": "random", "wattsstrogatz": "small-world",
    "recall": "retrieval", "zeroshot": "transfer", "linearprobe": "probe",
    "ray": "flower", "simulation": "flower", "local": "inprocess", "joint": "pooled",
    "centralised": "pooled", "centralized": "pooled", "remote": "deployed",
    "clip": "clip-pairs", "audioclip": "clip-pairs", "compressedvfl": "c-vfl", "sfrl": "sheaf-frl",
    "gpu": "cuda", "val": "validation", "valid": "validation",
    "lr": "learning_rate", "rounds": "exchanges", "steps": "exchanges",
    "bs": "batch_size", "tau": "temperature", "optimizer": "optimiser", "dims": "dim",
    "normalized_laplacian": "normalised_laplacian", "center": "centre", "neighbors": "neighbours",
}  # fmt: skip
"""What the same thing is called elsewhere -> its name here."""


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return which of `known` is meant by `name`, a synonym or a misspelling; None if neither.

    >>> closest("fp16", ["float16", "top-16"])
    'float16'
    """
    choices = list(known)
    form = name.lower()
    for spelling in (form, form.replace("-", "").replace("_", "").replace(" ", "")):
        if (meant := _ALIASES.get(spelling)) in choices:
            return meant
    by_form = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(form, by_form, n=1, cutoff=cutoff)
    return by_form[close[0]] if close else None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first problem of `error`, and how many more there are."""
    details = error.errors()
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{_explain(details[0], model)}{more}"


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    location = [str(part) for part in detail["loc"] if part != "__root__"]
    name, given = ".".join(location), detail.get("input")
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{name}'{_suggestion(location, model)}"
    if detail["type"] == "missing":
        return f"'{name}' is missing"
    if detail["type"] == "literal_error":
        return f"'{name}': {_literal(detail, given)}"
    if (mend := _MENDS.get(detail["type"])) is not None:
        return f"'{name}': {mend(given)}"
    message = detail["msg"].removeprefix("Value error, ")
    unfit = isinstance(given, dict | list | tuple | BaseModel) or given is None
    shown = "" if unfit else f" (given: {given!r})"
    return f"'{name}': {message[0].lower()}{message[1:]}{shown}" if name else message


def _shown(given: object) -> str:
    """Return `given` as it would be written in YAML, cut short."""
    if given is None or isinstance(given, bool):
        return {None: "nothing", True: "true", False: "false"}[given]
    text = repr(given)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _must_be(what: str, example: Callable[[object], str]) -> Callable[[object], str]:
    return lambda given: f"must be {what}, not {_shown(given)}{example(given)}"


def _as_list(given: object) -> str:
    return f"; write [{given}]" if isinstance(given, str | int | float) else ""


def in_quotes(given: object) -> str:
    """Say how to write what YAML took for something else than the text that it is.

    Of yes and no, and of 1.10, the spelling is lost: what is left of it would be another name.
    """
    if isinstance(given, bool):
        return "put it in quotes: YAML takes yes, no, on and off for true and false"
    if isinstance(given, float):
        return "put it in quotes, as you wrote it"
    return f"put it in quotes: '{given}'"


def _as_text(given: object) -> str:
    single = given is not None and not isinstance(given, dict | list | tuple)
    return f"; {in_quotes(given)}" if single else ""


def _unquoted(given: object) -> str:
    try:
        float(str(given))
    except ValueError:
        return ""
    return f"; write it without quotes: {given}" if isinstance(given, str) else ""


_MAPPING = _must_be("a mapping of settings, such as {key: value}", lambda given: "")
_MENDS: Mapping[str, Callable[[object], str]] = {
    "tuple_type": _must_be("a list", _as_list),
    "list_type": _must_be("a list", _as_list),
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "int_type": _must_be("a whole number", _unquoted),
    "int_from_float": _must_be("a whole number", _unquoted),
    "float_type": _must_be("a number", _unquoted),
    "bool_type": _must_be("true or false", lambda given: ""),
    "string_type": _must_be("text", _as_text),
}
"""Kind of pydantic's error -> what to say of what was given, in words that are not a type's
name."""


def _literal(detail: ErrorDetails, given: object) -> str:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    known = [part.strip("' ") for part in expected.replace(" or ", ", ").split(",")]
    meant = closest(given, known, 0.5) if isinstance(given, str) else None
    hint = f"; did you mean '{meant}'?" if meant else ""
    return f"must be {expected}, not {_shown(given)}{hint}"


def _suggestion(location: list[str], model: type[BaseModel]) -> str:
    known = _known_keys(model, location[:-1])
    if (meant := closest(location[-1], known, 0.5)) is not None:
        return f"; did you mean '{meant}'?"
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
