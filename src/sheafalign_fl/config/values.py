"""The kinds of values that settings have, beside those of Python and pydantic."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from sheafalign_fl.config.mending import in_quotes


def _whole(value: object) -> object:
    """Let 1e5 of code and 100.0 of JSON be whole numbers, as JSON Schema has it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Int = Annotated[int, BeforeValidator(_whole)]
PositiveInt = Annotated[Int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def is_client_name(text: str) -> bool:
    """Return whether `text` can name a client.

    It has to name a file and a field of a message, and be a text of at most 99 bytes.
    """
    if (
        not text.isprintable()
        or text in {"relay", "evaluator", ".", ".."}
        or any(char in text for char in "/\\>")
    ):
        return False
    return 0 < len(text.encode(errors="replace")) < 100


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse options that do not survive JSON (dates, sets, NaN, keys that are no text).

    Every client gets them as JSON.
    """
    try:
        same = bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(
            "options must be plain text, numbers, true, false, null, "
            "lists and mappings with text keys"
        )
    return value


Options = Annotated[dict[str, Any], AfterValidator(_plain)]


def as_tuple(value: object) -> object:
    """Let YAML lists stand for tuples, which frozen settings need."""
    return tuple(as_tuple(item) for item in value) if isinstance(value, list) else value


def check_names(names: list[Any]) -> None:
    """Raise `ValueError`, as pydantic wants it, for the first of `names` that is no text."""
    if unnamed := [name for name in names if not isinstance(name, str)]:
        raise ValueError(
            f"a client's name is text, which {unnamed[0]!r} is not; write the modality's name, or "
            f"{in_quotes(unnamed[0])}"
        )
