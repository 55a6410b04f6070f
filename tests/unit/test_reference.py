"""The generated pages of the documentation say what the settings say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from experiments.reference import pages
from sheafalign_fl.config import Settings, parse_settings
from sheafalign_fl.config.reference import settings_schema, settings_tables


@pytest.mark.parametrize("name", ["settings.md", "settings.schema.json"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    """Whoever changes a setting runs `python -m experiments.reference`."""
    (path, text) = next((path, text) for path, text in pages().items() if path.name == name)
    assert path.read_text(encoding="utf-8") == text


def test_every_setting_has_a_row() -> None:
    tables = settings_tables()
    settings = parse_settings({"clients": ["a", "b"]})
    for name in Settings.model_fields:
        section = getattr(settings, name)
        for inner in getattr(type(section), "model_fields", {name: None}):
            assert f"| `{inner}` |" in tables or f"## `{inner}" in tables, inner


@given(st.integers(min_value=1, max_value=4000))
def test_the_schema_accepts_what_the_settings_accept(exchanges: int) -> None:
    schema = json.loads(settings_schema())
    kind = schema["$defs"]["TrainingSettings"]["properties"]["exchanges"]
    assert kind["ge"] <= exchanges < kind["lt"]
    TypeAdapter(Settings).validate_python(
        {"clients": ["a", "b"], "training": {"exchanges": exchanges}}
    )
