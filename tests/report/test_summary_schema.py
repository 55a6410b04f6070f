"""The published schema of summary.json."""

import json
from pathlib import Path

from sheafalign_fl.report.summary_schema import summary_schema, write_summary_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "summary.schema.json"


def test_the_published_schema_is_that_of_the_code() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == summary_schema(), (
        "write it again: python -m sheafalign_fl.report.summary_schema docs/summary.schema.json"
    )


def test_written_schema_is_json(tmp_path: Path) -> None:
    write_summary_schema(tmp_path / "schema.json")
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))["title"] == "Summary"
