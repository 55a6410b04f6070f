"""The JSON Schema of `summary.json`, for those who read it with other programs.

``python -m sheafalign_fl.report.summary_schema docs/summary.schema.json`` writes it.
"""

import json
import sys
from pathlib import Path

from sheafalign_fl.files import write_atomically
from sheafalign_fl.runs.summary import Summary


def summary_schema() -> str:
    """Return the JSON Schema of `sheafalign_fl.runs.summary.Summary`, text with a final newline."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Summary.model_json_schema(mode="serialization"),
    }
    return json.dumps(schema, indent=2) + "\n"


def write_summary_schema(path: Path) -> None:
    """Write the JSON Schema to `path`, atomically."""
    write_atomically(path, summary_schema().encode(), public=True)


if __name__ == "__main__":
    write_summary_schema(Path(sys.argv[1]))
