"""The program that measures the code, on code whose size is known; what the pages say of it."""

import re
import textwrap
from pathlib import Path

from experiments.structure import Size, by_room, modules, own_lines

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = {
    "__init__.py": "",
    "loose.py": "import sheafalign_fl.low.one\n",
    "low/__init__.py": "",
    "low/one.py": "def f():\n    return 1\n",
    "high/__init__.py": "",
    "high/two.py": """\
        from sheafalign_fl import low


        @decorator
        class C:
            def g(self):
                from sheafalign_fl.low.one import f

                def inner():
                    return f()

                return inner
        """,
}


def test_rooms_are_measured_as_they_are(tmp_path: Path) -> None:
    for name, text in LIBRARY.items():
        path = tmp_path / "src/sheafalign_fl" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients/app.py").write_text(
        "from sheafalign_fl.high.two import C\nimport torch\n\n\nasync def run():\n    pass\n",
        encoding="utf-8",
    )
    found = modules(tmp_path)
    rooms = {module.room: module for module in found if module.lines}
    assert {room: module.imports for room, module in rooms.items()} == {
        ".": {"low"},
        "low": set(),
        "high": {"low"},
        "clients": {"high"},
    }
    assert sorted(rooms["high"].functions) == [2, 7]
    assert rooms["clients"].functions == (2,)
    size = Size.of(found)
    assert (size.files, size.functions, size.longest) == (7, 4, 7)
    assert size.lines == sum(len(textwrap.dedent(t).splitlines()) for t in LIBRARY.values()) + 6
    assert "| `high` | 2 | 12 | 4, 7, 7 | low |" in by_room(found)


def test_the_lines_of_an_addition_are_those_in_the_documentation() -> None:
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    said = {row[0]: int(row[4]) for row in rows if len(row) == 5 and row[4].isdigit()}
    assert said == own_lines(ROOT)
    assert said.keys() >= {"encoder", "codec", "graph", "metric", "term of the objective"}


def test_the_architecture_names_every_room_in_its_table_of_sizes() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z.]+)` \| [\d,]+ \| [\d,]+ \|", text, re.MULTILINE)
    assert sorted(rows) == sorted({module.room for module in modules(ROOT)})
