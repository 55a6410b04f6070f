"""Write the generated pages of the documentation anew: ``python -m experiments.reference``.

docs/settings.md and docs/settings.schema.json follow from the settings; a test compares them.
"""

from pathlib import Path

from sheafalign_fl.config.reference import settings_schema, settings_tables
from sheafalign_fl.files import write_atomically

DOCS = Path(__file__).resolve().parents[1] / "docs"
_HEAD = """# Every setting

Generated from the settings' own schema by `python -m experiments.reference`. For completion in an
editor, point its YAML support at [settings.schema.json](settings.schema.json): with the language
server of YAML, begin a file with `# yaml-language-server: $schema=docs/settings.schema.json`.

"""


def pages() -> dict[Path, str]:
    """Return every generated page and what it should say."""
    return {
        DOCS / "settings.md": _HEAD + settings_tables(),
        DOCS / "settings.schema.json": settings_schema(),
    }


def main() -> None:
    """Write them."""
    for path, text in pages().items():
        write_atomically(path, text.encode(), public=True)


if __name__ == "__main__":
    main()
