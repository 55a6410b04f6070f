"""The settings as documentation: their JSON Schema, and tables of every setting.

Both are made from the schema itself, so a new setting is in them without a line here.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sheafalign_fl.config.methods import METHODS
from sheafalign_fl.config.schema import Settings

_COLUMNS = ("setting", "type", "default", "meaning")


def settings_schema() -> str:
    """Return the JSON Schema of a configuration as text that ends in a newline, for editors."""
    schema = Settings.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def settings_tables() -> str:
    """Return Markdown with one table a section: every setting, its type, default and meaning."""
    schema = Settings.model_json_schema()
    definitions = schema["$defs"]
    whole = {name: field for name, field in schema["properties"].items() if not _section(field)}
    parts = [_table("The whole", schema.get("description", ""), whole)]
    for name, field in schema["properties"].items():
        if (section := _section(field)) is not None:
            found = definitions[section]
            title = f"`{name}`" if section != "ClientSettings" else f"`{name}.NAME`"
            parts.append(_table(title, found.get("description", ""), found["properties"]))
    return "\n".join(parts)


def _section(field: Mapping[str, Any]) -> str | None:
    """Return the definition that a field, or every value of a mapping, refers to."""
    reference = field.get("$ref") or (field.get("additionalProperties") or {}).get("$ref")
    return None if reference is None else str(reference).rpartition("/")[2]


def _table(title: str, about: str, fields: Mapping[str, Any]) -> str:
    lines = [f"## {title}", "", _one_line(about), ""] if about else [f"## {title}", ""]
    lines += ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    prescribed = METHODS["sheafalign"].get(title.strip("`"), {})
    for name, field in fields.items():
        default = json.dumps(field["default"]) if "default" in field else ""
        shown = f"`{default}`" if default and len(default) <= 60 else ""
        if name in prescribed:  # what holds where nothing is said, then the schema's own
            shown = f"`{json.dumps(prescribed[name])}`; other methods: {shown}"
        cells = (f"`{name}`", _type(field), shown, _one_line(field.get("description", "")))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    kind = {"number": "number", "integer": "whole number", "boolean": "true or false"}
    limits = " ".join(_limits(field))
    named = kind.get(field.get("type", ""), str(field.get("type", "section")))
    return f"{named} {limits}".strip()


def _limits(field: Mapping[str, Any]) -> Iterator[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    for name, sign in signs.items():
        if name in field:
            yield f"{sign} {field[name]:g}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
